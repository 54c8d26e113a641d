//! Tests of the environment.

use proptest::prelude::*;

use super::*;

fn pod(container: &str) -> Pod {
    let text = format!(
        r#"{{"metadata":{{"name":"p","namespace":"ns","uid":"u","labels":{{"a":"b\"c"}}}},
            "spec":{{"serviceAccountName":"sa","containers":[{container}]}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn facts() -> Facts {
    let list = |ips: [&str; 2]| ips.map(str::to_owned).to_vec();
    let (host_ips, pod_ips) = (list(["192.0.2.1", "2001:db8::1"]), list(["10.0.0.5", "fd00::5"]));
    Facts { node: "edge1".to_owned(), host_ips, pod_ips, cpu: 2000, memory: 1 << 30 }
}

fn found() -> Found {
    let entries = |text: &str| Some(Entries::from([("k".to_owned(), text.into())]));
    Found::from([
        (key(&Kind::ConfigMap, "c"), entries("from map")),
        (key(&Kind::Secret, "s"), entries("from secret")),
        (key(&Kind::ConfigMap, "none"), None),
    ])
}

fn variables_of(container: &str) -> Result<Vec<(String, String)>, String> {
    let pod = pod(container);
    variables(&pod, &pod.spec.containers[0], &facts(), &found(), &Links::new())
}

#[test]
fn what_a_container_sets_itself_goes_before_the_services() {
    let pod = pod(r#"{"name":"c","env":[{"name":"A_SERVICE_HOST","value":"own"},
        {"name":"URL","value":"http://$(B_SERVICE_HOST)/"}]}"#);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let links =
        Links::from([pair("A_SERVICE_HOST", "10.0.0.1"), pair("B_SERVICE_HOST", "10.0.0.2")]);
    let all = variables(&pod, &pod.spec.containers[0], &facts(), &found(), &links).unwrap();
    let expected = [
        pair("A_SERVICE_HOST", "own"),
        pair("URL", "http://10.0.0.2/"),
        pair("B_SERVICE_HOST", "10.0.0.2"),
    ];
    assert_eq!(all, expected);
}

#[test]
fn values_come_from_everywhere_in_order() {
    let variables = variables_of(
        r#"{"name":"c","resources":{"limits":{"cpu":"1500m"}},
        "envFrom":[{"prefix":"P_","configMapRef":{"name":"c"}},{"secretRef":{"name":"gone","optional":true}}],
        "env":[
          {"name":"A","value":"1"},{"name":"B","value":"$(A)$(P_k) $(C) $$(A)"},{"name":"C","value":"late"},
          {"name":"N","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}},
          {"name":"L","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['a']"}}},
          {"name":"I","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}},
          {"name":"CPU","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}},
          {"name":"MEM","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"1Mi"}}},
          {"name":"S","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}},
          {"name":"O","valueFrom":{"secretKeyRef":{"name":"s","key":"gone","optional":true}}}]}"#,
    )
    .unwrap();
    let expected = [
        ("P_k", "from map"),
        ("A", "1"),
        ("B", "1from map $(C) $(A)"),
        ("C", "late"),
        ("N", "edge1"),
        ("L", "b\"c"),
        ("I", "10.0.0.5"),
        ("CPU", "2"),
        ("MEM", "1024"),
        ("S", "from secret"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(variables, expected);
}

#[test]
fn what_is_missing_is_said_as_kubelet_says_it() {
    for (env, said) in [
        (r#""envFrom":[{"configMapRef":{"name":"none"}}]"#, "configmap \"none\" not found"),
        (
            r#""env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s","key":"q"}}}]"#,
            "couldn't find key q in Secret ns/s",
        ),
        (
            r#""env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"spec.x"}}}]"#,
            "unsupported fieldPath: spec.x",
        ),
        (
            r#""env":[{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"limits.gpu"}}}]"#,
            "unsupported container resource: limits.gpu",
        ),
    ] {
        assert_eq!(variables_of(&format!(r#"{{"name":"c",{env}}}"#)), Err(said.to_owned()));
    }
}

#[test]
fn a_circle_of_variables_ends() {
    let variables = variables_of(
        r#"{"name":"c","env":[{"name":"A","value":"$(B)"},{"name":"B","value":"$(A)"}]}"#,
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(variables, Ok(vec![pair("A", "$(B)"), pair("B", "$(B)")]));
}

#[test]
fn what_is_needed_is_named_once() {
    let pod = pod(r#"{"name":"c","envFrom":[{"configMapRef":{"name":"c"}}],
        "env":[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"c","key":"k"}}}]}"#);
    assert_eq!(needs(&pod.spec.containers[0]), [(Kind::ConfigMap, "c".to_owned())]);
}

proptest! {
    #[test]
    fn a_text_without_variables_is_itself(text in "[^$]{0,40}") {
        prop_assert_eq!(expand(&text, |_| None), text);
    }

    #[test]
    fn nothing_breaks_the_expansion(text in "[$()AB]{0,30}") {
        let expanded = expand(&text, |name| (name == "A").then(|| "$(A)$(B)".to_owned()));
        prop_assert!(expanded.len() <= text.len() * 8);
    }
}
