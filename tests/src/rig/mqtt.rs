//! An MQTT client that knows what was acknowledged and what was not, which `mosquitto_pub` does not
//! tell.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use eventbus::mqtt::{self, Connect, Packet, Publish, Qos, Reason, Version};

/// Messages without an acknowledgement at a time: what mosquitto takes of one client.
const WINDOW: usize = 20;

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
        self.last_id = self.last_id % u16::MAX + 1;
        self.waiting.push_back(Publish {
            dup: false,
            qos: Qos::AtLeastOnce,
            retain: false,
            topic: topic.into(),
            id: self.last_id,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            expiry: None,
            properties: Bytes::new(),
        });
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
        let connect = Connect {
            version: Version::V4,
            clean: false,
            keep_alive: 0,
            client: self.client.as_str().into(),
            will: None,
            user: None,
            password: None,
            session_expiry: u32::MAX,
            receive_maximum: u16::MAX,
            maximum_packet: u32::MAX,
            authentication: false,
        };
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
