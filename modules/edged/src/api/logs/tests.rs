//! What can be asked of a log.

use serde_json::json;

use super::*;

#[test]
fn wrong_options_are_refused_as_kubelet_does() {
    let status = |text: &str| options(&Query::parse(text)).map_err(|it| it.status.as_u16());
    assert!(status("follow=true&tailLines=5&sinceSeconds=3").is_ok());
    assert_eq!(status("tail=all").map(|it| it.tail), Ok(None));
    for (text, code) in [
        ("tailLines=x", 400),
        ("tailLines=-1", 422),
        ("sinceSeconds=0", 422),
        ("limitBytes=0", 422),
        ("sinceTime=yesterday", 400),
        ("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1", 422),
        ("stream=stdin", 422),
    ] {
        assert_eq!(status(text), Err(code), "{text}");
    }
}

#[test]
fn the_log_is_that_of_the_container_which_kubelet_would_take() {
    let chosen = |container: Value, previous: bool| {
        let mut container = container;
        container["name"] = "c".into();
        let target = Target { pod: "p".into(), container: "c".into(), ..Target::default() };
        let status = json!({"containerStatuses": [container]});
        choose(&status, &target, previous).map_err(|it| it.text)
    };
    let ended = |id: &str| json!({"terminated": {"containerID": format!("containerd://{id}")}});
    let waits = |reason: &str| json!({"waiting": {"reason": reason}});
    let runs =
        json!({"containerID": "cri-o://2", "state": {"running": {}}, "lastState": ended("1")});
    assert_eq!(chosen(runs.clone(), false), Ok("2".to_owned()));
    assert_eq!(chosen(runs, true), Ok("1".to_owned()));
    let crashed = json!({"state": waits("CrashLoopBackOff"), "lastState": ended("3")});
    assert_eq!(chosen(crashed.clone(), false), Ok("3".to_owned()));
    assert_eq!(chosen(crashed, true), Ok("3".to_owned()));
    assert_eq!(chosen(json!({"state": ended("4"), "lastState": {}}), false), Ok("4".to_owned()));
    let place = "container \"c\" in pod \"p\" is";
    for (reason, text) in [
        ("ErrImagePull", "waiting to start: image can't be pulled"),
        ("ImagePullBackOff", "waiting to start: trying and failing to pull image"),
        ("ContainerCreating", "waiting to start: ContainerCreating"),
    ] {
        let waiting = json!({"state": waits(reason), "lastState": {}});
        assert_eq!(chosen(waiting, false), Err(format!("{place} {text}")));
    }
    let none = "previous terminated container \"c\" in pod \"p\" not found";
    let fresh = json!({"state": {"running": {}}, "containerID": "cri-o://1", "lastState": {}});
    assert_eq!(chosen(fresh, true), Err(none.to_owned()));
}
