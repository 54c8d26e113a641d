//! The store, read through metamanager in pages, so that a list of any length takes the memory of
//! one page.

use std::time::Duration;

use bytes::Bytes;
use ipc_proto::{Content, Group, Module, Operation, Resource};
use module_runtime::{Peers, RequestError};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::status::Refusal;

/// How long a page is, in bytes, unless one object is longer.
const PAGE: usize = 64 * 1024;

/// How long the store may take, its restart included.
const PATIENCE: Duration = Duration::from_secs(20);

/// Some rows of the store.
#[derive(Debug)]
pub(crate) struct Page(Bytes);

/// The rows of a page.
#[derive(Debug, Deserialize)]
pub(crate) struct Rows<'a> {
    /// Keys and objects.
    #[serde(borrow)]
    pub(crate) rows: Vec<(String, &'a RawValue)>,
    /// Whether there are rows behind them.
    more: bool,
}

impl Rows<'_> {
    /// Returns the key behind which there are more rows, if there are.
    pub(crate) fn rest(&self) -> Option<String> {
        self.rows.last().map(|(key, _)| key.clone()).filter(|_| self.more)
    }
}

impl Page {
    /// Reads the rows.
    ///
    /// # Errors
    /// When metamanager's answer is no page.
    pub(crate) fn rows(&self) -> Result<Rows<'_>, Refusal> {
        let amiss = |error| Refusal::unavailable(format!("the store answered amiss: {error}"));
        serde_json::from_slice(&self.0).map_err(amiss)
    }
}

/// The way to the store.
#[derive(Clone, Debug)]
pub(crate) struct Store(pub(crate) Peers);

impl Store {
    /// Reads a page: rows whose key begins with `of`, behind the key `after`.
    ///
    /// # Errors
    /// Why the store does not answer.
    pub(crate) async fn page(&self, of: &str, after: &str) -> Result<Page, Refusal> {
        let ask = async {
            loop {
                let content = json!({"after": after, "bytes": PAGE}).to_string();
                let content = Content::from_raw(content.into());
                let resource = Resource::Text(of.into());
                let query = self.0.message(Group::Meta, Operation::Query, resource, content);
                match self.0.request(Module::Metamanager, query, PATIENCE).await {
                    // It is asked again in its next life.
                    Err(RequestError::PeerDied { .. }) => {}
                    Ok(answer) => return Ok(Page(answer.take().content.into_raw())),
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(answer) => answer,
            Err(_) => Err("it is being started again".to_owned()),
        }
        .map_err(|why| Refusal::unavailable(format!("the node's store does not answer: {why}")))
    }

    /// Reads one object.
    ///
    /// # Errors
    /// Why the store does not answer.
    pub(crate) async fn one(&self, key: &str) -> Result<Option<Bytes>, Refusal> {
        let page = self.page(key, "").await?;
        let found = page.rows()?.rows.into_iter().next();
        Ok(found.map(|(_, object)| page.0.slice_ref(object.get().as_bytes())))
    }
}
