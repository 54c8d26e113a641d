//! Where connections go, by policy, load and health.

use std::net::SocketAddr;

use super::*;

fn targets(count: u8) -> Vec<Target> {
    (1..=count).map(|it| SocketAddr::from(([10, 1, 0, it], 80)).into()).collect()
}

fn balancer(policy: Policy, count: u8) -> Balancer {
    let mut balancer = Balancer::new(policy, None);
    balancer.replace(&targets(count));
    balancer
}

fn client(last: u8) -> Client<'static> {
    Client { address: IpAddr::from([10, 2, 0, last]), header: None }
}

/// Counts where a hundred clients go.
fn spread(balancer: &mut Balancer, now: Instant) -> BTreeMap<Target, usize> {
    let mut counts = BTreeMap::new();
    for last in 0..100 {
        let chosen = balancer.choose(client(last), &[], now, u64::from(last)).unwrap();
        *counts.entry(chosen).or_default() += 1;
    }
    counts
}

#[test]
fn turns_and_dice_reach_every_endpoint_alike() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::LeastConnections] {
        let counts = spread(&mut balancer(policy, 4), Instant::now());
        assert!(counts.len() == 4 && counts.values().all(|count| *count == 25), "{counts:?}");
    }
}

#[test]
fn the_least_loaded_endpoint_is_taken() {
    let now = Instant::now();
    let mut balancer = balancer(Policy::LeastConnections, 3);
    for target in &targets(3)[..2] {
        balancer.opened(*target);
    }
    let counts = spread(&mut balancer, now);
    assert_eq!(counts, BTreeMap::from([(targets(3)[2], 100)]));
    balancer.closed(targets(3)[0]);
    assert_eq!(spread(&mut balancer, now).len(), 2);
}

#[test]
fn a_source_stays_when_others_endpoints_go() {
    let now = Instant::now();
    let mut balancer = balancer(Policy::Source, 5);
    let choose =
        |balancer: &mut Balancer, last| balancer.choose(client(last), &[], now, 0).unwrap();
    let before: Vec<Target> = (0..100).map(|last| choose(&mut balancer, last)).collect();
    let gone = targets(5)[2];
    assert!(before.contains(&gone), "each endpoint has clients");
    let rest: Vec<Target> = targets(5).into_iter().filter(|it| *it != gone).collect();
    balancer.replace(&rest);
    for (last, before) in (0..100).zip(before) {
        let after = choose(&mut balancer, last);
        assert!(after != gone && (before == gone || before == after), "{before} {after}");
    }
}

#[test]
fn a_key_that_everybody_has_does_not_overload_one_endpoint() {
    let now = Instant::now();
    let mut balancer = balancer(Policy::Header("x-user".into()), 4);
    for _ in 0..100 {
        let same = Client { header: Some(b"everybody"), ..client(1) };
        let chosen = balancer.choose(same, &[], now, 0).unwrap();
        balancer.opened(chosen);
    }
    let most = balancer.backends.iter().map(|backend| backend.open).max().unwrap();
    assert!(most <= 32, "{most} of 100 connections at one of four endpoints");
}

#[test]
fn an_endpoint_that_fails_is_left_out_and_tried_again() {
    let start = Instant::now();
    let mut balancer = balancer(Policy::RoundRobin, 2);
    let [bad, good] = targets(2)[..] else { panic!() };
    for _ in 0..FAILURES {
        balancer.failed(bad, start);
    }
    assert_eq!(spread(&mut balancer, start), BTreeMap::from([(good, 100)]));
    assert_eq!(spread(&mut balancer, start + LEFT_OUT).len(), 2, "tried again");
    balancer.failed(bad, start + LEFT_OUT);
    let later = start + LEFT_OUT * 2;
    assert_eq!(spread(&mut balancer, later).len(), 1, "one more failure doubles the time");
    balancer.opened(bad);
    assert_eq!(spread(&mut balancer, later).len(), 2, "a success ends it");
    for target in targets(2) {
        (0..FAILURES).for_each(|_| balancer.failed(target, later));
    }
    assert_eq!(spread(&mut balancer, later).len(), 2, "when all fail all are tried");
}

#[test]
fn what_was_tried_is_not_tried_again() {
    let mut balancer = balancer(Policy::Source, 2);
    let now = Instant::now();
    let first = balancer.choose(client(1), &[], now, 0).unwrap();
    let second = balancer.choose(client(1), &[first], now, 0).unwrap();
    assert_ne!(first, second);
    assert_eq!(balancer.choose(client(1), &[first, second], now, 0), None);
    balancer.replace(&[]);
    assert_eq!(balancer.choose(client(1), &[], now, 0), None);
}

#[test]
fn a_client_stays_with_its_endpoint_as_long_as_it_comes() {
    let start = Instant::now();
    let affinity = Duration::from_secs(10);
    let mut balancer = Balancer::new(Policy::RoundRobin, Some(affinity));
    balancer.replace(&targets(3));
    let mut at = |seconds, last| {
        let now = start + Duration::from_secs(seconds);
        balancer.choose(client(last), &[], now, 0).unwrap()
    };
    let first = at(0, 1);
    assert_ne!(at(0, 2), first);
    assert_eq!([at(9, 1), at(18, 1)], [first; 2]);
    assert_ne!(at(28, 1), first);
    let counts = spread(&mut balancer, start);
    assert_eq!(spread(&mut balancer, start), counts);
    balancer.replace(&targets(1));
    assert_eq!(spread(&mut balancer, start), BTreeMap::from([(targets(1)[0], 100)]));
}
