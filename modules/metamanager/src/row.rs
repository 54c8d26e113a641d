//! What the core asks of the store, as values: changes that are committed, questions and answers.

use bytes::Bytes;
use ipc_proto::Message;

/// A row of table `meta`, and its mirror in `meta_v2` where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The resource in its edge form, such as `default/pod/nginx`.
    pub key: Box<str>,
    /// The type, such as `pod`.
    pub kind: Box<str>,
    /// The object: JSON text, UTF-8.
    pub value: Bytes,
    /// Its mirror.
    pub mirror: Option<Mirror>,
}

/// The columns of table `meta_v2` beside the value, in which metaserver looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `/<group or "core">/<version>/<plural>/<namespace or "null">/<name>`.
    pub key: Box<str>,
    /// Group, version and resource as Go prints them, such as `/v1, Resource=pods`.
    pub resource: Box<str>,
    /// The namespace; empty for objects of the cluster.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
    /// The object's resourceVersion; 0 when it is not known.
    pub version: u64,
}

/// One thing that a commit does. A commit's changes happen together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Stores an object in place of what stood under its keys.
    Put(Object),
    /// Stores an object unless its mirror has a newer version: for what comes by an answer, which
    /// the cloud may have built before a change that it pushed.
    PutUnlessNewer(Object),
    /// As [`Change::PutUnlessNewer`], but only while the object is there: an answer may come after
    /// the news of its end.
    Refresh(Object),
    /// Removes an object.
    Remove(Removal),
    /// Removes the token of this key.
    RemoveToken(Box<str>),
    /// Stores a row of `meta_v2` alone.
    PutRecord(Mirror, Bytes),
    /// Removes a row of `meta_v2` alone.
    RemoveRecord(Box<str>),
    /// Adds a row to a table of words.
    AddWord(Words, Box<str>),
    /// Takes a row out of a table of words.
    RemoveWord(Words, Box<str>),
    /// Replaces a device's rows in the twin tables.
    PutTwin(Box<DeviceRows>),
    /// Removes a device's rows from the twin tables.
    RemoveTwin(Box<str>),
    /// Puts a message into the outbox.
    Queue(Box<Parcel>),
    /// Takes a message out of the outbox.
    Dequeue(i64),
}

/// Which object is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The row of `meta`.
    pub key: Box<str>,
    /// The row of `meta_v2`.
    pub mirror: Option<Box<str>>,
    /// Only the object with this uid; empty: whatever stands there.
    pub uid: Box<str>,
    /// Rows of `meta` that go with it.
    pub along: Vec<Box<str>>,
}

/// A table with one column of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// The topics that eventbus has subscribed to for the cloud.
    Topics,
    /// The URLs that servicebus has opened.
    Urls,
}

/// A message on its way to the cloud that must arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The message, as it goes to the cloud.
    pub text: Box<str>,
    /// A later parcel of the same subject takes the place of this one while it has not been sent.
    pub subject: Option<Box<str>>,
    /// Whether it is among the first to go when the outbox is full.
    pub expendable: bool,
    /// Parcels up to this one were sent: they are not replaced and not dropped.
    pub sent: i64,
}

/// A device in the twin tables (WIRE.md §5.1); the fields are the columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default)]
pub struct DeviceRows {
    /// `<namespace>/<name>`.
    pub id: String,
    /// The name.
    pub name: String,
    /// For humans.
    pub description: String,
    /// `online`, `offline`, or as the mapper says.
    pub state: String,
    /// When it was last seen.
    pub last_online: String,
    /// Rows of `device_attr`.
    pub attributes: Vec<AttributeRow>,
    /// Rows of `device_twin`.
    pub twins: Vec<TwinRow>,
}

/// A row of `device_attr`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the columns")]
pub struct AttributeRow {
    pub name: String,
    pub description: String,
    pub value: String,
    pub optional: bool,
    pub attr_type: String,
    pub metadata: String,
}

/// A row of `device_twin`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the columns")]
pub struct TwinRow {
    pub name: String,
    pub description: String,
    pub expected: String,
    pub actual: String,
    pub expected_meta: String,
    pub actual_meta: String,
    pub expected_version: String,
    pub actual_version: String,
    pub optional: bool,
    pub attr_type: String,
    pub metadata: String,
}

/// What the core wants to know. A question is answered after all commits before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The object of this key.
    Object(Box<str>),
    /// All objects of a type, as one JSON array.
    Kind(Box<str>),
    /// All objects of a type with their keys.
    Rows(Box<str>),
    /// The token of this key; or else one whose key begins and ends like this.
    Token {
        /// The key.
        key: Box<str>,
        /// The beginning and the end of keys that serve as well.
        like: Option<(Box<str>, Box<str>)>,
    },
    /// The row of `meta_v2` of this key.
    Record(Box<str>),
    /// All rows of `meta_v2` of this group, version and resource, as one JSON array.
    Records(Box<str>),
    /// Rows of `meta_v2` in the order of their keys, as one [`Page`].
    Page(Page),
    /// All rows of a table of words, as a JSON array of strings.
    Words(Words),
    /// One device of the twin tables, as [`DeviceRows`].
    Twin(Box<str>),
    /// All devices of the twin tables, as one JSON array.
    Twins,
    /// The next parcels after this one, in order.
    Outbox {
        /// The last that is not wanted.
        after: i64,
        /// At most so many.
        limit: u32,
    },
}

/// Which rows of `meta_v2` are wanted. The answer is `{"rows":[[key,object],...],"more":bool}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What the keys begin with, when it ends with a slash; else the one key.
    pub of: Box<str>,
    /// Only keys behind this one.
    pub after: Box<str>,
    /// Roughly how long the answer may be, in bytes. It has one row at least.
    pub bytes: usize,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One object, or none.
    One(Option<Bytes>),
    /// Objects as one JSON array.
    Array(Bytes),
    /// Objects with their keys.
    Rows(Vec<(Box<str>, Bytes)>),
    /// Parcels with their places.
    Outbox(Vec<(i64, Message)>),
}

/// What a commit came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Expendable parcels that had to go to make room.
    pub dropped: u32,
    /// Other parcels that had to go to make room.
    pub lost: u32,
    /// What became of rows of `meta_v2`, in order.
    pub news: Vec<News>,
}

impl Committed {
    /// Adds what a later change came to.
    pub fn add(&mut self, later: Self) {
        self.dropped += later.dropped;
        self.lost += later.lost;
        self.news.extend(later.news);
    }
}

/// What became of an object in `meta_v2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The row's key.
    pub key: Box<str>,
    /// What was done with it.
    pub fate: Fate,
    /// Its resourceVersion; 0 when it is not known.
    pub version: u64,
    /// The object as it is, or was last.
    pub value: Bytes,
}

/// What was done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is new.
    Came,
    /// It was there before.
    Changed,
    /// It is gone.
    Went,
}
