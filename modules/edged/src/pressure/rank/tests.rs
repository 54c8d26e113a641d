//! Tests of the order and the sentences.

use proptest::prelude::*;
use serde_json::json;

use super::super::threshold::{Reading, Signal};
use super::*;
use crate::config::Kept;

fn pod(name: &str, priority: i32, memory: &str) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [
        {"name": "c", "resources": {"requests": {"memory": memory, "ephemeral-storage": memory}}}]}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn candidate(name: &str, priority: i32, asked: &str, used: u64) -> Candidate {
    let space = Space { bytes: used, inodes: used };
    let container =
        Used { name: "c".to_owned(), memory: used, layer: space, logs: Space::default() };
    let usage = Usage { containers: vec![container], pids: used, ..Usage::default() };
    Candidate { pod: pod(name, priority, asked), usage: Some(usage) }
}

fn order(mut all: Vec<Candidate>, resource: Resource) -> Vec<String> {
    rank(&mut all, resource, Parts::All);
    all.iter().map(|it| it.pod.metadata.name.clone()).collect()
}

#[test]
fn who_uses_more_than_it_asked_for_goes_first_then_the_least_important_then_the_greediest() {
    let all = || {
        vec![
            candidate("within", 0, "100", 99),
            candidate("important", 9, "1", 500),
            candidate("little", 1, "1", 10),
            candidate("much", 1, "1", 20),
            Candidate { usage: None, ..candidate("unknown", 99, "1", 0) },
        ]
    };
    let expected = ["unknown", "much", "little", "important", "within"];
    assert_eq!(order(all(), Resource::Memory), expected);
    assert_eq!(order(all(), Resource::Storage), expected);
    let by_number = ["unknown", "within", "much", "little", "important"];
    assert_eq!(order(all(), Resource::Pids), by_number);
}

#[test]
fn only_what_is_on_the_file_system_counts() {
    let mut writer = candidate("writer", 0, "0", 50);
    let mut logger = candidate("logger", 0, "0", 0);
    logger.usage.as_mut().unwrap().containers[0].logs = Space { bytes: 40, inodes: 1 };
    let volume = Space { bytes: 5, inodes: 1 };
    writer.usage.as_mut().unwrap().volumes.insert("v".to_owned(), volume);
    for (parts, first) in
        [(Parts::All, "writer"), (Parts::Layers, "writer"), (Parts::Files, "logger")]
    {
        let mut all = vec![logger.clone(), writer.clone()];
        rank(&mut all, Resource::Storage, parts);
        assert_eq!(all[0].pod.metadata.name, first, "{parts:?}");
    }
}

#[test]
fn the_sentences_are_kubelets() {
    let hard = Threshold {
        signal: Signal::Memory,
        value: Kept::Bytes(100 << 20),
        grace: 0,
        reclaim: None,
    };
    let reading = Reading { available: 90_000 << 10, capacity: 1 << 30 };
    let readings = Readings::from([(Signal::Memory, reading)]);
    let hungry = candidate("p", 0, "64Mi", 200 << 20);
    let said = verdict(&hungry, &hard, &[hard], &readings, 0);
    assert_eq!((said.reason, said.grace, said.disrupts), ("Evicted", Some(1), true));
    assert_eq!(
        said.message,
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90000Ki. \
        Container c was using 200Mi, request is 64Mi, has larger consumption of memory. "
    );
    let soft = Threshold { grace: 1000, ..hard };
    assert_eq!(verdict(&hungry, &soft, &[soft], &readings, 0).grace, Some(0));
    assert_eq!(verdict(&hungry, &soft, &[soft], &readings, 20).grace, Some(20));
}

#[test]
fn limits_of_volumes_pods_and_containers_are_kept_in_this_order() {
    let pod: Pod = serde_json::from_value(json!({"spec": {
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}],
        "containers": [
            {"name": "a", "resources": {"limits": {"ephemeral-storage": "2Ki"}}},
            {"name": "b", "resources": {"limits": {"ephemeral-storage": "2Ki"}}}],
    }}))
    .unwrap();
    assert!(is_limited(&pod));
    let usage = |volume: u64, logs: u64, layer: u64| {
        let of = |bytes| Space { bytes, inodes: 1 };
        let a = Used { name: "a".to_owned(), memory: 0, layer: of(layer), logs: of(logs) };
        let volumes = [("v".to_owned(), of(volume))].into();
        Usage { containers: vec![a], volumes, ..Usage::default() }
    };
    let said = |usage: &Usage, on_disk| over_limit(&pod, usage, on_disk).map(|it| it.message);
    assert_eq!(said(&usage(1024, 2048, 0), true), None);
    assert_eq!(
        said(&usage(1025, 9000, 0), true).unwrap(),
        "Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". "
    );
    assert_eq!(
        said(&usage(1000, 3100, 0), true).unwrap(),
        "Pod ephemeral local storage usage exceeds the total limit of containers 4Ki. "
    );
    let by_layer = usage(0, 1000, 1100);
    let container = "Container a exceeded its local ephemeral storage limit \"2Ki\". ";
    assert_eq!(said(&by_layer, true).as_deref(), Some(container));
    assert_eq!(said(&by_layer, false), None, "what is on another disk does not count");
    assert_eq!(over_limit(&pod, &by_layer, true).unwrap().grace, Some(1));
    let mut in_memory = usage(2000, 0, 0);
    in_memory.in_memory = std::mem::take(&mut in_memory.volumes);
    assert!(said(&in_memory, true).unwrap().contains("EmptyDir volume \"v\""));
    in_memory.in_memory.get_mut("v").unwrap().bytes = 1000;
    in_memory.containers[0].logs.bytes = 1500;
    assert_eq!(said(&in_memory, true), None, "what is in memory takes no disk");
}

#[test]
fn numbers_are_written_as_the_api_writes_them() {
    for (number, text) in [(0, "0"), (1023, "1023"), (1 << 20, "1Mi"), (1536 << 20, "1536Mi")] {
        assert_eq!(binary(number), text);
    }
    assert_eq!(decimal(32_000), "32k");
}

proptest! {
    #[test]
    fn who_exceeds_never_stays_while_who_does_not_goes(
        all in proptest::collection::vec((0_i32..3, 0_u64..50, 0_u64..50), 2..12)
    ) {
        let mut all: Vec<_> = all
            .into_iter()
            .map(|(priority, asked, used)| candidate("p", priority, &asked.to_string(), used))
            .collect();
        rank(&mut all, Resource::Memory, Parts::All);
        let key = |it: &Candidate| {
            let asked = request(&it.pod, "memory");
            let used = i64::try_from(it.usage.as_ref().unwrap().memory()).unwrap();
            (used <= asked, it.pod.spec.priority, asked - used)
        };
        prop_assert!(all.iter().map(key).is_sorted());
    }
}
