//! An informer of an application, kube-rs', sees the node's pods whatever is killed.

#[path = "metaserver/place.rs"]
#[expect(dead_code, reason = "the other tests of the local API use the rest")]
mod place;

use std::process::{Command, Stdio};

use anyhow::Result;
use edgecore_tests::rig::binaries;
use edgecore_tests::rig::operator::Live;
use ipc_proto::Module;
use minicloud::fault::Fault;
use place::{Place, pod};

/// Waits until the informer says that it has these pods.
fn wait(informer: &mut Live, pods: &str) -> Result<()> {
    informer.wait_line(&format!("the informer has {pods}"), |line| line.trim() == pods).map(drop)
}

#[test]
fn a_stock_informer_has_everything_in_the_end_whatever_is_killed() -> Result<()> {
    let program = binaries::informer()?;
    let place = Place::new()?;
    place.pod("p0", "shop")?;
    let start = |labels: &[&str]| -> Result<Live> {
        let mut command = Command::new(&program);
        command.arg(format!("http://127.0.0.1:{}", place.api.port)).args(labels);
        command.stdin(Stdio::null());
        Live::start(command)
    };
    let (mut all, mut shop) = (start(&[])?, start(&["app in (shop)"])?);
    wait(&mut all, "p0=shop")?;
    wait(&mut shop, "p0=shop")?;
    let mut seen = "p0=shop".to_owned();
    for (number, module) in
        [Module::Metaserver, Module::Metamanager, Module::Edgehub, Module::Metaserver]
            .into_iter()
            .enumerate()
    {
        place.kill(module)?;
        let name = format!("p{}", number + 1);
        place.cloud.apply(pod(&name, "store"))?;
        seen.push_str(&format!(" {name}=store"));
        wait(&mut all, &seen)?;
    }
    place.cloud.fault(Fault::Restart { down_millis: 100 })?;
    place.cloud.apply(pod("p1", "shop"))?;
    wait(&mut shop, "p0=shop p1=shop")?;
    seen = seen.replace("p1=store", "p1=shop");
    wait(&mut all, &seen)?;
    place.cloud.apply(pod("p0", "store"))?;
    wait(&mut shop, "p1=shop")?;
    wait(&mut all, &seen.replace("p0=shop", "p0=store"))
}
