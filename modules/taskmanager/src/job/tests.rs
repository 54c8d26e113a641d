//! How jobs are called, and what the cloud is told of them.

use super::*;

const UPGRADE: &str = "operations.kubeedge.io/v1alpha2/nodeupgradejob/up/node/edge1";

#[test]
fn a_job_is_reported_under_the_name_that_it_was_ordered_by() {
    let name = Name::parse(UPGRADE, "edge1").unwrap();
    let (operation, resource) = name.route();
    assert_eq!(operation, Operation::UpdateNodeActionStatus);
    assert_eq!(resource.to_string(), UPGRADE);
    let old = Name::parse("prepull/p1/node/edge1", "edge1").unwrap();
    let (operation, resource) = old.route();
    assert_eq!((operation, &*resource.to_string()), (Operation::Prepull, "task/p1/node/edge1"));
    assert_eq!(Name::parse(&old.record().to_string(), "edge1").unwrap(), old);
}

#[test]
fn jobs_of_other_nodes_and_names_that_are_paths_or_commands_are_refused() {
    for text in [
        "operations.kubeedge.io/v1alpha2/nodeupgradejob/up/node/edge2",
        "operations.kubeedge.io/v1alpha2/nodeupgradejob/$(id)/node/edge1",
        "operations.kubeedge.io/v1alpha2/nodeupgradejob/a;b/node/edge1",
        "operations.kubeedge.io/v1alpha2/nodeupgradejob/../node/edge1/x",
        "operations.kubeedge.io/v1alpha2/nodeupgradejob//node/edge1",
        "operations.kubeedge.io/v1alpha2/reboot/up/node/edge1",
        "operations.kubeedge.io/v1alpha3/nodeupgradejob/up/node/edge1",
        "rollback/up/node/edge1",
        "",
    ] {
        assert!(Name::parse(text, "edge1").is_err(), "{text}");
    }
}

#[test]
fn reports_have_the_shape_that_each_api_wants() {
    let name = Name::parse(UPGRADE, "edge1").unwrap();
    let time = "2026-11-23T04:25:57Z".to_owned();
    let mut report = Report { action: Action::Check, failure: None, extend: String::new(), time };
    let told = |report: &Report, name: &Name| {
        String::from_utf8(report.content(name).raw().to_vec()).unwrap()
    };
    assert_eq!(
        told(&report, &name),
        r#"{"action":"Check","extend":"","finishTime":"2026-11-23T04:25:57Z","reason":"","succ":true}"#
    );
    report.failure = Some("x".repeat(MAX_REASON + 1));
    assert!(told(&report, &name).len() < MAX_REASON + 200);
    let old = Name::parse("upgrade/u/node/edge1", "edge1").unwrap();
    report.failure = None;
    report.action = Action::WaitingConfirmation;
    let content = told(&report, &old);
    assert!(content.contains(r#""Action":"Confirmation""#), "{content}");
    assert!(content.contains(r#""Event":"Confirm""#), "{content}");
}
