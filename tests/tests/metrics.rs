//! The metrics: they are there for every module, dead or alive, and nothing that comes to their doors
//! harms anybody.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::{fs, iter};

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::bus::{Mode, Place};
use edgecore_tests::rig::mosquitto::free_port;
use edgecore_tests::rig::scrape::{self, Scrape, names_in};
use edgecore_tests::rig::{self, Rig, SOON, Setup, process, wait_for, wait_until};
use ipc_proto::Module;
use ipc_proto::control::{METRICS_SOCKET_NAME, Request};
use rustix::process::Signal;
use serde_json::{Value, json};

fn of(module: Module) -> String {
    format!("module=\"{module}\"")
}

fn in_state(scrape: &Scrape, module: Module, state: &str) -> Result<bool> {
    let labels = format!("module=\"{module}\",state=\"{state}\"");
    Ok(scrape.value("edgecore_module_state", &labels)? == 1.0)
}

/// A rig that serves metrics at a port, too.
fn with_port() -> Result<(Rig, u16)> {
    let port = free_port()?;
    Ok((Setup::new()?.with(json!({"metrics": {"port": port}})).start()?, port))
}

/// Returns the process that serves metrics, if there is one.
fn exporter(rig: &Rig) -> Option<u32> {
    process::children(rig.supervisor_pid()).into_iter().find(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(b"metrics")
    })
}

#[test]
fn every_module_is_told_of_also_when_it_is_dead_or_frozen() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let scrape = rig.scrape()?;
    for module in Module::ALL {
        assert!(in_state(&scrape, module, "running")?, "{module}");
        assert!(scrape.value("edgecore_process_resident_memory_bytes", &of(module))? > 100_000.0);
        assert!(scrape.value("edgecore_process_open_fds", &of(module))? > 3.0, "{module}");
        assert!(scrape.value("edgecore_process_threads", &of(module))? >= 1.0, "{module}");
        scrape.value("edgecore_process_cpu_seconds_total", &of(module))?;
        scrape.value("edgecore_module_last_beat_age_seconds", &of(module))?;
    }
    assert_eq!(scrape.value("edgecore_process_threads", "module=\"supervisor\"")?, 1.0);
    let old = rig.pid_of(Module::Edged)?;
    rig.signal(Module::Edged, Signal::KILL)?;
    rig.wait_until_back(Module::Edged, old)?;
    rig.demand(&Request::Stop { modules: vec![Module::Eventbus] })?;
    let status = rig.wait("eventbus is away", |status| {
        rig::of(status, Module::Eventbus).is_ok_and(|module| module.pid.is_none())
    })?;
    for pid in status.modules.iter().filter_map(|module| module.pid) {
        process::signal(pid, Signal::STOP)?;
    }
    let told = |scrape: &Scrape| in_state(scrape, Module::Eventbus, "stopped").unwrap_or(false);
    let scrape = wait_for("what is new is told", SOON, || rig.scrape().ok().filter(told))?;
    assert_eq!(scrape.value("edgecore_module_restarts_total", &of(Module::Edged))?, 1.0);
    let killed = format!("{},reason=\"signal\"", of(Module::Edged));
    assert_eq!(scrape.value("edgecore_module_exits_total", &killed)?, 1.0);
    scrape.value("edgecore_module_last_exit_timestamp_seconds", &of(Module::Edged))?;
    let stopped = of(Module::Eventbus);
    assert!(scrape.value("edgecore_process_threads", &stopped).is_err(), "of no process");
    Ok(())
}

#[test]
fn messages_between_modules_are_counted() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let name = "edgecore_module_peers";
    let met =
        |scrape: &Scrape| scrape.value(name, &of(Module::Metamanager)).is_ok_and(|it| it > 4.0);
    let scrape = wait_for("a beat tells of peers", SOON, || rig.scrape().ok().filter(met))?;
    let value = |name: &str| scrape.value(name, &of(Module::Metamanager));
    assert!(value("edgecore_module_connections_total")? > 4.0);
    assert!(value("edgecore_module_messages_sent_total")? > 0.0);
    assert!(value("edgecore_module_messages_received_total")? > 0.0);
    value("edgecore_module_queue_waiting")?;
    value("edgecore_module_queue_unsettled")?;
    value("edgecore_module_queue_bytes").map(drop)
}

#[test]
fn a_collector_that_prefers_open_metrics_gets_them() -> Result<()> {
    let rig = Setup::new()?.start()?;
    let mut stream = UnixStream::connect(rig.runtime_dir().join(METRICS_SOCKET_NAME))?;
    stream.set_read_timeout(Some(SOON))?;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, page) = answer.split_once("\r\n\r\n").context("no body")?;
    assert!(
        head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(page.contains("\n# TYPE edgecore_module_restarts counter\n"), "{page}");
    assert!(page.contains("\nedgecore_module_restarts_total{module=\"edged\"} 0\n"), "{page}");
    assert!(page.ends_with("\n# EOF\n"), "{page}");
    Ok(())
}

#[test]
fn rubbish_at_the_port_harms_nobody_and_keeps_nobody_out() -> Result<()> {
    let (rig, port) = with_port()?;
    let before = rig.snapshot()?;
    let dial = || TcpStream::connect(("127.0.0.1", port)).context("nobody listens");
    // Some say nothing, some begin and never end, some send a head without end.
    let silent = iter::repeat_with(dial).take(100).collect::<Result<Vec<_>>>()?;
    let mut slow = iter::repeat_with(dial).take(100).collect::<Result<Vec<_>>>()?;
    for stream in &mut slow {
        // Those for whom there was no room any more are gone.
        drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nX: "));
    }
    scrape::at_port(port)?;
    for rubbish in
        [&[0xff_u8; 1 << 20][..], b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"]
    {
        let mut stream = dial()?;
        stream.set_read_timeout(Some(SOON))?;
        drop(stream.write_all(rubbish));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        // Cut in the middle of what it sends, a client may see an error in the place of an answer.
        drop(stream.read_to_end(&mut answer));
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        scrape::at_port(port)?;
    }
    let exporter = exporter(&rig).context("who serves?")?;
    let memory = process::status_field(exporter, "VmRSS")?;
    let kilobytes: u64 = memory.split_whitespace().next().context("no number")?.parse()?;
    assert!(kilobytes < 32 << 10, "the exporter takes {memory}");
    assert_eq!(process::status_field(exporter, "CapEff")?.trim(), "0000000000000000");
    let holders = process::descriptors(exporter)?.len();
    assert!(holders < 40, "the exporter holds {holders} descriptors");
    drop((silent, slow));
    before.still_holds_but_for(&rig, &[])
}

#[test]
fn a_killed_exporter_is_made_anew_and_does_not_outlive_its_supervisor() -> Result<()> {
    let (mut rig, port) = with_port()?;
    assert_eq!(exporter(&rig), None, "nobody has asked");
    rig.scrape()?;
    let first = exporter(&rig).context("who serves?")?;
    process::signal(first, Signal::KILL)?;
    wait_until("another serves", SOON, || {
        scrape::at_port(port).is_ok() && exporter(&rig).is_some_and(|pid| pid != first)
    })?;
    let second = exporter(&rig).context("who serves?")?;
    rig.end(Signal::KILL)?;
    wait_until("it has ended", SOON, || !process::lives(second))
}

#[test]
fn the_doors_stay_open_over_a_reload_and_a_new_port_counts() -> Result<()> {
    let (rig, port) = with_port()?;
    scrape::at_port(port)?;
    assert_eq!(rig.edgectl(&["reload"])?.code, 0);
    wait_until("it is served", SOON, || scrape::at_port(port).is_ok() && rig.scrape().is_ok())?;
    assert_eq!(rig.scrape()?.value("edgecore_reloads_total", "")?, 1.0);
    let other = free_port()?;
    let mut settings = rig.setup().supervisor.clone();
    settings["metrics"]["port"] = json!(other);
    fs::write(rig.setup().folder.path().join("supervisor.yaml"), settings.to_string())?;
    assert_eq!(rig.edgectl(&["reload"])?.code, 0);
    wait_until("the new port is served", SOON, || scrape::at_port(other).is_ok())?;
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the old port is served");
    Ok(())
}

#[test]
fn a_port_that_another_has_is_said_and_nothing_else() -> Result<()> {
    let other = TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?;
    let rig = Setup::new()?.with(json!({"metrics": {"port": address.port()}})).start()?;
    let status = rig.status()?;
    let said = format!("metrics are not served on {address}: ");
    assert!(
        status.not_in_force.iter().any(|it| it.starts_with(&said)),
        "{:?}",
        status.not_in_force
    );
    rig.scrape().map(drop)
}

/// Reads a file of the repository.
fn file(path: &str) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository")?;
    fs::read_to_string(root.join(path)).with_context(|| path.to_owned())
}

/// Returns the queries of a dashboard.
fn queries(dashboard: &Value) -> Result<Vec<&str>> {
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut ids: Vec<_> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == panels.len() && panels.len() > 8, "each panel has a number of its own");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().context("a target without a query")).collect()
}

/// What a node has only under conditions that the rig does not make.
const ABSENT: [&str; 3] = [
    "edgecore_module_next_start_timestamp_seconds",
    "edgecore_mesh_services_carried",
    "edgecore_mesh_ports_proxied",
];

#[test]
fn dashboard_alerts_and_documentation_name_what_a_node_tells() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&file("packaging/grafana-dashboard.json")?)?;
    let dashboard = queries(&dashboard)?.join("\n");
    let alerts = file("packaging/prometheus-alerts.yaml")?;
    let documents = names_in(&file("docs/observability.md")?);
    let place = Place::with(Mode::Both, json!({}), |setup| {
        for module in Module::ALL {
            setup.supervisor["modules"][module.name()]["enabled"] = json!(true);
        }
        Ok(())
    })?;
    let shown = names_in(&dashboard);
    let whole = |scrape: &Scrape| {
        let told = |name: &String| scrape.0.get(name).is_some_and(|it| !it.samples.is_empty());
        shown.iter().all(|name| told(name) || ABSENT.contains(&name.as_str()))
    };
    let mut last = None;
    let found = wait_for("all that the dashboard shows is told", SOON, || {
        last = place.rig.scrape().ok();
        last.clone().filter(whole)
    });
    let scrape = found.with_context(|| {
        let empty = shown.iter().filter(|name| {
            last.as_ref().and_then(|it| it.0.get(*name)).is_none_or(|it| it.samples.is_empty())
        });
        format!("nothing is told of {:?}", empty.collect::<Vec<_>>())
    })?;
    for name in names_in(&alerts) {
        assert!(scrape.0.contains_key(&name), "an alert of {name}, which is not told");
    }
    let told = scrape.0.keys().cloned().collect();
    assert_eq!(documents, told, "docs/observability.md names others than the node tells");
    Ok(())
}
