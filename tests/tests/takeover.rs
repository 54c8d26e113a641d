//! A node changes its agent: `edgectl takeover` and `edgectl rollback`, with containers that run all
//! the while, and with the command killed on the way.

#[path = "takeover/place.rs"]
mod place;

use anyhow::{Result, ensure};
use edgecore_tests::rig::pods::{LONG, pod, sleeper};
use edgecore_tests::rig::wait_until;
use serde_json::json;

use place::{Place, mode};

#[test]
fn a_node_is_taken_over_and_given_back_and_its_containers_run_on() -> Result<()> {
    let Some(place) = Place::with_pod()? else { return Ok(()) };
    let before = place.containers()?;
    ensure!(before.len() == 1, "{before:?}");
    assert_eq!(place.runs()?, "kubeedge");

    let looked = place.takeover(&["--check"])?;
    assert_eq!((looked.code, place.runs()?), (0, "kubeedge"), "{looked:?}");
    let said = place.takeover(&[])?;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("1 containers ran on"), "{}", said.out);
    assert_eq!((place.runs()?, place.containers()?), ("ours", before.clone()));
    place.node.wait_until_ready()?;
    let copies = place.backup();
    for (file, bits) in [("edgecore.db", 0o600), ("edgecore.yaml", 0o600), ("server.key", 0o600)] {
        assert_eq!(mode(&copies.join(file))?, bits, "{file}");
    }
    let again = place.takeover(&[])?;
    assert_eq!(again.code, 1);
    assert!(again.err.contains("taken over already"), "{}", again.err);

    // it is a node like any other
    place.node.apply(sleeper("later"))?;
    place.node.wait_pod_ready("later")?;
    let before = place.containers()?;
    let said = place.rollback()?;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!((place.runs()?, place.containers()?), ("kubeedge", before));
    let again = place.rollback()?;
    assert!(again.err.contains("tells of no takeover"), "{again:?}");
    Ok(())
}

#[test]
fn a_takeover_killed_anywhere_leaves_one_agent_and_goes_on_or_back() -> Result<()> {
    let Some(place) = Place::with_pod()? else { return Ok(()) };
    let before = place.containers()?;
    let points = ["copying", "becomes", "restarting", "waiting"];
    for (round, point) in points.into_iter().enumerate() {
        place.kill_takeover_at(point)?;
        place.wait_until_one_runs(point)?;
        if round % 2 == 0 {
            place.boot()?;
            place.wait_until_one_runs(&format!("{point}, and a boot"))?;
        }
        assert_eq!(place.containers()?, before, "{point}");
        let said = if round < 2 { place.takeover(&[])? } else { place.rollback()? };
        ensure!(said.code == 0, "after a kill at '{point}': {said:?}");
        let expected = if round < 2 { "ours" } else { "kubeedge" };
        assert_eq!(place.runs()?, expected, "after a kill at '{point}'");
        if expected == "ours" {
            assert_eq!(place.rollback()?.code, 0);
        }
        assert_eq!(place.containers()?, before, "{point}");
    }
    Ok(())
}

#[test]
fn a_rollback_killed_anywhere_leaves_one_agent_and_goes_on() -> Result<()> {
    let Some(place) = Place::with_pod()? else { return Ok(()) };
    let before = place.containers()?;
    for (round, point) in ["becomes", "restarting", "waiting"].into_iter().enumerate() {
        assert_eq!(place.takeover(&[])?.code, 0);
        place.kill_rollback_at(point)?;
        place.wait_until_one_runs(point)?;
        if round % 2 == 0 {
            place.boot()?;
            place.wait_until_one_runs(&format!("{point}, and a boot"))?;
        }
        let said = place.rollback()?;
        ensure!(said.code == 0, "after a kill at '{point}': {said:?}");
        assert_eq!((place.runs()?, place.containers()?), ("kubeedge", before.clone()), "{point}");
    }
    Ok(())
}

#[test]
fn where_units_are_kept_ours_takes_the_place_of_kubeedge_s_and_gives_it_back() -> Result<()> {
    let Some(place) = Place::with_units()? else { return Ok(()) };
    let before = place.containers()?;
    let unit = place.unit("etc");
    let text = std::fs::read(&unit)?;
    for point in ["gives way to the unit", "restarting"] {
        place.kill_takeover_at(point)?;
        place.wait_until_one_runs(point)?;
        place.boot()?;
        place.wait_until_one_runs(&format!("{point}, and a boot"))?;
    }
    let said = place.takeover(&[])?;
    assert_eq!((said.code, place.runs()?, unit.exists()), (0, "ours", false), "{said:?}");
    place.kill_rollback_at("is again that")?;
    place.wait_until_one_runs("a kill on the way back")?;
    place.boot()?;
    let said = place.rollback()?;
    assert_eq!((said.code, place.runs()?), (0, "kubeedge"), "{said:?}");
    assert_eq!((std::fs::read(&unit)?, place.containers()?), (text, before));
    Ok(())
}

#[test]
fn a_service_script_that_dies_between_the_agents_is_run_again() -> Result<()> {
    let Some(place) = Place::with_pod()? else { return Ok(()) };
    let before = place.containers()?;
    place.kill_script()?;
    let said = place.takeover(&[])?;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("the node runs KubeEdge's own edgecore as before"), "{}", said.err);
    assert_eq!((place.runs()?, place.containers()?), ("kubeedge", before));
    Ok(())
}

#[test]
fn a_takeover_and_a_rollback_killed_in_the_middle_of_the_restart_go_on() -> Result<()> {
    let Some(place) = Place::with_pod()? else { return Ok(()) };
    let before = place.containers()?;
    place.kill_in_restart()?;
    ensure!(place.takeover(&[]).is_err(), "it was killed, and has no exit code");
    place.wait_until_one_runs("a kill in the restart")?;
    let said = place.takeover(&[])?;
    assert_eq!((said.code, place.runs()?), (0, "ours"), "{said:?}");
    place.kill_in_restart()?;
    ensure!(place.rollback().is_err(), "it was killed, and has no exit code");
    place.wait_until_one_runs("a kill in the restart back")?;
    let said = place.rollback()?;
    assert_eq!((said.code, place.runs()?), (0, "kubeedge"), "{said:?}");
    assert_eq!(place.containers()?, before);
    Ok(())
}

#[test]
fn an_agent_that_does_not_come_up_is_put_back() -> Result<()> {
    let Some(place) = Place::with_pod()? else { return Ok(()) };
    let before = place.containers()?;
    let broken = place.with_broken_program()?;
    let said = place.takeover_with(&broken, &["--timeout", "1"])?;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("the node runs KubeEdge's own edgecore as before"), "{}", said.err);
    assert_eq!((place.runs()?, place.containers()?), ("kubeedge", before));
    assert!(place.program().symlink_metadata()?.is_file(), "the place is KubeEdge's again");
    // and the next one begins anew
    let said = place.takeover(&[])?;
    assert_eq!((said.code, place.runs()?), (0, "ours"), "{said:?}");
    Ok(())
}

#[test]
fn what_stands_in_the_way_is_said_at_once_and_nothing_is_changed() -> Result<()> {
    let Some(place) = Place::with_pod()? else { return Ok(()) };
    let mut spec = json!({"containers": [{"name": "c", "command": ["sleep", "1000000"]}]});
    spec["hostUsers"] = false.into();
    place.store_pod(&pod("users", spec))?;
    place.end()?;
    wait_until("nothing runs", LONG, || place.runs().is_ok_and(|it| it == "nothing"))?;
    let said = place.takeover(&[])?;
    assert_eq!(said.code, 1);
    for word in ["nothing was changed", "nothing runs ", "default/users", "hostUsers: false"] {
        assert!(said.err.contains(word), "no '{word}' in {}", said.err);
    }
    assert!(place.program().symlink_metadata()?.is_file());
    assert!(place.rollback()?.err.contains("tells of no takeover"));
    Ok(())
}
