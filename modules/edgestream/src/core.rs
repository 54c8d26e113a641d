//! The sessions of one tunnel: which connections of the cloud stand, and what is to be done about
//! what comes. No IO and no clock.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::request::{self, Manner, Request};
use crate::words::{Frame, Kind};

/// Sessions at a time; CloudCore has no bound of its own.
pub(crate) const MAX_SESSIONS: usize = 256;

/// One life of a session: the cloud may use a connection's number again.
pub(crate) type Life = u64;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask the node.
    Open(u64, Life, Request),
    /// Bytes for the node.
    Feed(u64, Bytes),
    /// Let go of what was asked.
    Drop(u64),
    /// To the cloud: bytes of a connection, or its end.
    Say(u64, Kind, Bytes),
    /// End the tunnel: the cloud says why.
    Leave(String),
}

/// The sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: BTreeMap<u64, Life>,
    lives: Life,
    /// Address of the node's API.
    api: String,
}

impl Sessions {
    pub(crate) const fn new(api: String) -> Self {
        Self { open: BTreeMap::new(), lives: 0, api }
    }

    /// Returns how many stand.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes a frame of the cloud.
    pub(crate) fn came(&mut self, frame: Frame) -> Vec<Effect> {
        let Frame { connection, kind, data } = frame;
        let stands = self.open.contains_key(&connection);
        match kind {
            Kind::Logs | Kind::Exec | Kind::Metrics | Kind::Attach if !stands => {
                self.connect(connection, kind, &data)
            }
            Kind::Data if stands => vec![Effect::Feed(connection, data)],
            Kind::Remove if stands => {
                self.open.remove(&connection);
                // The cloud repeats its word until it hears this one.
                vec![Effect::Drop(connection), removed(connection)]
            }
            Kind::Close => vec![Effect::Leave(String::from_utf8_lossy(&data).into_owned())],
            // A connection that has ended here, or a number that is in use: to mix two streams
            // would be worse than to pass one over.
            Kind::Logs | Kind::Exec | Kind::Metrics | Kind::Attach | Kind::Data | Kind::Remove => {
                Vec::new()
            }
        }
    }

    fn connect(&mut self, connection: u64, kind: Kind, json: &[u8]) -> Vec<Effect> {
        let upgrade = matches!(kind, Kind::Exec | Kind::Attach);
        let manner = if upgrade { Manner::Upgrade } else { Manner::Get };
        if self.open.len() >= MAX_SESSIONS {
            let why = format!("this node's tunnel has {MAX_SESSIONS} streams already: end some");
            return refused(connection, manner, "503 Service Unavailable", &why);
        }
        match request::check(kind, json, &self.api) {
            Ok(request) => {
                self.lives += 1;
                self.open.insert(connection, self.lives);
                vec![Effect::Open(connection, self.lives, request)]
            }
            Err(refusal) => {
                let why = format!("the node refuses this request: {refusal}");
                refused(connection, manner, "403 Forbidden", &why)
            }
        }
    }

    /// Notes that the node's side of a session has ended; all of its bytes went out before.
    pub(crate) fn ended(&mut self, connection: u64, life: Life) -> Vec<Effect> {
        if self.open.get(&connection) != Some(&life) {
            return Vec::new();
        }
        self.open.remove(&connection);
        vec![Effect::Drop(connection), removed(connection)]
    }

    /// Notes that the node takes nothing of a session any more.
    pub(crate) fn stalled(&mut self, connection: u64) -> Vec<Effect> {
        if self.open.remove(&connection).is_none() {
            return Vec::new();
        }
        vec![Effect::Drop(connection), removed(connection)]
    }
}

const fn removed(connection: u64) -> Effect {
    Effect::Say(connection, Kind::Remove, Bytes::new())
}

fn refused(connection: u64, manner: Manner, status: &str, why: &str) -> Vec<Effect> {
    let text = failure(manner, status, why);
    vec![Effect::Say(connection, Kind::Data, text), removed(connection)]
}

/// Writes a failure so that the user sees it: an answer where the cloud passes the connection on as
/// it is, a line where it has answered already.
pub(crate) fn failure(manner: Manner, status: &str, why: &str) -> Bytes {
    match manner {
        Manner::Get => format!("{why}\n").into(),
        Manner::Upgrade => format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{why}\n",
            why.len() + 1
        )
        .into(),
    }
}

#[cfg(test)]
mod tests;
