//! A module that takes all the memory it can get: it dies alone, and the status says of what.

use anyhow::{Context, Result};
use edgecore_tests::rig::Setup;
use ipc_proto::Module;
use ipc_proto::lifeline::Fault;
use serde_json::json;

#[test]
fn a_module_over_its_bound_dies_of_it_alone() -> Result<()> {
    let victims = [Module::Metamanager, Module::Eventbus];
    let bound = json!({"memoryMax": "256Mi"});
    let modules = json!({victims[0].name(): bound, victims[1].name(): bound});
    let rig = Setup::new()?.with(json!({"modules": modules})).start()?;
    let before = rig.snapshot()?;
    for victim in victims {
        let old = before.pid_of(victim).context("it runs")?;
        rig.fault(victim, Fault::Oom)?;
        let exit = rig.wait_until_back(victim, old)?.last_exit.context("it died")?;
        assert_eq!(exit.reason, "oom", "{victim}: {:?}", exit.last_lines);
    }
    before.still_holds_but_for(&rig, &victims)
}
