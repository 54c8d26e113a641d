//! Addresses that come and go, in a network namespace of the test's own.

use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// A network of its own, as long as this lives.
struct Network(Child);

impl Drop for Network {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).map(drop).unwrap_or_default();
    }
}

impl Network {
    /// Makes one and moves the calling thread into it.
    fn enter() -> Self {
        let mut command = Command::new("unshare");
        let network = Self(command.args(["--net", "sleep", "60"]).spawn().unwrap());
        let path = format!("/proc/{}/ns/net", network.0.id());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(&path).unwrap() == own {
            std::thread::yield_now();
        }
        let space = std::fs::File::open(path).unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        network
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn an_address_that_comes_or_goes_is_heard_of() {
    if !crate::tests::may_use_the_kernel() {
        return;
    }
    let _network = Network::enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut addresses = Addresses::listen().unwrap();
        for change in
            ["link set lo up", "addr add 10.9.9.9/32 dev lo", "addr del 10.9.9.9/32 dev lo"]
        {
            ip(change);
            tokio::time::timeout(LONG, addresses.changed()).await.expect(change);
        }
    });
}
