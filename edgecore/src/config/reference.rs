//! The keys of `supervisor.yaml` in one table: the reader knows no others, and `docs/configuration.md`
//! is made of it. Keys of a module's own below their first stand with their reader.

#[cfg(test)]
mod tests;

/// A key: its place (the keys from the top, with dots between them; `NAME` is any module), what holds
/// where the file does not have it (a value stands in backticks), what it may be, and what it does.
type Key = (&'static str, &'static str, &'static str, &'static str);

const KEYS: &[Key] = &[
    (
        "logLevel",
        "`info`",
        "`error` `warn` `info` `debug` `trace`",
        "log lines at this level and above; a release has nothing finer than `debug`",
    ),
    ("faults", "`false`", "boolean", "whether `edgectl fault` is obeyed"),
    (
        "user",
        "`edgecore`, where it exists",
        "user name or id",
        "who runs the modules that need no root, but for taskmanager",
    ),
    ("beat.interval", "`3s`", "duration, 1 ms or more", "pause between two beats of a module"),
    (
        "beat.patience",
        "`10s`",
        "duration, at least two intervals",
        "a module whose last beat is older is hung",
    ),
    ("readyTimeout", "`10s`", "duration", "a module that is not ready by then is killed"),
    ("stopTimeout", "`10s`", "duration", "a module that has not drained by then is killed"),
    (
        "restart.initial",
        "`1s`",
        "duration",
        "the pause before the second restart; the first is at once",
    ),
    (
        "restart.ceiling",
        "`30s`",
        "duration, at least `initial`",
        "the longest pause; a module that reaches it is held",
    ),
    (
        "restart.stableAfter",
        "`60s`",
        "duration",
        "a module that ran this long counts as well again",
    ),
    (
        "queue.messages",
        "`1024`",
        "1 to 1000000",
        "messages that may wait or be unsettled, to each peer",
    ),
    ("queue.bytes", "`4Mi`", "quantity, `4Ki` or more", "bytes that they may take"),
    (
        "metrics.port",
        "none",
        "1 to 65535",
        "where [metrics](observability.md) are served beside their Unix socket",
    ),
    (
        "metrics.address",
        "`127.0.0.1`",
        "IP address",
        "whose port that is; everybody who reaches another than the loopback may read them",
    ),
    (
        "modules.NAME.enabled",
        "`enable` of edgecore.yaml",
        "boolean",
        "whether the module runs; edgemesh runs only if this says so",
    ),
    (
        "modules.NAME.user",
        "`user` above; root for edged, edgemesh and taskmanager",
        "user name or id",
        "who runs it",
    ),
    (
        "modules.NAME.memoryMax",
        "none",
        "quantity, `4Mi` or more",
        "bound on its memory: control group v2, else the address space",
    ),
    (
        "modules.NAME.memoryHigh",
        "none",
        "quantity, `4Mi` or more",
        "memory above this is reclaimed (control group v2)",
    ),
    (
        "modules.NAME.cpuWeight",
        "none",
        "1 to 10000",
        "share of the processor under load (control group v2)",
    ),
    ("modules.NAME.pidsMax", "none", "1 or more", "processes and threads (control group v2)"),
    ("modules.NAME.openFiles", "the host's", "16 to 1048576", "open files"),
    ("modules.NAME.seccomp", "`true`", "boolean", "whether system calls are filtered"),
    (
        "modules.NAME.landlock",
        "`true`",
        "boolean",
        "whether files are fenced; never in force for edged, which mounts volumes",
    ),
    ("modules.NAME.logLevel", "`logLevel` above", "as above", "the same, for one module"),
    ("modules.NAME.queue", "`queue` above", "as above", "the same, for one module"),
    (
        "modules.eventbus.mqttUsers.USER",
        "nobody, so everybody",
        "`password`, and lists of topic filters `publish` and `subscribe`; without a list everything",
        "who may use the internal MQTT broker, and for what. The file then has to be root's to read \
         alone",
    ),
    (
        "modules.edgemesh.dns",
        "see [the mesh](#supervisoryaml-the-mesh)",
        "table",
        "how the mesh answers names",
    ),
    (
        "modules.edgemesh.traffic",
        "see [the mesh](#supervisoryaml-the-mesh)",
        "table",
        "how the mesh carries traffic",
    ),
];

/// Returns the keys that may stand at a place: all that the table has directly below it.
pub(super) fn below(place: &str) -> Vec<&'static str> {
    let inside = |key: &'static str| match place {
        "" => Some(key),
        _ => key.strip_prefix(place)?.strip_prefix('.'),
    };
    let mut keys = Vec::new();
    for (key, ..) in KEYS {
        let first = inside(key).and_then(|rest| rest.split('.').next());
        keys.extend(first.filter(|first| !keys.contains(first)));
    }
    keys
}
