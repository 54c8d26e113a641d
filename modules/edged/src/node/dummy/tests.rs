//! The address is there, in a network of the test's own.

use std::net::UdpSocket;
use std::process::Command;

use super::*;

/// Set in the process that has a network of its own.
const INSIDE: &str = "EDGED_DUMMY_TEST";

#[test]
fn the_host_has_the_address_afterwards_however_often_it_is_asked_for() {
    let addresses = ["169.254.30.10", "fd00:e::10"].map(|text| text.parse::<IpAddr>().unwrap());
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().unwrap();
        let name = "the_host_has_the_address_afterwards_however_often_it_is_asked_for";
        let inside = Command::new("unshare")
            .args(["--net", "--map-root-user"])
            .arg(own)
            .args([name, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let text = [inside.stdout, inside.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(inside.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let is_there = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    for address in addresses {
        for _ in 0..2 {
            ensure(address).unwrap();
        }
    }
    assert!(is_there(addresses[0]));
    assert!(!is_there(IpAddr::from([169, 254, 30, 11])), "no other is");
    ensure(IpAddr::from([127, 0, 0, 1])).unwrap();
}
