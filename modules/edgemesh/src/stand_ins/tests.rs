//! Which addresses stand for which pods.

use super::*;
use crate::targets::Reach;

fn pool(network: &str) -> Option<Pool> {
    Pool::new(Network::parse(network).unwrap())
}

fn stand_ins(network: &str) -> StandIns {
    let direct = vec![Network::parse("192.168.1.0/24").unwrap()];
    let reach = Reach::Networks(direct);
    let here = Here { node: "edge1".into(), prefer_same_node: false, zone: None, reach };
    StandIns::new(pool(network).unwrap(), here)
}

fn pod(address: &str, node: &str) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        node: Some(node.into()),
        zone: None,
        hostname: None,
        ready: true,
        serving: true,
        ports: Vec::new(),
        stand_in: None,
    }
}

#[test]
fn each_pod_out_of_reach_has_its_own_and_keeps_it_over_a_restart() {
    let mut all = stand_ins("198.18.0.0/16");
    let network = Network::parse("198.18.0.0/16").unwrap();
    let one = all.of(&pod("10.88.0.2", "edge2")).unwrap();
    let other = all.of(&pod("10.88.0.2", "edge3")).unwrap();
    assert!(one != other && network.contains(one) && network.contains(other));
    assert_eq!(all.of(&pod("10.88.0.2", "edge2")), Some(one));
    assert_eq!(all.of(&pod("10.88.0.2", "edge1")), None, "this node's own");
    assert_eq!(all.of(&pod("192.168.1.7", "edge2")), None, "it is reached directly");
    let mut anew = stand_ins("198.18.0.0/16");
    assert_eq!(anew.of(&pod("10.88.0.2", "edge3")), Some(other), "whoever is asked for first");
}

#[test]
fn no_two_pods_have_one_and_a_full_network_gives_none() {
    let mut all = stand_ins("198.18.0.77/24");
    let pods = (0..400).map(|it| pod(&format!("10.88.{}.{}", it / 200, it % 200), "edge2"));
    let given: Vec<_> = pods.filter_map(|pod| all.of(&pod)).collect();
    let distinct: BTreeSet<_> = given.iter().collect();
    assert!(given.len() > 150 && distinct.len() == given.len(), "{}", given.len());
    assert!(given.iter().all(|it| *it != IpAddr::from([198, 18, 0, 0])));
    assert!(given.iter().all(|it| *it != IpAddr::from([198, 18, 0, 255])));
}

#[test]
fn networks_that_are_too_small_too_great_or_of_ipv6_are_none() {
    assert_eq!(pool("198.18.0.0/25"), None);
    assert_eq!(pool("0.0.0.0/7"), None);
    assert_eq!(pool("fd00::/16"), None);
}
