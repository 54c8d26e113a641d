//! The bodies of the fuzz targets of the modules, on the ordinary toolchain: every seed, seeds with
//! a few bytes changed, and bytes that never were one. `PROPTEST_CASES` says how many of each.
#![expect(clippy::unwrap_used, reason = "in a test a failure is the message")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[path = "../../fuzz/src/mutation.rs"]
mod mutation;

/// How often seeds are changed where nobody says; objects are long, and the fuzz step does more.
const CASES: u32 = 256;

/// The most of a target, whatever is asked for: most read whole objects, which take their time.
const MOST: u32 = 2_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// Shoots at one target.
fn shoot(name: &str, run: fn(&[u8])) {
    let seeds = mutation::seeds_of(&fuzz().join("seeds").join(name));
    seeds.iter().for_each(|seed| run(seed));
    let asked = env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let cases = asked.unwrap_or(CASES).min(MOST);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let noise = prop::collection::vec(any::<u8>(), 0..64);
    let shots = (mutation::changed(seeds), noise);
    let shot = |(bytes, noise): (Vec<u8>, Vec<u8>)| {
        run(&bytes);
        run(&noise);
        Ok(())
    };
    TestRunner::new(config).run(&shots, shot).unwrap();
}

/// One test for each target, so that they run side by side and a failure names its target.
macro_rules! shots {
    ($($name:ident => $run:path),* $(,)?) => {
        mod takes_rubbish_without_harm {
            $(#[test]
            fn $name() {
                super::shoot(stringify!($name), $run);
            })*
        }

        const SHOT_AT: &[&str] = &[$(stringify!($name)),*];
    };
}

shots! {
    pods => edged::trial::pods,
    manifests => edged::trial::manifests,
    node_requests => edged::trial::node_requests,
    container_logs => edged::trial::container_logs,
    runtime_answers => edged::trial::runtime_answers,
    plugin_answers => edged::trial::plugin_answers,
    small_words => edged::trial::small_words,
    cloud_messages => edgehub::trial::messages,
    certificates => edgehub::trial::certificates,
    store_messages => metamanager::trial::messages,
    local_requests => metaserver::trial::requests,
    cluster_answers => metaserver::trial::answers,
    bus_calls => servicebus::trial::calls,
    node_jobs => taskmanager::trial::job,
    tunnel_requests => edgestream::trial::sessions,
    mesh_objects => edgemesh::trial::objects::objects,
    configuration => edgecore::trial::configuration,
    configuration_edits => edgecore::trial::edits,
    metrics_requests => edgecore::trial::metrics_requests,
}

/// The other tests that run the bodies of targets.
const OTHERS: [&str; 5] = [
    "ipc-proto/tests/decoders.rs",
    "modules/devicetwin/tests/decoders.rs",
    "modules/edgemesh/tests/decoders.rs",
    "modules/edgestream/tests/decoders.rs",
    "modules/eventbus/tests/decoders.rs",
];

#[test]
fn every_fuzz_target_is_run_by_a_test() {
    let entries = fs::read_dir(fuzz().join("fuzz_targets")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let targets: BTreeSet<String> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let others = OTHERS.map(|file| fs::read_to_string(fuzz().join("..").join(file)).unwrap());
    let listed = fs::read_to_string(fuzz().join("../docs/security.md")).unwrap();
    for target in &targets {
        assert!(listed.contains(&format!("`{target}`")), "docs/security.md does not list {target}");
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not built");
        if SHOT_AT.contains(&target.as_str()) {
            continue;
        }
        let text = fs::read_to_string(fuzz().join(format!("fuzz_targets/{target}.rs"))).unwrap();
        let called = text.split("::").last().unwrap().split('(').next().unwrap().to_owned();
        let runs = |text: &String| text.contains(&called);
        assert!(others.iter().any(runs), "no test runs {target}");
    }
    for name in SHOT_AT {
        assert!(targets.contains(*name), "libFuzzer does not run {name}");
    }
}
