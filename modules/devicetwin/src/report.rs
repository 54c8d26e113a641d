//! What `edgectl status` shows of devices and mappers.

use serde::Serialize;

use crate::core::{Core, Counts};

/// Mappers in the report, at most: a node has a few.
const MAX_MAPPERS: usize = 16;

/// The module's word of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    devices: usize,
    /// Devices of which the cloud has not confirmed everything.
    unconfirmed: usize,
    mappers: Vec<MapperReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapper_socket: Option<String>,
    /// Messages that found no way to eventbus.
    unpublished: u64,
    bad_input: Counts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct MapperReport {
    name: String,
    protocol: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Report {
    /// Makes the report; `trouble` says why there is no socket for mappers.
    pub(crate) fn new(core: &Core, trouble: Option<&String>, unpublished: u64) -> Self {
        let mappers = core.mappers.by_protocol.iter().take(MAX_MAPPERS);
        let mappers = mappers.map(|(protocol, mapper)| MapperReport {
            name: short(&mapper.info.name, 64),
            protocol: short(protocol, 64),
            state: if mapper.trouble.is_some() { "trouble" } else { "ok" },
            reason: mapper.trouble.as_deref().map(|reason| short(reason, 224)),
        });
        Self {
            devices: core.len(),
            unconfirmed: core.untold(),
            mappers: mappers.collect(),
            mapper_socket: trouble.map(|reason| short(reason, 256)),
            unpublished,
            bad_input: Counts { last: short(&core.counts.last, 256).into(), ..core.counts },
        }
    }
}

/// Shortens what mappers say of themselves to letters that are one byte each also in JSON: the
/// report has to fit whatever they say.
fn short(text: &str, length: usize) -> String {
    let plain = |letter: char| letter == ' ' || letter.is_ascii_graphic() && letter != '\\';
    let letter = |letter: char| match letter {
        '"' => '\'',
        letter if plain(letter) => letter,
        _ => '?',
    };
    text.chars().take(length).map(letter).collect()
}
