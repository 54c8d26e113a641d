//! What monitors are told, over the socket.

use serde_json::json;

use super::words as w;
use super::*;
use crate::cri;
use fake_plugins::device::{Manner, PlugIn};

async fn ask<Q: prost::Message + 'static, A: prost::Message + Default + 'static>(
    root: &Path,
    path: &'static str,
    request: Q,
) -> Result<A, cri::Trouble> {
    cri::ask(&cri::channel(socket(root)), ("ask", path), request, PATIENCE).await
}

fn shown(name: &str, phase: &str) -> Shown {
    let pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {"containers": [{"name": "c"}, {"name": "d"}]}});
    let status = json!({"status": {"phase": phase}}).to_string();
    let pod = std::sync::Arc::new(serde_json::from_value(pod).unwrap());
    Shown { pod, status: status.as_str().into(), object: None }
}

#[tokio::test]
async fn monitors_are_told_who_has_which_device() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let devices = Devices::begin(root);
    let (asks, mut asked) = mpsc::channel::<Ask>(4);
    tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            drop(ask.send(vec![shown("p", "Running"), shown("over", "Succeeded")]));
        }
    });
    begin(root, asks, devices.clone());
    let mut plugin = PlugIn::new(root, "x.org/d", Manner::Good);
    plugin.begin().await.unwrap();
    let two =
        |it: &crate::devices::Amounts| it.get("x.org/d").is_some_and(|it| it.devices.len() == 2);
    devices.amounts().wait_for(two).await.unwrap();
    let [uid, container, resource] = ["p", "c", "x.org/d"].map(str::to_owned);
    let want =
        crate::devices::core::Want { uid, container, resource, count: 1, before: Vec::new() };
    devices.claim(want).await.unwrap();

    let listed: w::ListPodResourcesResponse =
        ask(root, "/v1.PodResourcesLister/List", w::ListPodResourcesRequest {}).await.unwrap();
    let has = |id: &str| at("x.org/d", NOWHERE, vec![id.to_owned()]);
    let container = |name: &str, devices| w::ContainerResources { name: name.to_owned(), devices };
    let [name, namespace] = ["p", "ns"].map(str::to_owned);
    let containers = vec![container("c", vec![has("two")]), container("d", vec![])];
    let expected = w::PodResources { name, namespace, containers };
    assert_eq!(listed.pod_resources, std::slice::from_ref(&expected));

    let wanted = |name: &str| w::GetPodResourcesRequest {
        pod_name: name.to_owned(),
        pod_namespace: "ns".to_owned(),
    };
    let path = "/v1.PodResourcesLister/Get";
    let got: w::GetPodResourcesResponse = ask(root, path, wanted("p")).await.unwrap();
    assert_eq!(got.pod_resources, Some(expected));
    let none = ask::<_, w::GetPodResourcesResponse>(root, path, wanted("q")).await.unwrap_err();
    assert_eq!(none.message, "pod q in namespace ns not found");

    let path = "/v1.PodResourcesLister/GetAllocatableResources";
    let request = w::AllocatableResourcesRequest {};
    let all: w::AllocatableResourcesResponse = ask(root, path, request).await.unwrap();
    assert_eq!(all.devices, [has("one"), has("two")]);
    let unknown = ask::<_, w::AllocatableResourcesResponse>(root, "/v1.X/Y", request).await;
    assert!(unknown.unwrap_err().is_unimplemented());
}
