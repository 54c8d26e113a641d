//! Any history of changes ends in the table that a fresh start would make.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::model::{Endpoint, Kind, Port, Protocol, Service};
use crate::targets::Here;

/// The kernel's table as the words of a script leave it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    sets: BTreeMap<String, String>,
    elements: BTreeMap<(String, String), String>,
    chains: BTreeMap<String, Vec<String>>,
}

impl Model {
    fn apply(&mut self, script: &str) {
        script.lines().for_each(|line| self.line(line));
    }

    /// Does what one line says, and fails where the kernel would.
    fn line(&mut self, line: &str) {
        let (action, rest) = line.split_once(" inet edgemesh").expect(line);
        let rest = rest.trim_start();
        let (name, how) = rest.split_once(' ').unwrap_or((rest, ""));
        match action {
            "add table" => {}
            "delete table" => *self = Self::default(),
            "add map" | "add set" => {
                assert_eq!(self.sets.insert(name.into(), how.into()), None, "{line}");
            }
            "add chain" => {
                let rules = Vec::from_iter((!how.is_empty()).then(|| how.to_owned()));
                assert_eq!(self.chains.insert(name.into(), rules), None, "{line}");
            }
            "add rule" => {
                self.refers(how, line);
                self.chains.get_mut(name).expect(line).push(how.to_owned());
            }
            "flush chain" => self.chains.get_mut(name).expect(line).clear(),
            "delete chain" => {
                assert_eq!(self.chains.remove(name), Some(Vec::new()), "{line}");
                let wanted = format!("goto {name}");
                let used =
                    |text: &str| text.split([',', '}']).any(|it| it.trim_end().ends_with(&wanted));
                assert!(!self.chains.values().flatten().any(|rule| used(rule)), "in use: {line}");
                assert!(!self.elements.values().any(|verdict| used(verdict)), "in use: {line}");
            }
            "delete set" => {
                self.sets.remove(name).expect(line);
                let wanted = format!("@{name} ");
                let mut rules = self.chains.values().flatten();
                assert!(!rules.any(|rule| rule.contains(&wanted)), "in use: {line}");
            }
            "add element" | "delete element" => {
                let list = how.trim_start_matches("{ ").trim_end_matches(" }");
                for element in list.split(", ") {
                    self.element(action == "add element", name, element, line);
                }
            }
            _ => panic!("unknown words: {line}"),
        }
    }

    fn element(&mut self, add: bool, set: &str, element: &str, line: &str) {
        assert!(self.sets.contains_key(set), "{line}");
        let (key, verdict) = element.split_once(" : ").unwrap_or((element, ""));
        let at = (set.to_owned(), key.to_owned());
        if add {
            self.refers(verdict, line);
            assert_eq!(self.elements.insert(at, verdict.to_owned()), None, "{line}");
        } else {
            assert_eq!(self.elements.remove(&at).as_deref(), Some(verdict), "{line}");
        }
    }

    /// Checks that what a text goes to exists.
    fn refers(&self, text: &str, line: &str) {
        let words: Vec<&str> = text.split([' ', ',']).collect();
        for pair in words.windows(2).filter(|pair| pair[0] == "goto") {
            assert!(self.chains.contains_key(pair[1]), "no chain {}: {line}", pair[1]);
        }
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
            hostname: None,
            ready,
            serving,
            ports: ports.into(),
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
    let here = Here { node: "edge1".into(), prefer_same_node };
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
            kernel.apply(&table.update(plans.clone()).unwrap_or_default());
            let mut fresh = Model::default();
            fresh.apply(&table.full());
            prop_assert_eq!(&kernel, &fresh);
            prop_assert_eq!(table.update(plans), None, "nothing new makes no work");
        }
        let gone = table.plans_of_nothing();
        kernel.apply(&table.update(gone).unwrap_or_default());
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

/// Carries scripts out one after the other in a network of their own, and returns what is there in
/// the end.
fn in_the_kernel(scripts: &[String]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = String::from("set -e\n");
    for (number, script) in scripts.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        std::fs::write(&path, script).unwrap();
        shell.push_str(&format!("nft -f {}\n", path.display()));
    }
    shell.push_str("nft -n list ruleset\n");
    let mut child = Command::new("unshare")
        .args(["--net", "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(shell.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the kernel refuses one of:\n{}", scripts.join("\n--\n"));
    // the order of chains is that of their making, and sets print as the kernel keeps them
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.replace("elements = {", "\n").replace(['}', ','], "\n");
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn the_kernel_takes_every_script_and_agrees() {
    let able = rustix::process::geteuid().is_root() && Nft::find().is_some();
    if !able {
        assert!(std::env::var_os("CI").is_none_or(|it| it != "true"), "root and nft are needed");
        eprintln!("SKIPPED: this test needs root and nft");
        return;
    }
    let config =
        ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(history in vec(changes(), 1..8), prefer in any::<bool>())| {
        let mut table = Table::default();
        let mut scripts = vec![table.full()];
        scripts.extend(history.into_iter().filter_map(|it| table.update(plans(it, prefer))));
        prop_assert_eq!(in_the_kernel(&scripts), in_the_kernel(&[table.full()]));
    });
}
