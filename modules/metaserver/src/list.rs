//! Lists, written as the store is read: object by object, so that no list is ever in memory.

use std::io;

use hyper::Response;
use serde_json::json;
use serde_json::value::RawValue;

use crate::accept::Form;
use crate::body::{self, Body, Writer};
use crate::object;
use crate::path::Target;
use crate::selector::Selector;
use crate::serve::Site;
use crate::status::Refusal;
use crate::store::Page;
use crate::table::Table;

/// How objects are written.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    pub(crate) form: Form,
    pub(crate) api_version: String,
    /// Empty when nobody knows.
    pub(crate) kind: String,
    table: Table,
}

impl Encoder {
    pub(crate) fn new(target: &Target, form: Form) -> Self {
        let kind = target.known().map_or("", |known| known.kind).to_owned();
        Self { form, api_version: target.api_version(), kind, table: Table::of(target) }
    }

    /// Learns the kind from an object where it is not known.
    fn learn(&mut self, object: Option<&RawValue>) {
        if self.kind.is_empty()
            && let Some(kind) = object.and_then(|object| object::field(object, "kind"))
            && let Some(kind) = object::scalar(kind)
        {
            self.kind = kind.into_owned();
        }
    }

    /// Writes what stands before the objects of a list.
    fn head(&self, place: u64) -> Vec<u8> {
        let metadata = json!({"resourceVersion": place.to_string()});
        let meta = "meta.k8s.io/v1";
        let kind = |kind: &str| json!(kind).to_string();
        let text = match self.form {
            Form::Plain => format!(
                r#"{{"kind":{},"apiVersion":{},"metadata":{metadata},"items":["#,
                kind(&format!("{}List", self.kind)),
                kind(&self.api_version),
            ),
            Form::Metadata => format!(
                r#"{{"kind":"PartialObjectMetadataList","apiVersion":"{meta}","metadata":{metadata},"items":["#
            ),
            Form::Table => format!(
                r#"{{"kind":"Table","apiVersion":"{meta}","metadata":{metadata},"columnDefinitions":{},"rows":["#,
                self.table.columns()
            ),
        };
        text.into_bytes()
    }

    /// Writes an object as it stands in a list.
    fn item(&self, object: &RawValue, out: &mut Vec<u8>) {
        match self.form {
            Form::Plain => out.extend_from_slice(object.get().as_bytes()),
            Form::Metadata => out.extend_from_slice(partial(object).as_bytes()),
            Form::Table => self.row(object, out),
        }
    }

    fn row(&self, object: &RawValue, out: &mut Vec<u8>) {
        let cells = self.table.cells(object);
        let row = format!(r#"{{"cells":{cells},"object":{}}}"#, partial(object));
        out.extend_from_slice(row.as_bytes());
    }

    /// Writes an object as it stands alone: in an answer to a get, or in an event.
    pub(crate) fn alone(&self, object: &RawValue, place: u64) -> Vec<u8> {
        match self.form {
            Form::Plain => {
                let bytes = bytes::Bytes::copy_from_slice(object.get().as_bytes());
                object::typed(bytes, &self.api_version, &self.kind).into()
            }
            Form::Metadata => partial(object).into_bytes(),
            Form::Table => {
                let mut table = self.head(place);
                self.row(object, &mut table);
                table.extend_from_slice(b"]}");
                table
            }
        }
    }
}

/// Writes an object's metadata as an object.
fn partial(object: &RawValue) -> String {
    let metadata = object::field(object, "metadata").map_or("{}", RawValue::get);
    format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#
    )
}

/// Answers with all objects of the store that are wanted.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn from_store(
    site: &Site,
    target: &Target,
    form: Form,
    selector: Selector,
) -> Result<Response<Body>, Refusal> {
    // What changes while the list is read comes again in the watch that follows it.
    let place = site.place().await?;
    let of = target.key();
    let first = site.store.page(&of, "").await?;
    let mut encoder = Encoder::new(target, form);
    {
        let rows = first.rows()?;
        encoder.learn(rows.rows.first().map(|(_, object)| *object));
        if rows.rows.is_empty() && !target.is_held() {
            return Err(Refusal::offline(&format!("to list {}", target.group_resource())));
        }
    }
    let (writer, reply) = body::streamed();
    let site = site.clone();
    tokio::spawn(async move {
        if let Err(why) = write(&site, &of, first, &encoder, &selector, place, &writer).await {
            // Nobody must take what has been written for the whole list.
            let _gone = writer.send(Err(io::Error::other(why))).await;
        }
    });
    Ok(reply)
}

async fn write(
    site: &Site,
    of: &str,
    first: Page,
    encoder: &Encoder,
    selector: &Selector,
    place: u64,
    writer: &Writer,
) -> Result<(), String> {
    let told = |refusal: Refusal| refusal.status().to_string();
    let mut out = encoder.head(place);
    let (mut page, mut begun) = (first, false);
    loop {
        let rows = page.rows().map_err(told)?;
        for (_, object) in rows.rows.iter().filter(|(_, object)| selector.wants(object)) {
            if std::mem::replace(&mut begun, true) {
                out.push(b',');
            }
            encoder.item(object, &mut out);
        }
        let last = rows.rest();
        if last.is_none() {
            out.extend_from_slice(b"]}");
        }
        if writer.send(Ok(std::mem::take(&mut out).into())).await.is_err() {
            return Ok(());
        }
        let Some(last) = last else { return Ok(()) };
        page = site.store.page(of, &last).await.map_err(told)?;
    }
}

/// Writes a list that came from the cloud, with a place of this node's, from which a watch can go on.
///
/// # Errors
/// When it is no list.
pub(crate) fn from_cloud(
    target: &Target,
    form: Form,
    list: &[u8],
    place: u64,
) -> Result<Response<Body>, Refusal> {
    #[derive(serde::Deserialize)]
    struct List<'a> {
        #[serde(borrow, default)]
        items: Option<Vec<&'a RawValue>>,
        #[serde(default)]
        kind: String,
    }
    let amiss = |error| Refusal::unavailable(format!("the cloud's answer is no list: {error}"));
    let list: List<'_> = serde_json::from_slice(list).map_err(amiss)?;
    let mut encoder = Encoder::new(target, form);
    if let Some(kind) = list.kind.strip_suffix("List").filter(|kind| !kind.is_empty()) {
        encoder.kind = kind.to_owned();
    }
    let mut out = encoder.head(place);
    for (index, object) in list.items.unwrap_or_default().into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        encoder.item(object, &mut out);
    }
    out.extend_from_slice(b"]}");
    Ok(body::json(out))
}
