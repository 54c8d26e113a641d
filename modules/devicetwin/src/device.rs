//! A device as it is held in memory, and as the rows of the Go edgecore's tables (WIRE.md §5.1).

use serde::{Deserialize, Serialize};

use crate::payload::{Member, ValueMeta, Version};
use crate::twin::{Side, Stamp, Twin};

/// A device in the twin tables; the fields are the columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rows {
    pub(crate) id: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) description: Box<str>,
    pub(crate) state: Box<str>,
    pub(crate) last_online: Box<str>,
    pub(crate) attributes: Vec<AttributeRow>,
    pub(crate) twins: Vec<TwinRow>,
}

/// A row of `device_attr`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AttributeRow {
    name: Box<str>,
    description: Box<str>,
    value: Box<str>,
    optional: bool,
    attr_type: Box<str>,
    metadata: Box<str>,
}

/// A row of `device_twin`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TwinRow {
    name: Box<str>,
    description: Box<str>,
    expected: Box<str>,
    actual: Box<str>,
    expected_meta: Box<str>,
    actual_meta: Box<str>,
    expected_version: Box<str>,
    actual_version: Box<str>,
    optional: bool,
    attr_type: Box<str>,
    metadata: Box<str>,
}

/// What the cloud was told of a property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The versions that it has confirmed.
    pub(crate) stamp: Option<Stamp>,
    /// How many reports of it were confirmed. The first one only makes the property's entry in the
    /// cloud, and its value is lost there (WIRE.md §13, C7).
    pub(crate) times: u8,
}

/// How many reports the cloud has to confirm before it has the value for sure.
const ENOUGH: u8 = 2;

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: Box<str>,
    pub(crate) description: Box<str>,
    pub(crate) state: Box<str>,
    pub(crate) last_online: Box<str>,
    pub(crate) attributes: Vec<AttributeRow>,
    pub(crate) twins: Vec<Twin>,
    /// What the cloud knows, one for each twin.
    pub(crate) told: Vec<Told>,
    /// Whether the cloud is to be told the state.
    pub(crate) state_untold: bool,
    /// When it last reported: Unix time in milliseconds.
    pub(crate) last_report: i64,
}

/// A device as it rests: a tenth of the room that it takes while it is looked at.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Packed(Box<[u8]>);

impl Packed {
    /// Returns the device.
    pub(crate) fn open(&self) -> Device {
        postcard::from_bytes(&self.0).expect("what was packed can be opened")
    }

    /// Returns how many bytes it takes.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Changes the device.
    pub(crate) fn change<T>(&mut self, change: impl FnOnce(&mut Device) -> T) -> T {
        let mut device = self.open();
        let done = change(&mut device);
        *self = device.pack();
        done
    }
}

impl Default for Packed {
    fn default() -> Self {
        Device::default().pack()
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.open().fmt(f)
    }
}

impl Device {
    /// Makes it small.
    pub(crate) fn pack(&self) -> Packed {
        let bytes = postcard::to_allocvec(self).expect("a device has plain fields alone");
        Packed(bytes.into_boxed_slice())
    }

    /// Makes a device that nothing is known of.
    pub(crate) fn new(name: &str, description: &str) -> Self {
        Self { name: name.into(), description: description.into(), ..Self::default() }
    }

    /// Reads the rows. All that they say is told to the cloud again, as often as if it were new: the
    /// process that was to tell it may have died, and the cloud may have been away all the time.
    pub(crate) fn from_rows(rows: Rows) -> Self {
        let twins: Vec<_> = rows.twins.into_iter().map(twin).collect();
        let told = vec![Told::default(); twins.len()];
        let at = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.at);
        Self {
            told,
            last_report: twins.iter().map(|twin| at(&twin.actual)).max().unwrap_or(0),
            twins,
            state_untold: !rows.state.is_empty(),
            name: rows.name,
            description: rows.description,
            state: rows.state,
            last_online: rows.last_online,
            attributes: rows.attributes,
        }
    }

    /// Writes the rows.
    pub(crate) fn rows(&self, id: &str) -> Rows {
        Rows {
            id: id.into(),
            name: self.name.clone(),
            description: self.description.clone(),
            state: self.state.clone(),
            last_online: self.last_online.clone(),
            attributes: self.attributes.clone(),
            twins: self.twins.iter().map(row).collect(),
        }
    }

    /// Returns a property.
    pub(crate) fn twin(&self, name: &str) -> Option<&Twin> {
        self.twins.iter().find(|twin| &*twin.name == name)
    }

    /// Puts a property in place of what it was.
    pub(crate) fn put(&mut self, twin: Twin) {
        match self.twins.iter_mut().find(|other| other.name == twin.name) {
            Some(place) => *place = twin,
            None => {
                self.twins.push(twin);
                self.told.push(Told::default());
            }
        }
    }

    /// Returns the properties of which the cloud does not know all.
    pub(crate) fn untold(&self) -> impl Iterator<Item = &Twin> {
        let pairs = self.twins.iter().zip(&self.told);
        pairs
            .filter(|(twin, told)| told.stamp != Some(twin.stamp()) || told.times < ENOUGH)
            .map(|(twin, _)| twin)
    }

    /// Notes that the cloud has confirmed these.
    pub(crate) fn confirm(&mut self, stamps: &[(Box<str>, Stamp)]) {
        for (name, stamp) in stamps {
            let place = self.twins.iter().position(|twin| twin.name == *name);
            if let Some(told) = place.and_then(|place| self.told.get_mut(place)) {
                told.stamp = Some(*stamp);
                told.times = told.times.saturating_add(1);
            }
        }
    }

    /// Notes that the cloud has to be told of a property, or of all, once more.
    pub(crate) fn forget_told(&mut self, name: Option<&str>) {
        for (twin, told) in self.twins.iter().zip(&mut self.told) {
            match name {
                Some(name) if *name == *twin.name => told.stamp = None,
                Some(_) => {}
                None => *told = Told::default(),
            }
        }
    }

    /// Returns it as a member of the node.
    pub(crate) fn member(&self, id: &str) -> Member {
        Member {
            id: id.into(),
            name: self.name.clone(),
            description: self.description.clone(),
            state: self.state.clone(),
            last_online: self.last_online.clone(),
        }
    }
}

fn twin(row: TwinRow) -> Twin {
    let side = |value: Box<str>, meta: &str, version: &str| {
        let version = serde_json::from_str::<Version>(version).ok();
        let meta = serde_json::from_str::<ValueMeta>(meta).ok();
        if version.is_none() && meta.is_none() && value.is_empty() {
            return None;
        }
        // Only a side that was deleted has a version and no time.
        let value = meta.is_some().then_some(value);
        let at = meta.unwrap_or_default().timestamp;
        Some(Side { value, at, version: version.unwrap_or_default() })
    };
    Twin {
        expected: side(row.expected, &row.expected_meta, &row.expected_version),
        actual: side(row.actual, &row.actual_meta, &row.actual_version),
        name: row.name,
        optional: row.optional,
        kind: row.attr_type,
    }
}

fn row(twin: &Twin) -> TwinRow {
    let value =
        |side: &Option<Side>| side.as_ref().and_then(|side| side.value.clone()).unwrap_or_default();
    let meta = |side: &Option<Side>| match side {
        Some(Side { value: Some(_), at, .. }) => format!("{{\"timestamp\":{at}}}").into(),
        Some(_) | None => Box::default(),
    };
    let version = |side: &Option<Side>| match side {
        Some(Side { version: Version { cloud, edge }, .. }) => {
            format!("{{\"cloud\":{cloud},\"edge\":{edge}}}").into()
        }
        None => Box::default(),
    };
    TwinRow {
        name: twin.name.clone(),
        description: Box::default(),
        expected: value(&twin.expected),
        actual: value(&twin.actual),
        expected_meta: meta(&twin.expected),
        actual_meta: meta(&twin.actual),
        expected_version: version(&twin.expected),
        actual_version: version(&twin.actual),
        optional: twin.optional,
        attr_type: twin.kind.clone(),
        metadata: "{}".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_went() {
        let side = |value: Option<&str>, at, edge| {
            let version = Version { cloud: 3, edge };
            Some(Side { value: value.map(Into::into), at, version })
        };
        let twin = |name: &str, expected, actual, kind: &str| Twin {
            name: name.into(),
            expected,
            actual,
            optional: true,
            kind: kind.into(),
        };
        let mut device = Device::new("d", "a device");
        device.put(twin("t", side(Some("20"), 5, 1), side(Some("21"), 6, 9), "int"));
        device.put(twin("half", None, side(Some(""), 6, 1), "string"));
        device.put(twin("gone", side(None, 0, 2), None, "deleted"));
        assert_eq!(device.pack().open(), device);
        let again = Device::from_rows(device.rows("default/d"));
        assert_eq!(again.twins, device.twins);
        assert_eq!(again.rows("default/d"), device.rows("default/d"));
    }
}
