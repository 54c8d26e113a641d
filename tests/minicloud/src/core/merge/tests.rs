//! Patches, merged as the API server does.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn conditions_merge_by_type_in_the_order_asked_for() {
    let mut status = json!({"conditions": [
            {"type": "Ready", "status": "False", "reason": "x"}, {"type": "Disk", "status": "False"}]});
    let patch = json!({"$setElementOrder/conditions": [{"type": "Disk"}, {"type": "Ready"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null}]});
    strategic(&mut status, &patch);
    assert_eq!(
        status,
        json!({"conditions": [
            {"type": "Disk", "status": "False"}, {"type": "Ready", "status": "True"}]})
    );
}

#[test]
fn other_lists_are_replaced() {
    let mut status = json!({"containerStatuses": [{"name": "a"}, {"name": "b"}], "phase": "x"});
    strategic(&mut status, &json!({"containerStatuses": [{"name": "c"}], "phase": null}));
    assert_eq!(status, json!({"containerStatuses": [{"name": "c"}]}));
}

#[test]
fn elements_can_be_deleted() {
    let mut status = json!({"conditions": [{"type": "A"}, {"type": "B"}]});
    strategic(&mut status, &json!({"conditions": [{"type": "A", "$patch": "delete"}]}));
    assert_eq!(status, json!({"conditions": [{"type": "B"}]}));
}

#[test]
fn json_merge_knows_no_directives() {
    let mut object = json!({"conditions": [{"type": "A"}]});
    json(&mut object, &json!({"conditions": [], "$patch": "replace"}));
    assert_eq!(object, json!({"conditions": [], "$patch": "replace"}));
}

proptest! {
    #[test]
    fn a_patch_applied_twice_changes_no_more(
        status in "(True|False)", reason in prop::option::of("[a-z]{1,4}"), kind in "[AB]",
    ) {
        let mut target = json!({"conditions": [{"type": "A", "status": "Unknown"}]});
        let patch = json!({"conditions": [{"type": kind, "status": status, "reason": reason}]});
        strategic(&mut target, &patch);
        let once = target.clone();
        strategic(&mut target, &patch);
        prop_assert_eq!(target, once);
    }
}
