//! One connection, of a client of the internal broker or to the external one: bytes to packets and
//! back, and the bounds on both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use crate::core::ConnectionId;
use crate::mqtt::{self, Packet, Qos, Reason, Version};

/// What a connection may have read that the main loop is not done with, in units of 256 bytes.
const CREDIT: u32 = 4096;

/// Packets that may wait to be written: the acknowledgements of all that [`CREDIT`] lets in, and as
/// many messages again.
const OUTBOX: usize = 2 * CREDIT as usize;

/// Bytes that may wait to be written before messages with QoS 0 are left out.
const OUTBOX_BYTES: usize = 4 * 1024 * 1024;

/// How long the first packet may take, and a write that makes no progress.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that the system may hold of what was written. It tells of room when a third is free, so that
/// one that takes 10 kB a second is seen to take something.
const BACKLOG: usize = 128 * 1024;

/// Prepares a connection to be served by a [`Line`].
pub(crate) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    set_socket_send_buffer_size(stream, BACKLOG)?;
    Ok(())
}

/// What happens on a connection.
#[derive(Debug)]
pub(crate) enum Happening {
    /// It stands.
    Opened(ConnectionId, Port),
    /// A packet came.
    Packet(ConnectionId, Packet, u32),
    /// It is gone, and why, where it was not by a goodbye.
    Closed(ConnectionId, Option<Reason>),
    /// The internal broker takes connections; or why it does not.
    Listening(Result<(), String>),
    /// The external broker cannot be reached; why.
    Unreachable(String),
}

/// A connection, from the side of the main loop. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    packets: mpsc::Sender<Packet>,
    waiting: Arc<AtomicUsize>,
    credit: Arc<Semaphore>,
    /// What each packet costs that the main loop is not done with.
    costs: std::collections::VecDeque<u32>,
}

impl Port {
    /// Hands a packet over. Tells whether the connection is still good: one that does not take
    /// what was promised to it is not. A message with QoS 0 for which there is no room is dropped.
    pub(crate) fn send(&self, packet: Packet) -> bool {
        let size = size(&packet);
        let is_loose =
            matches!(&packet, Packet::Publish(message) if message.qos == Qos::AtMostOnce);
        if is_loose && self.waiting.load(Ordering::Relaxed) > OUTBOX_BYTES {
            return true;
        }
        self.waiting.fetch_add(size, Ordering::Relaxed);
        if self.packets.try_send(packet).is_ok() {
            return true;
        }
        self.waiting.fetch_sub(size, Ordering::Relaxed);
        is_loose
    }

    /// Notes that a packet came, and what it costs.
    pub(crate) fn came(&mut self, cost: u32) {
        self.costs.push_back(cost);
    }

    /// Gives the room of the oldest packet back.
    pub(crate) fn done(&mut self) {
        if let Some(cost) = self.costs.pop_front() {
            self.credit.add_permits(cost as usize);
        }
    }
}

fn size(packet: &Packet) -> usize {
    if let Packet::Publish(message) = packet {
        64 + message.topic.len() + message.payload.len()
    } else {
        64
    }
}

/// The task's end of a [`Port`].
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: ConnectionId,
    pub(crate) version: Option<Version>,
    /// The longest silence before a sign of life is sent, on the client's side.
    pub(crate) ping: Option<Duration>,
    /// The longest silence of the other side.
    pub(crate) silence: Option<Duration>,
    packets: mpsc::Receiver<Packet>,
    waiting: Arc<AtomicUsize>,
    credit: Arc<Semaphore>,
    happenings: mpsc::Sender<Happening>,
    buffer: BytesMut,
}

/// Makes both ends of a connection. The version is known where the first packet was exchanged.
pub(crate) fn pair(
    id: ConnectionId,
    version: Option<Version>,
    buffer: BytesMut,
    happenings: mpsc::Sender<Happening>,
) -> (Port, Line) {
    let (sender, packets) = mpsc::channel(OUTBOX);
    let waiting = Arc::new(AtomicUsize::new(0));
    let credit = Arc::new(Semaphore::new(CREDIT as usize));
    let port = Port {
        packets: sender,
        waiting: Arc::clone(&waiting),
        credit: Arc::clone(&credit),
        costs: std::collections::VecDeque::new(),
    };
    let (ping, silence) = (None, None);
    let line = Line { id, version, ping, silence, packets, waiting, credit, happenings, buffer };
    (port, line)
}

/// Why a connection ends.
enum End {
    /// The main loop let go of it.
    LetGo,
    /// The other side did, or it broke.
    Lost(Option<Reason>),
}

impl Line {
    /// Serves the connection to its end, and tells of it.
    pub(crate) async fn serve(mut self, stream: impl AsyncRead + AsyncWrite) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let end = self.carry(&mut reader, &mut writer).await;
        // What was decided before the end still goes out, a goodbye above all.
        self.packets.close();
        let mut out = BytesMut::new();
        while let Ok(packet) = self.packets.try_recv() {
            mqtt::write(&packet, self.version.unwrap_or(Version::V4), &mut out);
        }
        let farewell = async {
            writer.write_all(&out).await?;
            writer.shutdown().await
        };
        // Who took nothing for so long hears no goodbye either.
        if !matches!(end, End::Lost(Some(Reason::BUSY))) {
            let _gone = timeout(PATIENCE, farewell).await;
        }
        if let End::Lost(reason) = end {
            let _ending = self.happenings.send(Happening::Closed(self.id, reason)).await;
        }
    }

    async fn carry(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> End {
        let mut out = BytesMut::new();
        let mut next_ping = self.ping.map(|ping| Instant::now() + ping);
        let mut pending = None;
        loop {
            if pending.is_none() {
                pending = match self.take_packet() {
                    Ok(pending) => pending,
                    Err(end) => return end,
                };
            }
            let limit = if self.version.is_none() { Some(PATIENCE) } else { self.silence };
            let outgoing = tokio::select! {
                biased;
                packet = self.packets.recv() => match packet {
                    Some(packet) => packet,
                    None => return End::LetGo,
                },
                () = sleep_until(next_ping) => Packet::Pingreq,
                handed = hand_over(&self.credit, &self.happenings, &mut pending, self.id),
                    if pending.is_some() => match handed {
                        Ok(()) => continue,
                        Err(end) => return end,
                    },
                read = within(limit, reader.read_buf(&mut self.buffer)), if pending.is_none() => {
                    match read {
                        Some(Ok(1..)) => continue,
                        Some(Ok(0) | Err(_)) => return End::Lost(None),
                        None => return End::Lost(Some(Reason::KEEP_ALIVE)),
                    }
                }
            };
            if let Err(end) = self.write(outgoing, &mut out, writer).await {
                return end;
            }
            next_ping = self.ping.map(|ping| Instant::now() + ping);
        }
    }

    /// Takes the first packet out of the buffer, once it is there, and what it costs.
    fn take_packet(&mut self) -> Result<Option<(Packet, u32)>, End> {
        let before = self.buffer.len();
        let packet = match mqtt::read(&mut self.buffer, self.version) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::debug!(connection = self.id, "{error}");
                return Err(End::Lost(Some(Reason::MALFORMED)));
            }
        };
        if let Packet::Connect(connect) = &packet
            && self.version.is_none()
        {
            self.version = Some(connect.version);
            let silence = Duration::from_millis(u64::from(connect.keep_alive) * 1500);
            self.silence = Some(silence).filter(|silence| !silence.is_zero());
        }
        let size = u32::try_from((before - self.buffer.len()) / 256).unwrap_or(CREDIT);
        Ok(Some((packet, size.clamp(1, CREDIT))))
    }

    /// Writes a packet, and what waits behind it.
    async fn write(
        &mut self,
        packet: Packet,
        out: &mut BytesMut,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), End> {
        let mut next = Some(packet);
        while let Some(packet) = next {
            self.waiting.fetch_sub(size(&packet), Ordering::Relaxed);
            mqtt::write(&packet, self.version.unwrap_or(Version::V4), out);
            next = if out.len() < 64 * 1024 { self.packets.try_recv().ok() } else { None };
        }
        // Slow is good, stuck is not.
        while out.has_remaining() {
            match timeout(PATIENCE, writer.write_buf(out)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Err(End::Lost(None)),
                Err(_) => return Err(End::Lost(Some(Reason::BUSY))),
            }
        }
        match timeout(PATIENCE, writer.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Lost(None)),
            Err(_) => Err(End::Lost(Some(Reason::BUSY))),
        }
    }
}

/// Waits for `work`, but no longer than `limit`, where there is one.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}

/// Hands a packet to the main loop when there is room for it. Cancelling it loses nothing.
async fn hand_over(
    credit: &Semaphore,
    happenings: &mpsc::Sender<Happening>,
    pending: &mut Option<(Packet, u32)>,
    id: ConnectionId,
) -> Result<(), End> {
    let cost = pending.as_ref().map_or(0, |(_, cost)| *cost);
    let room = credit.acquire_many(cost).await.map_err(|_| End::LetGo)?;
    let slot = happenings.reserve().await.map_err(|_| End::LetGo)?;
    if let Some((packet, cost)) = pending.take() {
        room.forget();
        slot.send(Happening::Packet(id, packet, cost));
    }
    Ok(())
}

/// Waits; for ever without a time.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
