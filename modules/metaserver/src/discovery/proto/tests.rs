//! Discovery as it was recorded from the real cloud, and what is none.

use data_encoding::BASE64;
use serde_json::Value;

use super::*;

fn read(recorded: &str) -> Result<Value, String> {
    let json = json(BASE64.decode(recorded.as_bytes()).unwrap().into())?;
    Ok(serde_json::from_slice(&json).unwrap())
}

// As CloudCore 1.23 answers, in front of Kubernetes 1.36.
const API: &str = "azhzAAoPCgASC0FQSVZlcnNpb25zEiIKAnYxEhwKCTAuMC4wLjAvMBIPMTkyLjAuMi4yOjE2NDQz\
                   GgAiAA==";
const APPS: &str = "azhzAAoOCgJ2MRIIQVBJR3JvdXASJAoEYXBwcxINCgdhcHBzL3YxEgJ2MRoNCgdhcHBzL3Yx\
                    EgJ2MRoAIgA=";
const PRIORITIES: &str = "azhzAAoVCgJ2MRIPQVBJUmVzb3VyY2VMaXN0EqUBChRzY2hlZHVsaW5nLms4cy5pby92MRKM\
                       AQoPcHJpb3JpdHljbGFzc2VzEAAaDVByaW9yaXR5Q2xhc3MiQwoGY3JlYXRlCgZkZWxldGUK\
                       EGRlbGV0ZWNvbGxlY3Rpb24KA2dldAoEbGlzdAoFcGF0Y2gKBnVwZGF0ZQoFd2F0Y2gqAnBj\
                       Mg1wcmlvcml0eWNsYXNzQgBKAFIMMVF3anlhWmpqM1k9GgAiAA==";

#[test]
fn what_cloudcore_passes_on_is_json_for_clients() {
    let expected = serde_json::json!({
        "kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"],
        "serverAddressByClientCIDRs":
            [{"clientCIDR": "0.0.0.0/0", "serverAddress": "192.0.2.2:16443"}],
    });
    assert_eq!(read(API), Ok(expected));
    let version = serde_json::json!({"groupVersion": "apps/v1", "version": "v1"});
    let expected = serde_json::json!({"kind": "APIGroup", "apiVersion": "v1", "name": "apps",
        "versions": [version], "preferredVersion": version});
    assert_eq!(read(APPS), Ok(expected));
    let expected = serde_json::json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "scheduling.k8s.io/v1",
        "resources": [{
            "name": "priorityclasses", "singularName": "priorityclass", "namespaced": false,
            "kind": "PriorityClass", "shortNames": ["pc"], "storageVersionHash": "1QwjyaZjj3Y=",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update",
                      "watch"],
        }],
    });
    assert_eq!(read(PRIORITIES), Ok(expected));
    let plain = Bytes::from_static(b"{\"major\":\"1\"}");
    assert_eq!(json(plain.clone()), Ok(plain));
}

#[test]
fn what_is_no_discovery_is_refused() {
    let envelope = |kind: &str, raw: &'static [u8]| {
        let type_meta = Some(TypeMeta { api_version: "v1".to_owned(), kind: kind.to_owned() });
        let envelope = Envelope { type_meta, raw: Bytes::from_static(raw) };
        Bytes::from([MAGIC, &envelope.encode_to_vec()].concat())
    };
    let refusal = json(envelope("Pod", b"")).unwrap_err();
    assert_eq!(refusal, "it is a 'Pod', expected something of discovery");
    assert!(json(envelope("APIGroupList", b"\x0a\x05abc")).is_err());
    assert!(json(Bytes::from_static(b"k8s\0\x0a\x7f")).is_err());
    assert!(json(envelope("APIGroupList", b"")).is_ok());
}
