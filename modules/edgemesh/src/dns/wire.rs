//! DNS on the wire (RFC 1035 §4, RFC 6891): queries in, replies out.

use std::collections::HashMap;
use std::net::IpAddr;

use super::fqdn::Domain;
pub(super) use foreign::Foreign;

mod foreign;

/// Types of records, as their numbers stand on the wire.
pub(super) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const ANY: u16 = 255;
}

/// The class of the Internet.
pub(super) const IN: u16 = 1;

/// How a query ended.
pub(super) mod code {
    pub(crate) const OK: u16 = 0;
    pub(crate) const FORMAT: u16 = 1;
    pub(crate) const FAILURE: u16 = 2;
    pub(crate) const NO_NAME: u16 = 3;
    pub(crate) const NOT_IMPLEMENTED: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const BAD_VERSION: u16 = 16;
}

const HEADER: usize = 12;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;

/// What a client without EDNS takes, in bytes.
const PLAIN: u16 = 512;

/// What is sent in one datagram at most: what passes everywhere without fragments.
const DATAGRAM: u16 = 1232;

/// What the OPT record of a reply takes, in bytes.
const OPT_LENGTH: usize = 11;

/// The most pointers that one name may have.
const POINTERS: usize = 16;

/// What a client that speaks EDNS says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edns {
    pub(super) size: u16,
    pub(super) version: u8,
    pub(super) dnssec: bool,
}

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) id: u16,
    flags: u16,
    pub(super) name: Domain,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) edns: Option<Edns>,
}

/// A packet that is no query that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A reply, or too short to say whose it is: it is not answered, so that no two servers ever
    /// talk to each other.
    Silent,
    /// It is answered with this code.
    Answered { id: u16, flags: u16, code: u16 },
}

/// Bytes that are read one after the other.
struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.packet.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn long(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Reads a name. Pointers lead back only, and are bounded.
    fn name(&mut self) -> Option<Domain> {
        let mut labels = Vec::new();
        let (mut at, mut after, mut pointers) = (self.at, None, 0);
        loop {
            let length = *self.packet.get(at)?;
            match length {
                0 => break,
                1..=63 => {
                    let end = at + 1 + usize::from(length);
                    labels.push(self.packet.get(at + 1..end)?);
                    // A name has at most 127 labels.
                    if labels.len() > 127 {
                        return None;
                    }
                    at = end;
                }
                192.. => {
                    let low = *self.packet.get(at + 1)?;
                    after.get_or_insert(at + 2);
                    let to = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    pointers += 1;
                    if to >= at || pointers > POINTERS {
                        return None;
                    }
                    at = to;
                }
                _ => return None,
            }
        }
        self.at = after.unwrap_or(at + 1);
        Domain::of(labels)
    }

    fn record(&mut self) -> Option<Found> {
        let name = self.name()?;
        let (kind, class) = (self.short()?, self.short()?);
        let ttl_at = self.at;
        let ttl = self.long()?;
        let length = usize::from(self.short()?);
        let data_at = self.at;
        self.take(length)?;
        Some(Found { name, kind, class, ttl, ttl_at, data_at, length })
    }
}

/// A record of a packet, and where its parts are.
struct Found {
    name: Domain,
    kind: u16,
    class: u16,
    ttl: u32,
    ttl_at: usize,
    data_at: usize,
    length: usize,
}

/// Reads a query.
///
/// # Errors
/// When it is none that can be answered.
pub(super) fn query(packet: &[u8]) -> Result<Query, Malformed> {
    let mut reader = Reader { packet, at: 0 };
    let head = (|| Some((reader.short()?, reader.short()?)))();
    let (id, flags) = head.filter(|(_, flags)| flags & RESPONSE == 0).ok_or(Malformed::Silent)?;
    let refuse = |code| Malformed::Answered { id, flags, code };
    if flags & OPCODE != 0 {
        return Err(refuse(code::NOT_IMPLEMENTED));
    }
    let query = body(&mut reader, id, flags).ok_or_else(|| refuse(code::FORMAT))?;
    Ok(query)
}

fn body(reader: &mut Reader<'_>, id: u16, flags: u16) -> Option<Query> {
    let questions = reader.short()?;
    let (answers, authorities, additionals) = (reader.short()?, reader.short()?, reader.short()?);
    if (questions, answers, authorities) != (1, 0, 0) {
        return None;
    }
    let name = reader.name()?;
    let (kind, class) = (reader.short()?, reader.short()?);
    let mut edns = None;
    for _ in 0..additionals {
        let record = reader.record()?;
        if record.kind != kind::OPT {
            continue;
        }
        let [_, version, flags, _] = record.ttl.to_be_bytes();
        let dnssec = flags & 0x80 != 0;
        let found = Edns { size: record.class, version, dnssec };
        if edns.replace(found).is_some() {
            return None;
        }
    }
    Some(Query { id, flags, name, kind, class, edns })
}

impl Query {
    /// Asks for a name.
    pub(super) const fn new(name: Domain, kind: u16) -> Self {
        Self { id: 0, flags: RECURSION_DESIRED, name, kind, class: IN, edns: None }
    }

    /// Asks for a name on behalf of this query.
    pub(super) fn about(&self, name: Domain) -> Self {
        Self { name, flags: RECURSION_DESIRED, edns: None, ..self.clone() }
    }

    /// Returns what the client takes in one datagram, in bytes.
    pub(super) fn room(&self) -> usize {
        self.edns.map_or(PLAIN, |edns| edns.size.clamp(PLAIN, DATAGRAM)).into()
    }

    /// Tells whether the client checks signatures itself.
    pub(super) const fn is_unchecked(&self) -> bool {
        self.flags & CHECKING_DISABLED != 0
    }

    fn question(&self) -> Vec<u8> {
        let mut bytes = self.name.wire().to_vec();
        bytes.extend_from_slice(&self.kind.to_be_bytes());
        bytes.extend_from_slice(&self.class.to_be_bytes());
        bytes
    }

    /// Writes the query for another server, under another id.
    pub(super) fn encode(&self, id: u16) -> Vec<u8> {
        let mut packet = Vec::with_capacity(64);
        let flags = RECURSION_DESIRED | (self.flags & CHECKING_DISABLED);
        let additionals = u16::from(self.edns.is_some());
        for short in [id, flags, 1, 0, 0, additionals] {
            packet.extend_from_slice(&short.to_be_bytes());
        }
        packet.extend_from_slice(&self.question());
        if let Some(edns) = self.edns {
            opt(&mut packet, code::OK, edns.dnssec);
        }
        packet
    }
}

/// Writes our OPT record.
fn opt(packet: &mut Vec<u8>, code: u16, dnssec: bool) {
    let [high, _] = (code << 4).to_be_bytes();
    packet.push(0);
    packet.extend_from_slice(&kind::OPT.to_be_bytes());
    packet.extend_from_slice(&DATAGRAM.to_be_bytes());
    packet.extend_from_slice(&[high, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]);
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    Alias(Domain),
    Pointer(Domain),
    Server { port: u16, weight: u16, target: Domain },
    Authority { server: Domain, mailbox: Domain, serial: u32, negative: u32 },
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) name: Domain,
    /// Seconds.
    pub(super) ttl: u32,
    pub(super) data: Data,
}

/// An answer of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Reply {
    pub(super) fn of(code: u16) -> Self {
        Self { code, ..Self::default() }
    }

    /// Writes the answer to a query in at most `room` bytes. What does not fit is left out: said with
    /// the bit for it, unless it is additional.
    pub(super) fn encode(&self, query: &Query, room: usize) -> Vec<u8> {
        let mut packet = vec![0; HEADER];
        packet.extend_from_slice(&query.question());
        let mut writer = Writer { packet, names: HashMap::new() };
        writer.note(&query.name, HEADER);
        let reserved = if query.edns.is_some() { OPT_LENGTH } else { 0 };
        let room = room.saturating_sub(reserved);
        let (answers, first) = writer.section(&self.answers, room);
        let (authorities, second) =
            if first { writer.section(&self.authorities, room) } else { (0, false) };
        let is_whole = first && second;
        let (additionals, _) =
            if is_whole { writer.section(&self.additionals, room) } else { (0, false) };
        let Writer { mut packet, .. } = writer;
        if let Some(edns) = query.edns {
            opt(&mut packet, self.code, edns.dnssec);
        }
        let truncated = if is_whole { 0 } else { TRUNCATED };
        let kept = query.flags & (RECURSION_DESIRED | CHECKING_DISABLED);
        let known = matches!(self.code, code::OK | code::NO_NAME);
        let authoritative = if known { AUTHORITATIVE } else { 0 };
        let flags = RESPONSE | authoritative | RECURSION | kept | truncated | (self.code & 0xf);
        let counts = [1, answers, authorities, additionals + u16::from(query.edns.is_some())];
        head(&mut packet, query.id, flags, counts);
        packet
    }
}

fn head(packet: &mut [u8], id: u16, flags: u16, counts: [u16; 4]) {
    let shorts = [id, flags].into_iter().chain(counts);
    for (place, short) in packet.chunks_exact_mut(2).zip(shorts) {
        place.copy_from_slice(&short.to_be_bytes());
    }
}

/// Answers a packet that is no proper query.
pub(super) fn refusal(id: u16, flags: u16, code: u16) -> Vec<u8> {
    let mut packet = vec![0; HEADER];
    let flags = RESPONSE | (flags & (OPCODE | RECURSION_DESIRED)) | code;
    head(&mut packet, id, flags, [0; 4]);
    packet
}

/// A packet that is written, and where its names are.
struct Writer {
    packet: Vec<u8>,
    names: HashMap<Box<[u8]>, u16>,
}

impl Writer {
    /// Takes down where a name and its ends stand.
    fn note(&mut self, name: &Domain, at: usize) {
        let wire = name.wire();
        let mut offset = 0;
        while let Some(length) = wire.get(offset).copied().filter(|length| *length > 0) {
            let Some(place) = u16::try_from(at + offset).ok().filter(|at| *at < 0x4000) else {
                return;
            };
            let rest = wire[offset..].to_ascii_lowercase().into();
            self.names.entry(rest).or_insert(place);
            offset += 1 + usize::from(length);
        }
    }

    /// Writes a name, its end by a pointer to where it stands already.
    fn name(&mut self, name: &Domain) {
        let (wire, at) = (name.wire(), self.packet.len());
        let mut offset = 0;
        while let Some(length) = wire.get(offset).copied().filter(|length| *length > 0) {
            let rest = wire[offset..].to_ascii_lowercase();
            if let Some(place) = self.names.get(&*rest) {
                let pointer = 0xc000 | place;
                self.packet.extend_from_slice(&pointer.to_be_bytes());
                self.note(name, at);
                return;
            }
            let end = offset + 1 + usize::from(length);
            self.packet.extend_from_slice(&wire[offset..end]);
            offset = end;
        }
        self.packet.push(0);
        self.note(name, at);
    }

    fn short(&mut self, value: u16) {
        self.packet.extend_from_slice(&value.to_be_bytes());
    }

    fn long(&mut self, value: u32) {
        self.packet.extend_from_slice(&value.to_be_bytes());
    }

    /// Writes records as long as there is room; returns how many, and whether that is all.
    fn section(&mut self, records: &[Record], room: usize) -> (u16, bool) {
        let mut count = 0;
        for record in records {
            let before = self.packet.len();
            self.record(record);
            if self.packet.len() > room || count == u16::MAX {
                self.packet.truncate(before);
                self.names.retain(|_, place| usize::from(*place) < before);
                return (count, false);
            }
            count += 1;
        }
        (count, true)
    }

    fn record(&mut self, record: &Record) {
        self.name(&record.name);
        self.short(record.data.kind());
        self.short(IN);
        self.long(record.ttl);
        let at = self.packet.len();
        self.short(0);
        match &record.data {
            Data::Address(IpAddr::V4(address)) => self.packet.extend_from_slice(&address.octets()),
            Data::Address(IpAddr::V6(address)) => self.packet.extend_from_slice(&address.octets()),
            Data::Alias(name) | Data::Pointer(name) => self.name(name),
            Data::Server { port, weight, target } => {
                for value in [0, *weight, *port] {
                    self.short(value);
                }
                // RFC 2782: without a pointer.
                self.packet.extend_from_slice(target.wire());
            }
            Data::Authority { server, mailbox, serial, negative } => {
                self.name(server);
                self.name(mailbox);
                for value in [*serial, 7200, 1800, 86_400, *negative] {
                    self.long(value);
                }
            }
        }
        let length = u16::try_from(self.packet.len() - at - 2).unwrap_or(u16::MAX);
        self.packet[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
}

impl Data {
    pub(super) const fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => kind::A,
            Self::Address(IpAddr::V6(_)) => kind::AAAA,
            Self::Alias(_) => kind::CNAME,
            Self::Pointer(_) => kind::PTR,
            Self::Server { .. } => kind::SRV,
            Self::Authority { .. } => kind::SOA,
        }
    }
}
