//! Answers requests: finds out what is wanted, and who knows it.

use std::convert::Infallible;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::ACCEPT;
use hyper::{Request, Response};
use module_runtime::Peers;
use module_runtime::query::Query;
use tokio::sync::{mpsc, oneshot, watch as state};

use crate::accept::{self, Form};
use crate::body::{self, Body};
use crate::cloud::Cloud;
use crate::config::Config;
use crate::desk::{Begun, Order, Since};
use crate::guard::{Caller, Guard};
use crate::history::TooOld;
use crate::list::{self, Encoder};
use crate::path::{self, Route, Target, Verb};
use crate::selector::Selector;
use crate::status::Refusal;
use crate::store::Store;
use crate::watch::{self, Wanted};
use crate::{discovery, write};

/// What requests need.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) cloud: Cloud,
    /// Who looks at who asks, where that is wanted.
    guard: Option<Guard>,
    orders: mpsc::Sender<Order>,
}

impl Site {
    pub(crate) fn new(
        config: &Config,
        guard: Option<Guard>,
        peers: Peers,
        orders: mpsc::Sender<Order>,
        linked: state::Receiver<bool>,
    ) -> Self {
        let cloud = Cloud::new(config.node.clone(), peers.clone(), linked);
        Self { store: Store(peers), cloud, guard, orders }
    }

    /// Returns the place of the store's last change.
    ///
    /// # Errors
    /// When the process is ending.
    pub(crate) async fn place(&self) -> Result<u64, Refusal> {
        let (reply, place) = oneshot::channel();
        self.ask(Order::Place(reply), place).await
    }

    /// Begins a watch of objects whose key begins with `of`, if it can go on from there.
    ///
    /// # Errors
    /// When the process is ending.
    pub(crate) async fn watch(
        &self,
        of: &str,
        since: Since,
    ) -> Result<Result<Begun, TooOld>, Refusal> {
        let (reply, begun) = oneshot::channel();
        self.ask(Order::Watch { of: of.into(), since, reply }, begun).await
    }

    async fn ask<T>(&self, order: Order, reply: oneshot::Receiver<T>) -> Result<T, Refusal> {
        let ending = || Refusal::unavailable("the node's API is being started again");
        self.orders.send(order).await.map_err(|_| ending())?;
        reply.await.map_err(|_| ending())
    }
}

/// Answers a request.
///
/// # Errors
/// None: what is wrong is an answer too.
pub(crate) async fn answer(
    site: Site,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let reply = admitted(&site, &caller, request).await;
    Ok(reply.unwrap_or_else(|refusal| refusal.reply()))
}

async fn admitted(
    site: &Site,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let route = path::route(request.method(), request.uri().path(), &query)?;
    if let Some(guard) = &site.guard {
        guard.admit(caller, request.headers(), &route).await?;
    }
    match route {
        Route::Health => health(site).await,
        Route::Discovery => discovery::answer(site, request.uri(), request.headers()).await,
        Route::Objects(verb, target) => objects(site, verb, target, &query, request).await,
    }
}

/// It works when the store answers.
async fn health(site: &Site) -> Result<Response<Body>, Refusal> {
    site.place().await?;
    site.store.one("/core/v1/nodes/null/none").await?;
    Ok(body::text("ok"))
}

async fn objects(
    site: &Site,
    verb: Verb,
    target: Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let is_read = matches!(verb, Verb::Get | Verb::List | Verb::Watch);
    if !is_read {
        return write::answer(site, verb, &target, query, request).await;
    }
    let accept = request.headers().get_all(ACCEPT).iter();
    let accept: Vec<_> = accept.filter_map(|value| value.to_str().ok()).collect();
    let form = accept::read(&accept.join(",")).ok_or_else(Refusal::not_acceptable)?;
    if !target.subresource.is_empty() && target.subresource != "status" {
        let what = format!("the subresource {} of {}", target.subresource, target.group_resource());
        return Err(Refusal::not_implemented(&what));
    }
    if verb == Verb::Get {
        get(site, &target, form).await
    } else if verb == Verb::Watch {
        watch::begin(site, wanted(target, form, query)?).await
    } else {
        all(site, &target, form, query).await
    }
}

async fn get(site: &Site, target: &Target, form: Form) -> Result<Response<Body>, Refusal> {
    let of_cloud = async |site: &Site| match site.cloud.get(target).await {
        Ok(object) => Ok(Some(object)),
        Err(refusal) if refusal.is_missing() => Err(refusal),
        // Without the cloud the store has to know.
        Err(refusal) => {
            tracing::debug!(?refusal, "the cloud does not tell");
            Ok(None)
        }
    };
    let key = target.key();
    let object = if target.is_held() {
        match site.store.one(&key).await? {
            Some(object) => Some(object),
            None => of_cloud(site).await?,
        }
    } else {
        match of_cloud(site).await? {
            Some(object) => Some(object),
            None => site.store.one(&key).await?,
        }
    };
    let Some(object) = object else {
        return Err(if target.is_held() {
            Refusal::not_found(target)
        } else {
            Refusal::offline(&format!("to get {}", target.group_resource()))
        });
    };
    let place = site.place().await?;
    let amiss = |error| Refusal::unavailable(format!("the object is no JSON: {error}"));
    let object = serde_json::from_slice(&object).map_err(amiss)?;
    Ok(body::json(Encoder::new(target, form).alone(object, place)))
}

async fn all(
    site: &Site,
    target: &Target,
    form: Form,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let of = |key: &str| query.first(key).unwrap_or_default();
    let selector = Selector::parse(of("labelSelector"), of("fieldSelector"));
    let selector = selector.map_err(Refusal::bad_request)?;
    if !target.is_held() && site.cloud.is_linked() {
        // What changes from here on is told by a watch that begins at this place.
        let place = site.place().await?;
        match site.cloud.list(target, query).await {
            Ok(list) => return list::from_cloud(target, form, &list, place),
            Err(refusal) if !refusal.is_passing() => return Err(refusal),
            Err(refusal) => tracing::debug!(?refusal, "the cloud does not tell"),
        }
    }
    list::from_store(site, target, form, selector).await
}

/// Reads what a watch is to be.
fn wanted(mut target: Target, form: Form, query: &Query) -> Result<Wanted, Refusal> {
    let text = |key: &str| query.first(key).unwrap_or_default().to_owned();
    let (labels, mut fields) = (text("labelSelector"), text("fieldSelector"));
    if let Some(name) = target.name.take() {
        let comma = if fields.is_empty() { "" } else { "," };
        fields.push_str(&format!("{comma}metadata.name={name}"));
    }
    let selector = Selector::parse(&labels, &fields).map_err(Refusal::bad_request)?;
    let number = |key: &str| match query.first(key).filter(|text| !text.is_empty()) {
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| Refusal::bad_request(format!("{key} is '{text}', expected a number"))),
        None => Ok(None),
    };
    let initial = query.first("sendInitialEvents").map(|_| query.is_set("sendInitialEvents"));
    let since = match (number("resourceVersion")?.filter(|version| *version > 0), initial) {
        (_, Some(true)) | (None, None) => None,
        (None, Some(false)) => Some(Since::Now),
        (Some(version), _) => Some(Since::Version(version)),
    };
    let bookmarks = query.is_set("allowWatchBookmarks");
    let marked = bookmarks && initial == Some(true);
    let lasts = number("timeoutSeconds")?.filter(|it| *it > 0).map(Duration::from_secs);
    Ok(Wanted { target, form, selector, labels, fields, since, bookmarks, marked, lasts })
}
