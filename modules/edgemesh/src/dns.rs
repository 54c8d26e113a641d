//! Names: answers for the cluster's from the table of services, and asks the host's name servers for
//! all others.
//!
//! One task owns the replies that are kept and decides; connections, and questions to other servers,
//! have tasks of their own, bounded in number.

mod cache;
mod door;
mod fqdn;
mod link;
mod lookup;
mod names;
#[cfg(test)]
mod tests;
pub mod trial;
mod upstream;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::config::Dns;
use crate::services::Services;
use cache::{Cache, Held};
pub(crate) use door::{Standing, open};
pub(crate) use link::remove as unlink;
pub use lookup::resolve;
pub(crate) use lookup::{Found, find};
use names::Outcome;
pub(crate) use names::Zone;
use upstream::Upstreams;
use wire::{Foreign, Malformed, Query, Record, Reply, code};

/// Questions to other servers at a time; what comes beyond fails.
const QUESTIONS: usize = 256;

/// How long other servers may take together.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long they may take where there is a stale answer (RFC 8767 §5).
const SHORT_PATIENCE: Duration = Duration::from_millis(1800);

/// For how long servers that did not answer are not asked where there is a stale answer.
const AWAY: Duration = Duration::from_secs(5);

/// The longest reply through a connection, in bytes.
const STREAM: usize = 65_535;

/// Who asks.
#[derive(Debug)]
enum Client {
    Datagram(SocketAddr),
    Stream(oneshot::Sender<Vec<u8>>),
}

impl Client {
    /// Returns how long a reply may be, in bytes.
    fn room(&self, query: &Query) -> usize {
        match self {
            Self::Datagram(_) => query.room(),
            Self::Stream(_) => STREAM,
        }
    }
}

/// A query that other servers have to answer.
#[derive(Debug)]
struct Job {
    client: Client,
    query: Query,
    /// The names of the cluster that lead to what is asked, where there are such.
    chain: Vec<Record>,
    /// What is asked of the other servers.
    ask: Query,
}

impl Job {
    /// Writes the answer that a reply to the question is.
    fn encode(&self, reply: &Foreign, left: impl Fn(u32) -> u32) -> Vec<u8> {
        let room = self.client.room(&self.query);
        if self.chain.is_empty() {
            return reply.encode(&self.query, room, left);
        }
        let mut answers = self.chain.clone();
        let found = reply.answers.iter().cloned();
        answers.extend(found.map(|record| Record { ttl: left(record.ttl), ..record }));
        Reply { code: reply.code(), answers, ..Reply::default() }.encode(&self.query, room)
    }

    /// Writes that nobody knows.
    fn failure(&self) -> Vec<u8> {
        let room = self.client.room(&self.query);
        Reply { answers: self.chain.clone(), ..Reply::of(code::FAILURE) }.encode(&self.query, room)
    }
}

/// How a question ended.
type Done = (Job, Option<Foreign>);

/// Decides.
struct Desk {
    zone: Zone,
    services: Services,
    upstreams: Upstreams,
    cache: Cache,
    socket: Arc<UdpSocket>,
    places: Arc<Semaphore>,
    done: mpsc::Sender<Done>,
    /// Until when the other servers are not asked where there is a stale answer.
    away: Option<Instant>,
}

impl Desk {
    fn new(
        config: &Dns,
        services: Services,
        socket: Arc<UdpSocket>,
        done: mpsc::Sender<Done>,
    ) -> Self {
        Self {
            zone: config.zone.clone(),
            services,
            upstreams: Upstreams::new(config.upstreams.clone(), config.listen),
            cache: Cache::default(),
            socket,
            places: Arc::new(Semaphore::new(QUESTIONS)),
            done,
            away: None,
        }
    }

    /// Takes a packet.
    fn take(&mut self, packet: &[u8], client: Client, now: Instant) {
        let query = match wire::query(packet) {
            Ok(query) => query,
            Err(Malformed::Silent) => return,
            Err(Malformed::Answered { id, flags, code }) => {
                return self.send(client, &wire::refusal(id, flags, code));
            }
        };
        match self.zone.answer(&query, self.services.now().as_deref()) {
            Outcome::Reply(reply) => {
                let room = client.room(&query);
                self.send(client, &reply.encode(&query, room));
            }
            Outcome::Forward => {
                let ask = query.clone();
                self.forward(Job { client, query, chain: Vec::new(), ask }, now);
            }
            Outcome::Leads { chain, to } => {
                let ask = query.about(to);
                self.forward(Job { client, query, chain, ask }, now);
            }
        }
    }

    /// Answers from what is kept, or asks the other servers.
    fn forward(&mut self, job: Job, now: Instant) {
        let held = self.cache.get(&job.ask, now);
        let is_away = self.away.is_some_and(|until| now < until);
        if let Some(held) = held.filter(|held| held.age.is_some() || is_away) {
            let packet = job.encode(held.reply, |ttl| held.left(ttl));
            return self.send(job.client, &packet);
        }
        let patience = if held.is_some() { SHORT_PATIENCE } else { PATIENCE };
        let servers = self.upstreams.servers();
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(question(job, servers, patience, place, self.done.clone()));
            }
            Err(_) => self.fail(job, now),
        }
    }

    /// Takes what came of a question.
    fn finish(&mut self, (job, reply): Done, now: Instant) {
        match reply {
            Some(reply) if upstream::is_proper(reply.code()) => {
                self.away = None;
                let packet = job.encode(&reply, |ttl| ttl);
                self.cache.put(&job.ask, reply, now);
                self.send(job.client, &packet);
            }
            other => {
                self.away = Some(now + AWAY);
                match other.filter(|_| self.cache.get(&job.ask, now).is_none()) {
                    Some(reply) => {
                        let packet = job.encode(&reply, |ttl| ttl);
                        self.send(job.client, &packet);
                    }
                    None => self.fail(job, now),
                }
            }
        }
    }

    /// Answers with what is kept, stale as it may be; else that nobody knows.
    fn fail(&self, job: Job, now: Instant) {
        let held: Option<Held<'_>> = self.cache.get(&job.ask, now);
        let packet = match held {
            Some(held) => job.encode(held.reply, |ttl| held.left(ttl)),
            None => job.failure(),
        };
        self.send(job.client, &packet);
    }

    fn send(&self, client: Client, packet: &[u8]) {
        match client {
            // What there is no room for is lost, as datagrams are.
            Client::Datagram(to) => drop(self.socket.try_send_to(packet, to)),
            // Who has gone needs no answer.
            Client::Stream(reply) => drop(reply.send(packet.to_vec())),
        }
    }
}

async fn question(
    job: Job,
    servers: Vec<SocketAddr>,
    patience: Duration,
    place: OwnedSemaphorePermit,
    done: mpsc::Sender<Done>,
) {
    let stream = matches!(job.client, Client::Stream(_));
    let reply = upstream::ask(servers, &job.ask, stream, patience).await;
    // The desk ends with the process.
    let _ending = done.send((job, reply)).await;
    drop(place);
}
