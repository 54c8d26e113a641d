//! The metrics: what the supervisor knows of each module, also of one that is dead, what each process
//! takes of the machine, and what the modules say of themselves.

use std::path::Path;

use ipc_proto::ModuleState;
use ipc_proto::control::{AgentState, Exits, ModuleStatus, Status};

use super::page::{Format, Kind, Page};
use super::told;
use super::usage::{self, Usage};

/// The states of a module, by the words of `edgectl status`.
const STATES: [(&str, ModuleState); 6] = [
    ("running", ModuleState::Running),
    ("starting", ModuleState::Starting),
    ("backoff", ModuleState::Backoff),
    ("held", ModuleState::Held),
    ("stopped", ModuleState::Stopped),
    ("disabled", ModuleState::Disabled),
];

/// Makes the page. `now` is Unix time in seconds, `root` the folder that has `proc` in it.
pub(super) fn page(status: &Status, now: f64, root: &Path, format: Format) -> String {
    let mut page = Page::new(format);
    of_agent(&mut page, status);
    of_lives(&mut page, &status.modules);
    of_clocks(&mut page, &status.modules, now);
    of_traffic(&mut page, &status.modules);
    of_processes(&mut page, status, root);
    told::write(&mut page, &status.modules);
    page.finish()
}

fn of_agent(page: &mut Page, status: &Status) {
    use Kind::{Counter, Gauge};
    page.family("edgecore_info", Gauge, "The agent's version and the node's name; always 1.");
    page.sample(&[("version", &status.version), ("node", &status.node)], 1.0);
    page.family("edgecore_degraded", Gauge, "Whether a module that should run does not.");
    page.sample(&[], number(status.state == AgentState::Degraded));
    page.family("edgecore_uptime_seconds", Gauge, "Time since the agent started.");
    page.sample(&[], status.uptime_seconds);
    page.family("edgecore_reloads_total", Counter, "Times that the supervisor reloaded.");
    page.sample(&[], f64::from(status.reloads));
    let help = "Protections that were asked for and that this host does not have.";
    page.family("edgecore_not_in_force", Gauge, help);
    page.sample(&[], count(status.not_in_force.len()));
}

/// State, restarts and ends.
fn of_lives(page: &mut Page, modules: &[ModuleStatus]) {
    let help = "Whether the module is in this state; one state has 1.";
    page.family("edgecore_module_state", Kind::Gauge, help);
    for module in modules {
        for (word, state) in STATES {
            let labels = [("module", module.name.name()), ("state", word)];
            page.sample(&labels, number(module.state == state));
        }
    }
    let help = "Starts of the module after its first.";
    page.family("edgecore_module_restarts_total", Kind::Counter, help);
    for module in modules {
        page.sample(&[("module", module.name.name())], f64::from(module.restarts));
    }
    let help = "Ends of the module's process by what ended it.";
    page.family("edgecore_module_exits_total", Kind::Counter, help);
    for module in modules {
        let Exits { requested, signal, exit, hang, oom, lifeline } = module.exits;
        let reasons = [
            ("requested", requested),
            ("signal", signal),
            ("exit", exit),
            ("hang", hang),
            ("oom", oom),
            ("lifeline", lifeline),
        ];
        for (reason, times) in reasons {
            let labels = [("module", module.name.name()), ("reason", reason)];
            page.sample(&labels, f64::from(times));
        }
    }
}

/// What happened when.
fn of_clocks(page: &mut Page, modules: &[ModuleStatus], now: f64) {
    let mut each = |name, help, at: fn(&ModuleStatus) -> Option<i64>, age: bool| {
        page.family(name, Kind::Gauge, help);
        for module in modules {
            let seconds = at(module).map(seconds);
            let shown = if age { seconds.map(|at| (now - at).max(0.0)) } else { seconds };
            page.maybe(&[("module", module.name.name())], shown);
        }
    };
    let help = "Time since the module's main loop last showed that it turns.";
    each("edgecore_module_last_beat_age_seconds", help, |it| it.last_beat, true);
    let help = "Since when the module is in its state, in Unix time.";
    each("edgecore_module_state_since_timestamp_seconds", help, |it| Some(it.since), false);
    let help = "When the module's process last ended, in Unix time.";
    let at = |it: &ModuleStatus| it.last_exit.as_ref().map(|exit| exit.at);
    each("edgecore_module_last_exit_timestamp_seconds", help, at, false);
    let help = "When the module is started next, in Unix time; only while it waits for that.";
    each("edgecore_module_next_start_timestamp_seconds", help, |it| it.next_start, false);
}

/// What passes between modules; of those that live.
fn of_traffic(page: &mut Page, modules: &[ModuleStatus]) {
    use Kind::{Counter, Gauge};
    type Read = fn(&ModuleStatus) -> f64;
    let families: [(&str, Kind, &str, Read); 7] = [
        (
            "edgecore_module_messages_sent_total",
            Counter,
            "Messages and answers written to other modules.",
            |it| wide(it.traffic.sent),
        ),
        (
            "edgecore_module_messages_received_total",
            Counter,
            "Messages and answers taken from other modules.",
            |it| wide(it.traffic.received),
        ),
        (
            "edgecore_module_queue_waiting",
            Gauge,
            "Messages to other modules that were not written yet.",
            |it| f64::from(it.load.waiting),
        ),
        (
            "edgecore_module_queue_unsettled",
            Gauge,
            "Messages that were written and that their receiver has not settled.",
            |it| f64::from(it.load.unsettled),
        ),
        (
            "edgecore_module_queue_bytes",
            Gauge,
            "Bytes of the messages that wait or are not settled.",
            |it| wide(it.traffic.queued_bytes),
        ),
        ("edgecore_module_peers", Gauge, "Modules that this one is connected with.", |it| {
            f64::from(it.traffic.peers)
        }),
        (
            "edgecore_module_connections_total",
            Counter,
            "Connections with other modules that came to stand.",
            |it| wide(it.traffic.connections),
        ),
    ];
    for (name, kind, help, read) in families {
        page.family(name, kind, help);
        for module in modules.iter().filter(|module| module.pid.is_some()) {
            page.sample(&[("module", module.name.name())], read(module));
        }
    }
}

/// What the processes take of the machine, the supervisor's among them.
fn of_processes(page: &mut Page, status: &Status, root: &Path) {
    use Kind::{Counter, Gauge};
    type Read = fn(&Usage) -> Option<f64>;
    let families: [(&str, Kind, &str, Read); 5] = [
        (
            "edgecore_process_resident_memory_bytes",
            Gauge,
            "Memory of the process, with what it shares.",
            |it| it.resident,
        ),
        (
            "edgecore_process_anonymous_memory_bytes",
            Gauge,
            "Memory of the process alone, without the program's file.",
            |it| it.anonymous,
        ),
        ("edgecore_process_threads", Gauge, "Threads of the process.", |it| it.threads),
        ("edgecore_process_open_fds", Gauge, "Open descriptors of the process.", |it| it.open_fds),
        (
            "edgecore_process_cpu_seconds_total",
            Counter,
            "Processor time of the process, of user and kernel.",
            |it| it.cpu,
        ),
    ];
    let modules = status.modules.iter().filter_map(|it| Some((it.name.name(), it.pid?)));
    let processes: Vec<(&str, Usage)> = std::iter::once(("supervisor", status.pid))
        .chain(modules)
        .map(|(name, pid)| (name, usage::usage(root, pid)))
        .collect();
    for (name, kind, help, read) in families {
        page.family(name, kind, help);
        for (module, usage) in &processes {
            page.maybe(&[("module", module)], read(usage));
        }
    }
    let help = "Memory of the module's control group, with page cache.";
    page.family("edgecore_module_group_memory_bytes", Gauge, help);
    for module in status.modules.iter().filter(|module| module.pid.is_some()) {
        let bytes = module.cgroup.as_deref().and_then(|group| usage::group(root, group));
        page.maybe(&[("module", module.name.name())], bytes);
    }
    page.family("edgecore_module_memory_limit_bytes", Gauge, "Bound on the module's memory.");
    for module in &status.modules {
        page.maybe(&[("module", module.name.name())], module.memory_max.map(wide));
    }
}

/// Returns 1 for yes and 0 for no.
pub(super) fn number(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count beyond 2^53 is off by less than it matters"
)]
pub(super) const fn wide(count: u64) -> f64 {
    count as f64
}

pub(super) const fn count(count: usize) -> f64 {
    wide(count as u64)
}

/// Turns milliseconds into seconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 milliseconds are 285 thousand years")]
const fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}
