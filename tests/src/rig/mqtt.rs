//! An MQTT client that knows what was acknowledged and what was not, which `mosquitto_pub` does not
//! tell.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use eventbus::mqtt::{self, Connect, Packet, Publish, Qos, Reason, Version};

use super::{SOON, wait_for};

/// Messages without an acknowledgement at a time: what mosquitto takes of one client.
pub const WINDOW: usize = 20;

/// Makes a message with QoS 1.
#[must_use]
pub fn message(topic: &str, payload: &[u8], id: u16) -> Publish {
    Publish {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: topic.into(),
        id,
        payload: Bytes::copy_from_slice(payload),
        expiry: None,
        properties: Bytes::new(),
    }
}

/// A connection that packets of MQTT 3.1.1 are read from and written to one by one.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Link {
    /// Takes a client's connection, in the place of a broker, and lets the client in.
    ///
    /// # Errors
    /// When none comes soon, or it does not begin as it has to.
    pub fn accept(listener: &TcpListener) -> Result<Self> {
        let stream = wait_for("a client connects", SOON, || {
            listener.set_nonblocking(true).ok()?;
            listener.accept().ok()
        });
        let (stream, _) = stream?;
        stream.set_nonblocking(false)?;
        let mut link = Self::on(stream)?;
        let first = link.next()?;
        ensure!(matches!(first, Packet::Connect(_)), "expected CONNECT, got {first:?}");
        link.stream.write_all(b"\x20\x02\x01\x00")?;
        Ok(link)
    }

    /// Connects as a client without a session.
    ///
    /// # Errors
    /// When the broker does not let it in.
    pub fn connect(port: u16, client: &str) -> Result<Self> {
        let mut link = Self::on(TcpStream::connect(("127.0.0.1", port))?)?;
        link.send(&Packet::Connect(Box::new(Connect { clean: true, ..connect(client) })))?;
        let first = link.next()?;
        let is_in = matches!(&first, Packet::Connack(it) if it.reason == Reason::SUCCESS);
        ensure!(is_in, "expected CONNACK, got {first:?}");
        Ok(link)
    }

    fn on(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(SOON))?;
        Ok(Self { stream, buffer: BytesMut::new() })
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn send(&mut self, packet: &Packet) -> Result<()> {
        let mut out = BytesMut::new();
        mqtt::write(packet, Version::V4, &mut out);
        Ok(self.stream.write_all(&out)?)
    }

    /// Takes what was read from the stream itself.
    pub fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Waits for the next packet.
    ///
    /// # Errors
    /// When none comes soon.
    #[expect(clippy::should_implement_trait, reason = "it fails where an iterator ends")]
    pub fn next(&mut self) -> Result<Packet> {
        loop {
            if let Some(packet) = mqtt::read(&mut self.buffer, Some(Version::V4))? {
                return Ok(packet);
            }
            let mut bytes = [0; 64 * 1024];
            let count = self.stream.read(&mut bytes).context("no packet comes")?;
            ensure!(count > 0, "the connection was closed");
            self.buffer.extend_from_slice(&bytes[..count]);
        }
    }

    /// Waits for the next message, and answers what else comes as a broker does.
    ///
    /// # Errors
    /// When none comes soon.
    pub fn next_message(&mut self) -> Result<Publish> {
        loop {
            let packet = self.next()?;
            if let Packet::Publish(message) = packet {
                return Ok(message);
            } else if let Packet::Subscribe { id, filters, .. } = packet {
                let reasons = vec![Reason(1); filters.len()];
                self.send(&Packet::Suback { id, reasons })?;
            } else {
                ensure!(packet == Packet::Pingreq, "unexpected {packet:?}");
                self.send(&Packet::Pingresp)?;
            }
        }
    }

    /// Acknowledges a message.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn acknowledge(&mut self, id: u16) -> Result<()> {
        self.send(&Packet::Puback { id, reason: Reason::SUCCESS })
    }
}

/// Makes what a client begins with.
fn connect(client: &str) -> Connect {
    Connect {
        version: Version::V4,
        clean: false,
        keep_alive: 0,
        client: client.into(),
        will: None,
        user: None,
        password: None,
        session_expiry: u32::MAX,
        receive_maximum: u16::MAX,
        maximum_packet: u32::MAX,
        authentication: false,
    }
}

/// A client that publishes with QoS 1 and keeps at it whatever happens to the broker.
#[derive(Debug)]
pub struct Writer {
    port: u16,
    client: String,
    stream: Option<TcpStream>,
    buffer: BytesMut,
    last_id: u16,
    /// What was sent and is not acknowledged, in order.
    flying: VecDeque<Publish>,
    /// What waits for room.
    waiting: VecDeque<Publish>,
    acknowledged: u64,
}

impl Writer {
    /// Makes a client of the broker on this port. It connects when there is something to do.
    #[must_use]
    pub fn new(port: u16, client: &str) -> Self {
        Self {
            port,
            client: client.to_owned(),
            stream: None,
            buffer: BytesMut::new(),
            last_id: 0,
            flying: VecDeque::new(),
            waiting: VecDeque::new(),
            acknowledged: 0,
        }
    }

    /// Publishes a message as soon as that can be.
    pub fn publish(&mut self, topic: &str, payload: &str) {
        self.queue(topic, payload.as_bytes(), false);
    }

    /// As [`Self::publish`], for the broker to keep.
    pub fn keep(&mut self, topic: &str, payload: &[u8]) {
        self.queue(topic, payload, true);
    }

    fn queue(&mut self, topic: &str, payload: &[u8], retain: bool) {
        self.last_id = self.last_id % u16::MAX + 1;
        self.waiting.push_back(Publish { retain, ..message(topic, payload, self.last_id) });
    }

    /// Returns how many messages were acknowledged: the first so many that were published.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Tells whether all that was published is acknowledged.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flying.is_empty() && self.waiting.is_empty()
    }

    /// Does what can be done now; a connection that breaks is made anew the next time.
    pub fn work(&mut self) {
        if self.try_work().is_err() {
            self.stream = None;
        }
    }

    fn try_work(&mut self) -> Result<()> {
        if self.stream.is_none() {
            self.connect()?;
        }
        let mut out = BytesMut::new();
        while self.flying.len() < WINDOW
            && let Some(message) = self.waiting.pop_front()
        {
            mqtt::write(&Packet::Publish(message.clone()), Version::V4, &mut out);
            self.flying.push_back(message);
        }
        self.send(&out)?;
        while let Some(packet) = self.read()? {
            let Packet::Puback { id, .. } = packet else { bail!("unexpected {packet:?}") };
            let oldest = self.flying.pop_front().map(|message| message.id);
            ensure!(oldest == Some(id), "acknowledged {id}, expected {oldest:?}");
            self.acknowledged += 1;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        self.stream = Some(stream);
        self.buffer.clear();
        let mut out = BytesMut::new();
        let connect = connect(&self.client);
        mqtt::write(&Packet::Connect(Box::new(connect)), Version::V4, &mut out);
        self.send(&out)?;
        match self.read()? {
            Some(Packet::Connack(connack)) if connack.reason == Reason::SUCCESS => {}
            other => bail!("expected CONNACK, got {other:?}"),
        }
        let mut out = BytesMut::new();
        for message in &mut self.flying {
            message.dup = true;
            mqtt::write(&Packet::Publish(message.clone()), Version::V4, &mut out);
        }
        self.send(&out)?;
        // From here on nothing is waited for.
        if let Some(stream) = &self.stream {
            stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(stream) = &mut self.stream {
            stream.write_all(bytes)?;
        }
        Ok(())
    }

    /// Reads the next packet, if it comes within the read time-out.
    fn read(&mut self) -> Result<Option<Packet>> {
        loop {
            if let Some(packet) = mqtt::read(&mut self.buffer, Some(Version::V4))? {
                return Ok(Some(packet));
            }
            let Some(stream) = &mut self.stream else { return Ok(None) };
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
