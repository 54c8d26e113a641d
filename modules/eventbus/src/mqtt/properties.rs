//! The properties of MQTT 5: which there are, and what they look like.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::read::{Malformed, binary, number, text};
use super::write;

/// The identities of the properties that are acted on.
pub(crate) mod id {
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT: u8 = 0x12;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET: u8 = 0x27;
    pub(crate) const IDENTIFIERS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2a;
}

/// The properties of a message that are passed on as they are: payload format, content type,
/// response topic, correlation data, user properties.
const PASSED_ON: [u8; 5] = [0x01, 0x03, 0x08, 0x09, id::USER_PROPERTY];

/// The kind of packet that properties stand in, as a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u16);

impl Place {
    pub(crate) const CONNECT: Self = Self(1);
    pub(crate) const CONNACK: Self = Self(1 << 1);
    pub(crate) const PUBLISH: Self = Self(1 << 2);
    pub(crate) const WILL: Self = Self(1 << 3);
    pub(crate) const ACK: Self = Self(1 << 4);
    pub(crate) const SUBSCRIBE: Self = Self(1 << 5);
    pub(crate) const SUBACK: Self = Self(1 << 6);
    pub(crate) const UNSUBSCRIBE: Self = Self(1 << 7);
    pub(crate) const DISCONNECT: Self = Self(1 << 8);
    pub(crate) const AUTH: Self = Self(1 << 9);
}

/// What a property's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Byte,
    Two,
    Four,
    Variable,
    Text,
    Binary,
    Pair,
}

/// Returns what a property looks like, and the places where it may stand.
const fn shape(property: u8) -> Option<(Shape, u16)> {
    const MESSAGE: u16 = Place::PUBLISH.0 | Place::WILL.0;
    const SESSION: u16 = Place::CONNECT.0 | Place::CONNACK.0;
    const ANSWERS: u16 = Place::ACK.0 | Place::SUBACK.0 | Place::DISCONNECT.0;
    Some(match property {
        0x01 => (Shape::Byte, MESSAGE),
        0x02 => (Shape::Four, MESSAGE),
        0x03 | 0x08 => (Shape::Text, MESSAGE),
        0x09 => (Shape::Binary, MESSAGE),
        0x0b => (Shape::Variable, Place::PUBLISH.0 | Place::SUBSCRIBE.0),
        0x11 => (Shape::Four, SESSION | Place::DISCONNECT.0),
        0x12 | 0x1a => (Shape::Text, Place::CONNACK.0),
        0x13 => (Shape::Two, Place::CONNACK.0),
        0x15 => (Shape::Text, SESSION | Place::AUTH.0),
        0x16 => (Shape::Binary, SESSION | Place::AUTH.0),
        0x17 | 0x19 => (Shape::Byte, Place::CONNECT.0),
        0x18 => (Shape::Four, Place::WILL.0),
        0x1c => (Shape::Text, Place::CONNACK.0 | Place::DISCONNECT.0),
        0x1f => (Shape::Text, ANSWERS | Place::CONNACK.0 | Place::AUTH.0),
        0x21 | 0x22 => (Shape::Two, SESSION),
        0x23 => (Shape::Two, Place::PUBLISH.0),
        0x24 | 0x25 | 0x28 | 0x29 | 0x2a => (Shape::Byte, Place::CONNACK.0),
        0x26 => (Shape::Pair, u16::MAX),
        0x27 => (Shape::Four, SESSION),
        _ => return None,
    })
}

/// The properties of one packet that are acted on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Numbers by identity.
    numbers: Vec<(u8, u32)>,
    /// The name that the broker chose.
    pub(crate) assigned: Option<Box<str>>,
    /// Whether an authentication method came along.
    pub(crate) authentication: bool,
    /// What is passed on, encoded.
    pub(crate) passed_on: Bytes,
}

impl Properties {
    /// Returns a number.
    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        self.numbers.iter().find(|(known, _)| *known == id).map(|(_, value)| *value)
    }

    /// Takes the properties that come next.
    ///
    /// # Errors
    /// When one is unknown, has no place here, or comes twice.
    pub(crate) fn read(from: &mut Bytes, place: Place) -> Result<Self, Malformed> {
        let length = super::read::variable(from)?;
        if from.len() < length {
            return Err(Malformed("properties are cut off"));
        }
        let mut from = from.split_to(length);
        let mut found = Self::default();
        let mut seen = 0_u64;
        let mut passed_on = BytesMut::new();
        while from.has_remaining() {
            let before = from.clone();
            let property = from.get_u8();
            let (shape, places) = shape(property).ok_or(Malformed("an unknown property"))?;
            if places & place.0 == 0 {
                return Err(Malformed("a property has no place in this packet"));
            }
            let bit = 1_u64 << property;
            let may_repeat = matches!(property, id::USER_PROPERTY | id::SUBSCRIPTION_IDENTIFIER);
            if seen & bit != 0 && !may_repeat {
                return Err(Malformed("a property comes twice"));
            }
            seen |= bit;
            found.take(property, shape, &mut from)?;
            if PASSED_ON.contains(&property) {
                passed_on.put_slice(&before[..before.len() - from.len()]);
            }
        }
        found.passed_on = passed_on.freeze();
        Ok(found)
    }

    fn take(&mut self, property: u8, shape: Shape, from: &mut Bytes) -> Result<(), Malformed> {
        match shape {
            Shape::Byte => {
                let value = u32::from(number::<1>(from)?[0]);
                if value > 1 {
                    return Err(Malformed("a flag is neither 0 nor 1"));
                }
                self.numbers.push((property, value));
            }
            Shape::Two => {
                let value = u32::from(u16::from_be_bytes(number(from)?));
                self.numbers.push((property, value));
            }
            Shape::Four => self.numbers.push((property, u32::from_be_bytes(number(from)?))),
            Shape::Variable => {
                let value = super::read::variable(from)?;
                self.numbers.push((property, u32::try_from(value).unwrap_or(u32::MAX)));
            }
            Shape::Text => {
                let value = text(from)?;
                if property == id::ASSIGNED_CLIENT {
                    self.assigned = Some(value);
                } else if property == id::AUTHENTICATION_METHOD {
                    self.authentication = true;
                }
            }
            Shape::Binary => drop(binary(from)?),
            Shape::Pair => {
                text(from)?;
                text(from)?;
            }
        }
        Ok(())
    }
}

/// Properties on their way out.
#[derive(Debug, Default)]
pub(crate) struct Writer(BytesMut);

impl Writer {
    pub(crate) fn byte(&mut self, id: u8, value: u8) -> &mut Self {
        self.0.put_u8(id);
        self.0.put_u8(value);
        self
    }

    pub(crate) fn two(&mut self, id: u8, value: Option<u16>) -> &mut Self {
        if let Some(value) = value {
            self.0.put_u8(id);
            self.0.put_u16(value);
        }
        self
    }

    pub(crate) fn four(&mut self, id: u8, value: Option<u32>) -> &mut Self {
        if let Some(value) = value {
            self.0.put_u8(id);
            self.0.put_u32(value);
        }
        self
    }

    pub(crate) fn text(&mut self, id: u8, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.0.put_u8(id);
            write::text(&mut self.0, value);
        }
        self
    }

    pub(crate) fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        self.0.put_slice(encoded);
        self
    }

    pub(crate) fn finish(&self, out: &mut BytesMut) {
        write::variable(out, self.0.len());
        out.put_slice(&self.0);
    }
}
