//! Services as people and programs read them.

use serde_json::json;

use super::*;

fn services() -> Services {
    let stored = json!({
        "services": [
            {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"type": "NodePort",
                "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}},
            {"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None"}},
            {"metadata": {"name": "away", "namespace": "shop"},
                "spec": {"type": "ExternalName", "externalName": "example.org"}},
        ],
        "slices": [{"metadata": {"namespace": "shop",
                "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "edge1",
                    "targetRef": {"name": "web-0"}},
                {"addresses": ["10.1.0.2"], "conditions": {"ready": false}}]}],
        "endpoints": [
            {"metadata": {"name": "web", "namespace": "shop"},
                "subsets": [{"addresses": [{"ip": "10.9.9.9"}]}]},
            {"metadata": {"name": "db", "namespace": "shop"},
                "subsets": [{"addresses": [{"ip": "10.1.0.9"}]}]},
        ],
    });
    Services::of(&serde_json::from_value(stored).unwrap())
}

#[test]
fn people_get_a_line_for_each_service_and_each_endpoint() {
    let services = services();
    let lines = |text: String| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(
        lines(list(&services, Style::PLAIN)),
        [
            "NAME TYPE ADDRESS PORTS READY",
            "shop/away ExternalName example.org - 0/0",
            "shop/db Headless - - 1/1",
            "shop/web NodePort 10.96.0.7 http 80/TCP 1/2",
        ]
    );
    assert_eq!(
        lines(endpoints(&services, Style::PLAIN)),
        [
            "SERVICE ADDRESS PORTS NODE POD READY",
            "shop/db 10.1.0.9 - - - yes",
            "shop/web 10.1.0.1 http 8080/TCP edge1 web-0 yes",
            "shop/web 10.1.0.2 http 8080/TCP - - no",
            "shop/away has none.",
        ]
    );
}

#[test]
fn one_service_can_be_wanted_and_one_that_is_not_there_is_said() {
    let mut all = services();
    all.keep("shop/db").unwrap();
    assert_eq!(serde_json::to_value(&all).unwrap()["services"][0]["type"], "Headless");
    assert!(services().keep("db").is_err(), "it is not in the namespace default");
}
