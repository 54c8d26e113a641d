//! What the store keeps for devices, asked for when it is needed.

use std::time::Duration;

use ipc_proto::{Content, Group, Kind, Module, Operation, Resource, Scope};
use module_runtime::{Delivery, Peers, RequestError};

use crate::mappers::Info;
use crate::model::{self, Object};

/// How long the store may take.
pub(crate) const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// Names a device.
pub(crate) fn device(id: &str) -> Resource {
    let (namespace, name) = id.split_once('/').unwrap_or_default();
    Resource::object(Scope::Namespace(namespace.into()), Kind::Device, name)
}

fn all(kind: Kind) -> Resource {
    Resource::Object { scope: Scope::Cluster, kind, name: None }
}

async fn query(peers: &Peers, group: Group, resource: Resource) -> Result<Content, RequestError> {
    let message = peers.message(group, Operation::Query, resource, Content::NULL);
    let reply = peers.request(Module::Metamanager, message, STORE_PATIENCE).await?;
    Ok(reply.take().content)
}

/// Returns all rows of the twin tables, and all mappers.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn rows(peers: &Peers) -> Result<(Content, Content), RequestError> {
    let twins = query(peers, Group::Twin, all(Kind::Device)).await?;
    Ok((twins, query(peers, Group::Resource, all(Kind::DeviceMapper)).await?))
}

/// Returns the objects of all devices as one JSON array.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn devices(peers: &Peers) -> Result<Content, RequestError> {
    query(peers, Group::Resource, all(Kind::Device)).await
}

/// Returns a device's object; nothing when it is gone.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn object(peers: &Peers, id: &str) -> Result<Option<Object>, RequestError> {
    let object = query(peers, Group::Resource, device(id)).await?;
    Ok(model::read(object.raw()).ok())
}

/// Stores a mapper.
///
/// # Errors
/// When the store does not take it.
pub(crate) async fn keep_mapper(peers: &Peers, info: &Info) -> Result<(), RequestError> {
    let resource = Resource::object(Scope::Cluster, Kind::DeviceMapper, &info.name);
    let content = Content::encode(info).unwrap_or(Content::NULL);
    let message = peers.message(Group::Resource, Operation::Update, resource, content);
    let reply = peers.request(Module::Metamanager, message, STORE_PATIENCE).await;
    reply.map(Delivery::settle)
}
