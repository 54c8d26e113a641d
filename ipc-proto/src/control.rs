//! The control protocol between the operator's command and the supervisor.
//!
//! On the supervisor's stream socket `control.sock` the client writes one JSON line, the supervisor
//! answers with one JSON line and ends the connection. A [`Request::Tap`] carries the socket for
//! the records as an attached descriptor; its connection stays open as long as the operator looks.

use serde::{Deserialize, Serialize};

use crate::lifeline::{Confinement, Fault, Load, Traffic};
use crate::module::{Module, ModuleState};
use crate::tap::Filter;

/// The file name of the supervisor's socket inside the runtime folder.
pub const SOCKET_NAME: &str = "control.sock";

/// The file name of the socket at which metrics are asked for, inside the runtime folder.
pub const METRICS_SOCKET_NAME: &str = "metrics.sock";

/// The greatest request line in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;

/// The greatest response line in bytes.
pub const MAX_RESPONSE: usize = 1024 * 1024;

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The state of everything.
    Status,
    /// Start these modules; a module that runs stays as it is.
    Start {
        /// Which.
        modules: Vec<Module>,
    },
    /// Stop these modules and keep them stopped.
    Stop {
        /// Which.
        modules: Vec<Module>,
    },
    /// Stop these modules and start them at once, in dial order.
    Restart {
        /// Which.
        modules: Vec<Module>,
    },
    /// Put a fault into a module; refused unless supervisor.yaml enables faults.
    Fault {
        /// Into which.
        module: Module,
        /// Which fault.
        fault: Fault,
    },
    /// Show messages between modules; the socket for the records is attached.
    Tap {
        /// Which messages.
        filter: Filter,
    },
    /// Read the configuration again and run the supervisor's program file anew, in this process.
    /// It is the installed one, also while another is on trial: that ends the trial.
    Reload,
    /// Run another program file in this process as a reload would, on trial: unless a reload comes
    /// before the time is over, the installed one is run again and every module restarted.
    Try {
        /// The other program's file.
        program: Box<str>,
        /// For so many seconds.
        seconds: u64,
    },
}

/// What the supervisor answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// Done, or under way: the state shows when.
    Done,
    /// Not done.
    Failed {
        /// One line that names the thing, the value and what was expected.
        reason: String,
    },
    /// The state of everything.
    Status(Box<Status>),
}

/// The state of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// The whole in one word.
    pub state: AgentState,
    /// Seconds since the agent started; a reload does not count as a start.
    pub uptime_seconds: f64,
    /// The supervisor's process.
    pub pid: u32,
    /// Times that the supervisor re-executed itself.
    pub reloads: u32,
    /// What the host does not allow, one sentence each.
    pub not_in_force: Vec<String>,
    /// Whether faults may be injected.
    pub faults: bool,
    /// One for each module, in dial order.
    pub modules: Vec<ModuleStatus>,
}

/// The agent in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Every enabled module runs, or was stopped by the operator.
    Running,
    /// An enabled module does not run.
    Degraded,
    /// The agent is on its way out.
    Stopping,
}

/// The state of one module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleStatus {
    /// Which.
    pub name: Module,
    /// Its state.
    pub state: ModuleState,
    /// Its process, where it has one.
    pub pid: Option<u32>,
    /// Since when it is in this state: Unix time in milliseconds.
    pub since: i64,
    /// Starts after the first.
    pub restarts: u32,
    /// How it ended last.
    pub last_exit: Option<LastExit>,
    /// When the next start is due, where one is: Unix time in milliseconds.
    pub next_start: Option<i64>,
    /// What it holds.
    pub load: Load,
    /// What it says of itself: the JSON object of its latest report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<serde_json::Value>,
    /// The confinement in force.
    pub confinement: Option<Confinement>,
    /// The control group that it runs in, where there is one.
    pub cgroup: Option<String>,
    /// Bound on its memory in bytes, where there is one.
    pub memory_max: Option<u64>,
    /// Its latest beat: Unix time in milliseconds; none unless it runs.
    #[serde(default)]
    pub last_beat: Option<i64>,
    /// What has passed between it and its peers.
    #[serde(default)]
    pub traffic: Traffic,
    /// How often it ended, by what ended it.
    #[serde(default)]
    pub exits: Exits,
}

/// How often a module ended since the agent started, by what ended it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exits {
    /// The operator or the agent asked it to.
    pub requested: u32,
    /// A signal that was not the supervisor's.
    pub signal: u32,
    /// By itself.
    pub exit: u32,
    /// It gave no sign of life, and was killed.
    pub hang: u32,
    /// Its bound on memory.
    pub oom: u32,
    /// It lived on without its lifeline, and was killed.
    pub lifeline: u32,
}

/// How a module ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastExit {
    /// `signal 9`, `exit 1`, `hang`, `oom`, `requested` or `lifeline closed`.
    pub reason: String,
    /// When: Unix time in milliseconds.
    pub at: i64,
    /// The process that ended.
    pub pid: u32,
    /// The last lines of its standard error, a panic's message among them; at most 4 KiB.
    pub last_lines: Vec<String>,
}
