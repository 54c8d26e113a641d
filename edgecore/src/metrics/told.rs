//! What modules say of themselves, in numbers: the places in their reports, and the metrics that these
//! become. A report lacks what a module has no use for; then there is no sample.

use ipc_proto::Module;
use ipc_proto::control::ModuleStatus;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::families::{count, number};
use super::page::{Kind, Page};

/// How a value becomes a number.
#[derive(Clone, Copy)]
enum Read {
    /// It is one.
    Number,
    /// 1 when it is this word, else 0.
    Word(&'static str),
    /// 1 when it is true, else 0.
    Flag,
    /// A time of RFC 3339, as Unix time in seconds.
    Time,
    /// How many entries of the list have this value at this key.
    Entries(&'static str, Is),
}

/// What the entries that count have.
#[derive(Clone, Copy)]
enum Is {
    Text(&'static str),
    True,
    False,
}

/// A metric: name, kind, help, the module that reports it, and its samples.
type Family = (&'static str, Kind, &'static str, Module, &'static [Sample]);

/// A sample: its label, where it stands in the report, and how it is read.
type Sample = (Option<(&'static str, &'static str)>, &'static str, Read);

const fn plain(place: &'static str, read: Read) -> Sample {
    (None, place, read)
}

const fn of(label: &'static str, value: &'static str, place: &'static str) -> Sample {
    (Some((label, value)), place, Number)
}

use Kind::{Counter, Gauge};
use Module::{
    Devicetwin, Edged, Edgehub, Edgemesh, Edgestream, Eventbus, Metamanager, Metaserver,
    Servicebus, Taskmanager,
};
use Read::{Entries, Flag, Number, Time, Word};

const CLOUD: &[Family] = &[
    (
        "edgecore_cloud_connected",
        Gauge,
        "Whether the cloud serves this node.",
        Edgehub,
        &[plain("/state", Word("connected"))],
    ),
    (
        "edgecore_cloud_connects_total",
        Counter,
        "Links to the cloud that came to stand.",
        Edgehub,
        &[plain("/connects", Number)],
    ),
    (
        "edgecore_cloud_last_heartbeat_timestamp_seconds",
        Gauge,
        "When the cloud last took a heartbeat, in Unix time.",
        Edgehub,
        &[plain("/lastHeartbeat", Time)],
    ),
    (
        "edgecore_cloud_certificate_expiry_timestamp_seconds",
        Gauge,
        "When the node's certificate expires, in Unix time.",
        Edgehub,
        &[plain("/certificateExpires", Time)],
    ),
    (
        "edgecore_cloud_messages_waiting",
        Gauge,
        "Messages that wait to go up.",
        Edgehub,
        &[plain("/waiting", Number)],
    ),
    (
        "edgecore_cloud_messages_unconfirmed",
        Gauge,
        "Messages that went up and are not confirmed.",
        Edgehub,
        &[plain("/unconfirmed", Number)],
    ),
    (
        "edgecore_cloud_messages_in_work",
        Gauge,
        "Messages of the cloud that modules have in work.",
        Edgehub,
        &[plain("/inWork", Number)],
    ),
    (
        "edgecore_cloud_messages_refused_total",
        Counter,
        "Messages of the cloud that no module took, by why.",
        Edgehub,
        &[of("reason", "refused", "/refused"), of("reason", "unsupported", "/unsupported")],
    ),
];

const STORE_AND_PODS: &[Family] = &[
    (
        "edgecore_store_healthy",
        Gauge,
        "Whether the database takes what comes.",
        Metamanager,
        &[plain("/database/state", Word("ok"))],
    ),
    (
        "edgecore_store_rows",
        Gauge,
        "Objects in the database.",
        Metamanager,
        &[plain("/rows", Number)],
    ),
    (
        "edgecore_store_outbox_messages",
        Gauge,
        "Messages in the database that the cloud does not have yet.",
        Metamanager,
        &[plain("/outbox", Number)],
    ),
    (
        "edgecore_store_dropped_total",
        Counter,
        "Messages that had to go because the cloud was away for too long.",
        Metamanager,
        &[of("kind", "event", "/droppedEvents"), of("kind", "message", "/droppedMessages")],
    ),
    (
        "edgecore_runtime_ready",
        Gauge,
        "Whether the container runtime is ready.",
        Edged,
        &[plain("/runtime/state", Word("ready"))],
    ),
    ("edgecore_pods", Gauge, "Pods of this node.", Edged, &[plain("/pods", Number)]),
    (
        "edgecore_node_api_serving",
        Gauge,
        "Whether the node's own API is served.",
        Edged,
        &[plain("/api/serving", Flag)],
    ),
];

const DEVICES: &[Family] = &[
    ("edgecore_devices", Gauge, "Devices of this node.", Devicetwin, &[plain("/devices", Number)]),
    (
        "edgecore_devices_unconfirmed",
        Gauge,
        "Devices of which the cloud has not confirmed everything.",
        Devicetwin,
        &[plain("/unconfirmed", Number)],
    ),
    (
        "edgecore_mappers",
        Gauge,
        "Mappers by their state.",
        Devicetwin,
        &[
            (Some(("state", "ok")), "/mappers", Entries("state", Is::Text("ok"))),
            (Some(("state", "trouble")), "/mappers", Entries("state", Is::Text("trouble"))),
        ],
    ),
    (
        "edgecore_twin_unpublished_total",
        Counter,
        "Messages of devices that found no way to MQTT.",
        Devicetwin,
        &[plain("/unpublished", Number)],
    ),
    (
        "edgecore_twin_bad_input_total",
        Counter,
        "What devices, mappers or the cloud sent that could not be taken.",
        Devicetwin,
        &[
            of("kind", "request", "/badInput/badRequests"),
            of("kind", "unknown_device", "/badInput/unknownDevices"),
            of("kind", "object", "/badInput/badObjects"),
        ],
    ),
];

const BUSES: &[Family] = &[
    (
        "edgecore_mqtt_external_connected",
        Gauge,
        "Whether the external broker serves this node.",
        Eventbus,
        &[plain("/external/state", Word("connected"))],
    ),
    (
        "edgecore_mqtt_external_connects_total",
        Counter,
        "Connections with the external broker that came to stand.",
        Eventbus,
        &[plain("/external/connects", Number)],
    ),
    (
        "edgecore_mqtt_clients",
        Gauge,
        "Clients of the internal broker that are connected.",
        Eventbus,
        &[plain("/internal/clients", Number)],
    ),
    (
        "edgecore_mqtt_sessions",
        Gauge,
        "Sessions that the internal broker keeps.",
        Eventbus,
        &[plain("/internal/sessions", Number)],
    ),
    (
        "edgecore_mqtt_waiting_messages",
        Gauge,
        "MQTT messages on the disk that their receiver does not have yet.",
        Eventbus,
        &[
            of("to", "cloud", "/waiting/cloud/messages"),
            of("to", "twin", "/waiting/twin/messages"),
            of("to", "broker", "/waiting/broker/messages"),
        ],
    ),
    (
        "edgecore_mqtt_waiting_bytes",
        Gauge,
        "Bytes of these messages.",
        Eventbus,
        &[
            of("to", "cloud", "/waiting/cloud/bytes"),
            of("to", "twin", "/waiting/twin/bytes"),
            of("to", "broker", "/waiting/broker/bytes"),
        ],
    ),
    (
        "edgecore_mqtt_received_total",
        Counter,
        "MQTT messages that came.",
        Eventbus,
        &[plain("/counts/received", Number)],
    ),
    (
        "edgecore_mqtt_lost_total",
        Counter,
        "MQTT messages that were not passed on, by why.",
        Eventbus,
        &[
            of("reason", "dropped", "/counts/dropped"),
            of("reason", "overflowed", "/counts/overflowed"),
            of("reason", "expired", "/counts/expired"),
            of("reason", "refused", "/counts/refused"),
        ],
    ),
    (
        "edgecore_mqtt_violations_total",
        Counter,
        "Clients that broke the MQTT protocol.",
        Eventbus,
        &[plain("/counts/violations", Number)],
    ),
    (
        "edgecore_mqtt_journal_bytes",
        Gauge,
        "Size of the journal of MQTT messages.",
        Eventbus,
        &[plain("/journalBytes", Number)],
    ),
    (
        "edgecore_http_calls_from_cloud_total",
        Counter,
        "Calls of the cloud's router to services of this node.",
        Servicebus,
        &[
            of("result", "done", "/callsFromCloud/done"),
            of("result", "failed", "/callsFromCloud/failed"),
        ],
    ),
    (
        "edgecore_http_calls_from_node_total",
        Counter,
        "Calls of this node's applications to the cloud.",
        Servicebus,
        &[
            of("result", "done", "/callsFromNode/done"),
            of("result", "failed", "/callsFromNode/failed"),
        ],
    ),
];

const DOORS: &[Family] = &[
    (
        "edgecore_stream_connected",
        Gauge,
        "Whether the tunnel for logs and exec stands.",
        Edgestream,
        &[plain("/state", Word("connected"))],
    ),
    (
        "edgecore_stream_connects_total",
        Counter,
        "Tunnels that came to stand.",
        Edgestream,
        &[plain("/connects", Number)],
    ),
    (
        "edgecore_streams",
        Gauge,
        "Streams through the tunnel.",
        Edgestream,
        &[plain("/streams", Number)],
    ),
    (
        "edgecore_local_api_addresses_serving",
        Gauge,
        "Addresses at which the local API is served.",
        Metaserver,
        &[plain("/doors", Entries("serving", Is::True))],
    ),
    (
        "edgecore_node_jobs",
        Gauge,
        "Node jobs by what they do: a step, or wait for somebody on the node to agree.",
        Taskmanager,
        &[
            (Some(("state", "working")), "/jobs", Entries("waitsForConfirmation", Is::False)),
            (Some(("state", "waiting")), "/jobs", Entries("waitsForConfirmation", Is::True)),
        ],
    ),
    (
        "edgecore_node_jobs_ended_total",
        Counter,
        "Node jobs that came to an end, by how.",
        Taskmanager,
        &[of("result", "done", "/ended/done"), of("result", "failed", "/ended/failed")],
    ),
    (
        "edgecore_node_job_reports_unheard",
        Gauge,
        "Reports of node jobs that the cloud has not heard yet.",
        Taskmanager,
        &[plain("/unheard", Number)],
    ),
    (
        "edgecore_mesh_services",
        Gauge,
        "Services that the mesh knows.",
        Edgemesh,
        &[plain("/services", Number)],
    ),
    (
        "edgecore_mesh_services_carried",
        Gauge,
        "Services whose traffic the kernel carries.",
        Edgemesh,
        &[plain("/traffic/carried", Number)],
    ),
    (
        "edgecore_mesh_ports_proxied",
        Gauge,
        "Ports of services whose connections pass through the mesh's process.",
        Edgemesh,
        &[plain("/traffic/proxied", Number)],
    ),
];

const TUNNEL: &[Family] = &[
    (
        "edgecore_mesh_tunnel_relays",
        Gauge,
        "Relays and other far ends that the mesh dials, by their state.",
        Edgemesh,
        &[
            (Some(("state", "connected")), "/tunnel/relays", Entries("connected", Is::True)),
            (Some(("state", "away")), "/tunnel/relays", Entries("connected", Is::False)),
        ],
    ),
    (
        "edgecore_mesh_tunnel_connects_total",
        Counter,
        "Connections with these that came to stand.",
        Edgemesh,
        &[plain("/tunnel/counts/connects", Number)],
    ),
    (
        "edgecore_mesh_tunnel_nodes",
        Gauge,
        "Nodes that are connected with this one, directly or through a relay.",
        Edgemesh,
        &[plain("/tunnel/nodes", Number)],
    ),
    (
        "edgecore_mesh_tunnel_streams",
        Gauge,
        "Connections and flows of services through the tunnel.",
        Edgemesh,
        &[plain("/tunnel/streams", Number)],
    ),
    (
        "edgecore_mesh_tunnel_bytes_total",
        Counter,
        "Bytes of services through the tunnel.",
        Edgemesh,
        &[
            of("direction", "sent", "/tunnel/counts/sent"),
            of("direction", "received", "/tunnel/counts/received"),
        ],
    ),
    (
        "edgecore_mesh_tunnel_relayed_bytes_total",
        Counter,
        "Bytes of packets that this node passed on as a relay.",
        Edgemesh,
        &[plain("/tunnel/counts/relayed", Number)],
    ),
    (
        "edgecore_mesh_tunnel_lost_packets_total",
        Counter,
        "Packets of the tunnel for which there was no room.",
        Edgemesh,
        &[plain("/tunnel/counts/lost", Number)],
    ),
];

/// Writes what the modules report.
pub(super) fn write(page: &mut Page, modules: &[ModuleStatus]) {
    let families = [CLOUD, STORE_AND_PODS, DEVICES, BUSES, DOORS, TUNNEL];
    for &(name, kind, help, module, samples) in families.into_iter().flatten() {
        page.family(name, kind, help);
        let status = modules.iter().find(|status| status.name == module);
        let Some(report) = status.and_then(|status| status.report.as_ref()) else { continue };
        for (label, place, read) in samples {
            let value = report.pointer(place).and_then(|value| read.number(value));
            page.maybe(label.as_slice(), value);
        }
    }
}

impl Read {
    fn number(self, value: &Value) -> Option<f64> {
        match self {
            Self::Number => value.as_f64(),
            Self::Word(word) => value.as_str().map(|text| number(text == word)),
            Self::Flag => value.as_bool().map(number),
            Self::Time => {
                let time = OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()?;
                i32::try_from(time.unix_timestamp()).ok().map(f64::from)
            }
            Self::Entries(key, is) => {
                let counts = |entry: &&Value| match is {
                    Is::Text(text) => entry[key] == text,
                    Is::True => entry[key] == true,
                    Is::False => entry[key] == false,
                };
                value.as_array().map(|entries| count(entries.iter().filter(counts).count()))
            }
        }
    }
}
