//! Other servers' replies, passed on as they came: read is the little that has to be known of them,
//! which is whose they are, how long they hold, and where a name leads.

use super::{Data, Found, HEADER, IN, Query, RESPONSE, Reader, Record, TRUNCATED, head, kind};

/// Another server's reply, looked through once.
#[derive(Clone, Debug)]
pub(in crate::dns) struct Foreign {
    packet: Vec<u8>,
    flags: u16,
    question: usize,
    /// Where the times to live stand, but for that of OPT, which is none.
    ttls: Vec<usize>,
    /// How long it holds, in seconds; nothing when it does not say.
    pub(in crate::dns) ttl: Option<u32>,
    /// The answers that are understood here.
    pub(in crate::dns) answers: Vec<Record>,
}

impl Foreign {
    /// Reads the reply to a query; nothing when it is none.
    pub(in crate::dns) fn read(packet: Vec<u8>, id: u16, query: &Query) -> Option<Self> {
        let mut reader = Reader { packet: &packet, at: 0 };
        let (answered, flags) = (reader.short()?, reader.short()?);
        let questions = reader.short()?;
        let counts = [reader.short()?, reader.short()?, reader.short()?];
        if answered != id || flags & RESPONSE == 0 || questions != 1 {
            return None;
        }
        let name = reader.name()?;
        let asked = (reader.short()?, reader.short()?);
        if name.folded() != query.name.folded() || asked != (query.kind, query.class) {
            return None;
        }
        let question = reader.at;
        let (mut ttls, mut answers) = (Vec::new(), Vec::new());
        let mut ttl: Option<u32> = None;
        for (section, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                let record = reader.record()?;
                if record.kind == kind::OPT {
                    continue;
                }
                ttls.push(record.ttl_at);
                let lasts = lasts(&record, &packet);
                ttl = Some(ttl.map_or(lasts, |ttl| ttl.min(lasts)));
                if section == 0 {
                    answers.extend(known(&record, &packet));
                }
            }
        }
        Some(Self { flags, question, ttls, ttl, answers, packet })
    }

    /// Returns the code that it ends with, but for what only EDNS can say.
    pub(in crate::dns) const fn code(&self) -> u16 {
        self.flags & 0xf
    }

    pub(in crate::dns) const fn is_truncated(&self) -> bool {
        self.flags & TRUNCATED != 0
    }

    /// Returns how many bytes it takes to keep.
    pub(in crate::dns) fn size(&self) -> usize {
        self.packet.len()
    }

    /// Writes it as the answer to a query that asks the same, in at most `room` bytes, with what its
    /// times to live have become.
    pub(in crate::dns) fn encode(
        &self,
        query: &Query,
        room: usize,
        left: impl Fn(u32) -> u32,
    ) -> Vec<u8> {
        let mut packet = self.packet.clone();
        packet[..2].copy_from_slice(&query.id.to_be_bytes());
        for at in &self.ttls {
            let Some(place) = packet.get_mut(*at..at + 4) else { continue };
            let ttl = place.try_into().map_or(0, |bytes: &mut [u8; 4]| u32::from_be_bytes(*bytes));
            place.copy_from_slice(&left(ttl).to_be_bytes());
        }
        // The client's own spelling.
        let question = query.question();
        if self.question == HEADER + question.len() {
            packet[HEADER..self.question].copy_from_slice(&question);
        }
        if packet.len() > room {
            packet.truncate(self.question);
            head(&mut packet, query.id, self.flags | TRUNCATED, [1, 0, 0, 0]);
        }
        packet
    }
}

/// Returns for how many seconds a record can be kept: that there is nothing, for as long as its
/// zone says (RFC 2308).
fn lasts(record: &Found, packet: &[u8]) -> u32 {
    let end = record.data_at + record.length;
    let minimum = packet.get(end.saturating_sub(4)..end).filter(|_| record.kind == kind::SOA);
    let minimum = minimum.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    minimum.map_or(record.ttl, |minimum| minimum.min(record.ttl))
}

/// Returns a record of a type that is understood here.
fn known(record: &Found, packet: &[u8]) -> Option<Record> {
    let mut reader = Reader { packet, at: record.data_at };
    let data = match (record.kind, record.length) {
        (kind::A, 4) => {
            let bytes: [u8; 4] = reader.take(4)?.try_into().ok()?;
            Data::Address(bytes.into())
        }
        (kind::AAAA, 16) => {
            let bytes: [u8; 16] = reader.take(16)?.try_into().ok()?;
            Data::Address(bytes.into())
        }
        (kind::CNAME, _) => Data::Alias(reader.name()?),
        (kind::PTR, _) => Data::Pointer(reader.name()?),
        (kind::SRV, _) => {
            let (_priority, weight, port) = (reader.short()?, reader.short()?, reader.short()?);
            Data::Server { port, weight, target: reader.name()? }
        }
        _ => return None,
    };
    let is_in = record.class == IN;
    is_in.then(|| Record { name: record.name.clone(), ttl: record.ttl, data })
}
