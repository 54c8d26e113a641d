//! Services, and the variables that pods get of them.

use serde_json::json;

use super::*;

fn service(namespace: &str, name: &str, ip: &str) -> Service {
    serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": [{"name": "http-x", "port": 80}, {"port": 53, "protocol": "UDP"}]},
        }))
        .unwrap()
}

fn pod(wants: Option<bool>) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = "ns".to_owned();
    pod.spec.enable_service_links = wants;
    pod
}

#[test]
fn services_are_told_as_kubelet_does() {
    let links = links(&pod(None), &[service("ns", "my-web", "10.0.0.1")], None);
    let expected = [
        ("MY_WEB_PORT", "tcp://10.0.0.1:80"),
        ("MY_WEB_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("MY_WEB_PORT_53_UDP_ADDR", "10.0.0.1"),
        ("MY_WEB_PORT_53_UDP_PORT", "53"),
        ("MY_WEB_PORT_53_UDP_PROTO", "udp"),
        ("MY_WEB_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("MY_WEB_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("MY_WEB_PORT_80_TCP_PORT", "80"),
        ("MY_WEB_PORT_80_TCP_PROTO", "tcp"),
        ("MY_WEB_SERVICE_HOST", "10.0.0.1"),
        ("MY_WEB_SERVICE_PORT", "80"),
        ("MY_WEB_SERVICE_PORT_HTTP_X", "80"),
    ];
    assert_eq!(links, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}

#[test]
fn only_the_api_is_told_to_who_wants_no_links() {
    let all = [
        service("default", "kubernetes", "10.0.0.2"),
        service("default", "other", "10.0.0.3"),
        service("ns", "web", "10.0.0.1"),
        service("ns", "headless", "None"),
    ];
    let hosts = |links: Links| -> Vec<(String, String)> {
        links.into_iter().filter(|(key, _)| key.ends_with("_HOST")).collect()
    };
    let pair = |name: &str, ip: &str| (format!("{name}_SERVICE_HOST"), ip.to_owned());
    let api = pair("KUBERNETES", "10.0.0.2");
    assert_eq!(hosts(links(&pod(Some(false)), &all, None)), std::slice::from_ref(&api));
    assert_eq!(hosts(links(&pod(None), &all, None)), [api, pair("WEB", "10.0.0.1")]);
    let own = links(&pod(None), &all, Some(("169.254.30.10", 10_550)));
    assert_eq!(own["KUBERNETES_SERVICE_HOST"], "169.254.30.10");
    assert_eq!(own["KUBERNETES_SERVICE_PORT"], "10550");
}
