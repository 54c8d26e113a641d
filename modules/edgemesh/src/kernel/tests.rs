//! Any history of changes ends in the table that a fresh start would make, and the kernel's is the one
//! that the program nft would make of the same words.

use std::fs::{File, read_link};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::words::{Element, Family, Label, Rule, Verdict};
use super::*;
use crate::model::{Endpoint, Kind, Port, Protocol, Service};
use crate::targets::{Here, Reach};

/// The kernel's table as the steps of transactions leave it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    clients: BTreeMap<Label, (Family, u64)>,
    elements: BTreeMap<Element, Option<Verdict>>,
    chains: BTreeMap<Label, Vec<Rule>>,
}

impl Model {
    fn apply(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| self.step(step));
    }

    /// Does what one step says, and fails where the kernel would.
    fn step(&mut self, step: &Step) {
        match step {
            Step::Remove => *self = Self::default(),
            Step::Make => assert_eq!(*self, Self::default(), "there is a table"),
            Step::Clients(name, family, seconds) => {
                let before = self.clients.insert(Label::clone(name), (*family, *seconds));
                assert_eq!(before, None, "{step:?}");
            }
            Step::Chain(name) => {
                let before = self.chains.insert(Label::clone(name), Vec::new());
                assert_eq!(before, None, "{step:?}");
            }
            Step::Flush(name) => self.chains.get_mut(name).expect("a chain").clear(),
            Step::Rule(chain, rule) => {
                self.has_what_is_named(rule);
                self.chains.get_mut(chain).expect("a chain").push(rule.clone());
            }
            Step::Put(elements) => {
                for (element, verdict) in elements {
                    assert_eq!(element.set(), elements[0].0.set(), "of one set");
                    if let Some(Verdict::Goto(chain)) = verdict {
                        assert!(self.chains.contains_key(chain), "{step:?}");
                    }
                    assert_eq!(self.elements.insert(*element, verdict.clone()), None, "{step:?}");
                }
            }
            Step::Take(elements) => {
                for element in elements {
                    assert_eq!(element.set(), elements[0].set(), "of one set");
                    assert!(self.elements.remove(element).is_some(), "{step:?}");
                }
            }
            Step::RemoveChain(name) => {
                assert_eq!(self.chains.remove(name), Some(Vec::new()), "{step:?}");
                let mut rules = self.chains.values().flatten();
                assert!(!rules.any(|rule| named(rule).0.contains(&name)), "in use: {step:?}");
                let to = Some(Verdict::Goto(Label::clone(name)));
                assert!(!self.elements.values().any(|verdict| *verdict == to), "in use: {step:?}");
            }
            Step::RemoveClients(name) => {
                self.clients.remove(name).expect("a set");
                let mut rules = self.chains.values().flatten();
                assert!(!rules.any(|rule| named(rule).1 == Some(name)), "in use: {step:?}");
            }
        }
    }

    fn has_what_is_named(&self, rule: &Rule) {
        let (chains, set) = named(rule);
        assert!(chains.iter().all(|chain| self.chains.contains_key(*chain)), "{rule:?}");
        assert!(set.is_none_or(|set| self.clients.contains_key(set)), "{rule:?}");
    }
}

/// Returns the chains and the set that a rule names.
fn named(rule: &Rule) -> (Vec<&Label>, Option<&Label>) {
    match rule {
        Rule::Send { remember, .. } => (Vec::new(), remember.as_ref()),
        Rule::Known { set, chain, .. } => (vec![chain], Some(set)),
        Rule::Choose(chains) => (chains.iter().collect(), None),
        Rule::Goto(chain) => (vec![chain], None),
        Rule::Redirect { .. } | Rule::Masquerade => (Vec::new(), None),
    }
}

fn addresses(all: &'static [&'static str]) -> impl Strategy<Value = Vec<std::net::IpAddr>> {
    let parse = |some: Vec<&str>| some.into_iter().map(|it| it.parse().unwrap()).collect();
    subsequence(all, 0..=all.len()).prop_map(parse)
}

prop_compose! {
    fn port()(
        tcp in any::<bool>(),
        port in 80u16..82,
        node_port in option::of(30_000u16..30_002),
    ) -> Port {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        Port { name: "web".into(), protocol, port, node_port }
    }
}

prop_compose! {
    fn service()(
        cluster in addresses(&["10.96.0.1", "10.96.0.2", "fd00::a"]),
        headless in prop::bool::weighted(0.1),
        ports in vec(port(), 1..3),
        external in addresses(&["192.0.2.1", "2001:db8::1"]),
        affinity in option::of((1u64..3).prop_map(Duration::from_secs)),
        local_only in any::<bool>(),
        external_local_only in any::<bool>(),
        publish_not_ready in prop::bool::weighted(0.2),
    ) -> Service {
        let kind = if headless { Kind::Headless } else { Kind::Cluster(cluster) };
        Service {
            kind, ports, external, affinity, local_only, external_local_only, publish_not_ready,
            policy: None,
        }
    }
}

prop_compose! {
    fn endpoint()(
        address in select(vec!["10.1.0.1", "10.1.0.2", "10.1.0.3", "fd01::1", "fd01::2"]),
        node in option::of(select(vec!["edge1", "edge2"])),
        (ready, serving) in any::<(bool, bool)>(),
        number in 8080u16..8082,
    ) -> Endpoint {
        let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| ("web".into(), protocol, number));
        Endpoint {
            address: address.parse().unwrap(),
            node: node.map(Into::into),
            zone: None,
            hostname: None,
            ready,
            serving,
            ports: ports.into(),
            stand_in: None,
        }
    }
}

type Backed = Option<(Service, Vec<Endpoint>, Option<u16>)>;
type Changes = BTreeMap<&'static str, Backed>;

fn changes() -> impl Strategy<Value = Changes> {
    let name = select(vec!["a", "b", "../{ } ; \n"]);
    let service = (service(), vec(endpoint(), 0..5), option::weighted(0.2, 1000u16..1002));
    btree_map(name, option::weighted(0.8, service), 1..3)
}

fn plans(changes: Changes, prefer_same_node: bool) -> BTreeMap<Name, Plan> {
    let here = Here { node: "edge1".into(), prefer_same_node, zone: None, reach: Reach::All };
    let plan_of = |(name, change): (&str, Backed)| {
        let name = Name { namespace: "default".into(), name: name.into() };
        let new = change.map(|(service, endpoints, listener)| {
            plan(&name, &service, &endpoints, &here, |_| listener)
        });
        (name, new.unwrap_or_default())
    };
    changes.into_iter().map(plan_of).collect()
}

proptest! {
    #[test]
    fn every_history_ends_in_the_table_of_a_fresh_start(
        history in vec(changes(), 1..8),
        prefer in any::<bool>(),
    ) {
        let mut table = Table::default();
        let mut kernel = Model::default();
        kernel.apply(&table.full());
        for changes in history {
            let plans = plans(changes, prefer);
            kernel.apply(&table.update(plans.clone()).steps);
            let mut fresh = Model::default();
            fresh.apply(&table.full());
            prop_assert_eq!(&kernel, &fresh);
            let Difference { steps, flows } = table.update(plans);
            prop_assert!(steps.is_empty() && flows.is_empty(), "nothing new makes no work");
        }
        let gone = table.plans_of_nothing();
        kernel.apply(&table.update(gone).steps);
        let mut empty = Model::default();
        empty.apply(&Table::default().full());
        prop_assert_eq!(&kernel, &empty);
    }
}

impl Table {
    /// An empty plan for each service.
    fn plans_of_nothing(&self) -> BTreeMap<Name, Plan> {
        self.names().map(|name| (name.clone(), Plan::default())).collect()
    }
}

/// A network of a test's own.
struct Space(Child);

impl Space {
    /// Makes it; nothing where the test may not.
    fn new() -> Option<Self> {
        let able =
            rustix::process::geteuid().is_root() && Command::new(NFT).arg("-v").output().is_ok();
        if !able {
            assert!(
                std::env::var_os("CI").is_none_or(|it| it != "true"),
                "root and nft are needed"
            );
            eprintln!("SKIPPED: this test needs root and nft");
            return None;
        }
        let own = read_link("/proc/self/ns/net").unwrap();
        let holder = Command::new("unshare").args(["--net", "sleep", "100"]).spawn().unwrap();
        let space = Self(holder);
        while read_link(space.path()).is_ok_and(|path| path == own) {
            std::thread::yield_now();
        }
        Some(space)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// Opens a socket that stays in it.
    fn socket(&self) -> OwnedFd {
        let open = || {
            let file = File::open(self.path()).unwrap();
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), network).unwrap();
            netlink::open(Some(protocols::NETFILTER), 0, SocketFlags::empty()).unwrap()
        };
        std::thread::scope(|scope| scope.spawn(open).join().unwrap())
    }

    /// Carries transactions out one after the other, and returns what nft lists in the end.
    fn carry_out(&self, transactions: &[Vec<Step>]) -> String {
        let socket = self.socket();
        transactions.iter().for_each(|steps| carry_out(&socket, steps).unwrap());
        self.nft(&["-n", "list", "ruleset"])
    }

    fn nft(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("nsenter");
        let output = command
            .arg(format!("--net={}", self.path()))
            .arg(NFT)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).unwrap();
    }
}

const NFT: &str = "/usr/sbin/nft";

/// Returns what is listed, whatever was made first.
fn unordered(listed: &str) -> String {
    let text = listed.replace("elements = {", "\n").replace(['}', ','], "\n");
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn the_kernel_takes_every_transaction_and_agrees() {
    let Some(space) = Space::new() else { return };
    let config =
        ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(history in vec(changes(), 1..8), prefer in any::<bool>())| {
        let mut table = Table::default();
        let mut steps = vec![table.full()];
        steps.extend(history.into_iter().map(|it| table.update(plans(it, prefer)).steps));
        let followed = space.carry_out(&steps);
        let fresh = space.carry_out(&[table.full()]);
        prop_assert_eq!(unordered(&followed), unordered(&fresh));
    });
}

/// Rules of every kind, as `tests/table.nft` has them in the words of the program nft.
fn rules_of_every_kind() -> Vec<Step> {
    let label = |text: &str| Label::from(text);
    let rule = |chain: &str, rule| Step::Rule(label(chain), rule);
    let targets = |all: &[&str]| -> Vec<SocketAddr> {
        all.iter().map(|target| target.parse().unwrap()).collect()
    };
    let send = |family, protocol, all: &[&str], remember: Option<&str>| Rule::Send {
        family,
        protocol,
        targets: targets(all),
        remember: remember.map(label),
    };
    let (v4, v6) = (Family::V4, Family::V6);
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let goto = |chain: &str| Some(Verdict::Goto(label(chain)));
    let known = |set, chain| Rule::Known { family: v6, set: label(set), chain: label(chain) };
    let web = "10.96.0.7".parse().unwrap();
    let web6 = "fd00::7".parse().unwrap();
    vec![
        Step::Make,
        Step::Clients(label("clients6-a"), v6, 10_800),
        Step::Chain(label("all4-a")),
        Step::Chain(label("external4-a")),
        Step::Chain(label("end6-a")),
        Step::Chain(label("all6-a")),
        Step::Chain(label("proxy4-b")),
        rule("all4-a", send(v4, tcp, &["10.1.0.1:8080", "10.1.0.2:8081"], None)),
        rule("external4-a", Rule::Masquerade),
        rule("external4-a", Rule::Goto(label("all4-a"))),
        rule("end6-a", send(v6, udp, &["[fd01::1]:53"], Some("clients6-a"))),
        rule("all6-a", known("clients6-a", "end6-a")),
        rule("all6-a", Rule::Choose(vec![label("end6-a"), label("end6-a")])),
        rule("proxy4-b", Rule::Redirect { protocol: tcp, port: 4000 }),
        rule("proxy4-b", send(v6, tcp, &["[fd01::1]:80", "[fd01::2]:80"], None)),
        Step::Put(vec![
            (Element::Service(web, tcp, 80), goto("all4-a")),
            (Element::Service(web, udp, 53), Some(Verdict::Refuse)),
            (Element::Service(web, Protocol::Sctp, 7), Some(Verdict::Drop)),
        ]),
        Step::Put(vec![(Element::Service(web6, udp, 53), goto("all6-a"))]),
        Step::Put(vec![(Element::Port(v4, tcp, 30_080), goto("external4-a"))]),
        Step::Put(vec![(Element::Address(web), None)]),
        Step::Put(vec![(Element::Hairpin("10.1.0.1".parse().unwrap()), None)]),
        Step::Put(vec![(Element::Hairpin("fd01::1".parse().unwrap()), None)]),
        Step::Put(vec![(Element::Listener(tcp, 4000), None)]),
    ]
}

#[test]
fn the_kernel_s_table_is_the_one_that_the_program_nft_makes() {
    let (Some(ours), Some(theirs)) = (Space::new(), Space::new()) else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernel/tests/table.nft");
    theirs.nft(&["-f", script]);
    let expected = unordered(&theirs.nft(&["-n", "list", "ruleset"]));
    assert_eq!(unordered(&ours.carry_out(&[rules_of_every_kind()])), expected);
    let wire = |space: &Space| {
        let listed = space.nft(&["-n", "--debug=netlink", "list", "ruleset"]);
        // which number the kernel gave to a rule is no matter
        let own = |line: &&str| !line.starts_with("inet edgemesh");
        unordered(&listed.lines().filter(own).collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(wire(&ours), wire(&theirs), "on the wire too");
}

#[test]
fn a_step_that_the_kernel_refuses_is_named_and_nothing_is_done() {
    let Some(space) = Space::new() else { return };
    let before = space.carry_out(&[vec![Step::Remove, Step::Make]]);
    let steps = [Step::Chain("new".into()), Step::Flush("missing".into())];
    let error = carry_out(&space.socket(), &steps).unwrap_err();
    assert!(format!("{error:#}").contains("Flush(\"missing\")"), "{error:#}");
    assert_eq!(space.carry_out(&[]), before);
}
