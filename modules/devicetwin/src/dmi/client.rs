//! Calls to mappers. Each has a connection of its own and an end in time, as mappers know it from
//! the Go edgecore.

use std::future::{Ready, ready};
use std::io;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use module_runtime::Peers;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, StdError};
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tracing::debug;

use super::words as w;
use crate::mappers::{Call, CallError, Described, What};
use crate::{model, objects};

/// How long connecting and the call may take together.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer: a device, of which nothing is used.
const MAX_ANSWER: usize = 1024 * 1024;

/// Makes a call.
///
/// # Errors
/// [`CallError`] with the reason, for people.
pub(crate) async fn call(peers: &Peers, call: Call) -> Result<(), CallError> {
    let Call { socket, what, .. } = call;
    let device = match &what {
        What::RegisterDevice(device) | What::UpdateDevice(device) => {
            let Some(words) = describe(peers, device).await? else { return Ok(()) };
            Some(words)
        }
        What::CreateModel(_)
        | What::UpdateModel(_)
        | What::RemoveModel(_)
        | What::RemoveDevice(_)
        | What::GetDevice(_) => None,
    };
    let done = async {
        match what {
            What::CreateModel(model) => {
                let request = w::ModelRequest { model: Some(*model) };
                ask(&socket, "/v1beta1.DeviceMapperService/CreateDeviceModel", request).await
            }
            What::UpdateModel(model) => {
                let request = w::ModelRequest { model: Some(*model) };
                ask(&socket, "/v1beta1.DeviceMapperService/UpdateDeviceModel", request).await
            }
            What::RemoveModel(name) => {
                ask(&socket, "/v1beta1.DeviceMapperService/RemoveDeviceModel", name).await
            }
            What::RegisterDevice(_) => {
                let request = w::DeviceRequest { device };
                ask(&socket, "/v1beta1.DeviceMapperService/RegisterDevice", request).await
            }
            What::UpdateDevice(_) => {
                let request = w::DeviceRequest { device };
                ask(&socket, "/v1beta1.DeviceMapperService/UpdateDevice", request).await
            }
            What::RemoveDevice(name) => {
                ask(&socket, "/v1beta1.DeviceMapperService/RemoveDevice", name).await
            }
            What::GetDevice(name) => {
                ask(&socket, "/v1beta1.DeviceMapperService/GetDevice", name).await
            }
        }
    };
    match tokio::time::timeout(PATIENCE, done).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(status)) => Err(failed(&status)),
        Err(_) => {
            let patience = PATIENCE.as_secs();
            Err(CallError::Unreachable(format!("the mapper did not answer within {patience} s")))
        }
    }
}

/// Reads in the store what a mapper is told of a device; nothing when it is gone, of which the mapper
/// hears next.
async fn describe(peers: &Peers, device: &Described) -> Result<Option<w::Device>, CallError> {
    match objects::object(peers, &device.id).await {
        Ok(Some(object)) => {
            model::device(&object, &device.model).map(Some).map_err(CallError::Refused)
        }
        Ok(None) => Ok(None),
        Err(error) => {
            debug!(id = %device.id, "the store does not tell of a device: {error}");
            Err(CallError::NoStore)
        }
    }
}

fn failed(status: &Status) -> CallError {
    let reason: String = status.message().chars().take(256).collect();
    let code = status.code();
    if matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) {
        CallError::Unreachable(reason)
    } else if code == Code::Unimplemented {
        CallError::Unsupported
    } else {
        CallError::Refused(format!("{code:?}: {reason}"))
    }
}

async fn ask<Q: Message + 'static>(
    socket: &Path,
    path: &'static str,
    request: Q,
) -> Result<(), Status> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let dialled = Dialled(Some(stream));
    let channel = Endpoint::from_static("http://mapper").connect_with_connector(dialled).await;
    let channel = channel.map_err(|error| {
        Status::unavailable(format!("{} speaks no gRPC: {error}", socket.display()))
    })?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_ANSWER);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Q, w::Empty>::default();
    let request = tonic::Request::new(request);
    grpc.unary(request, PathAndQuery::from_static(path), codec).await.map(drop)
}

/// Says why a mapper's socket cannot be connected to, and what can be done.
fn unreachable(socket: &Path, error: &io::Error) -> Status {
    let socket = socket.display();
    let is = |kind| error.kind() == kind;
    Status::unavailable(if is(io::ErrorKind::PermissionDenied) {
        format!(
            "no permission to connect to {socket}: give the socket to devicetwin's user ('edgectl \
             sandbox' shows it), or run devicetwin as the mapper's (modules.devicetwin.user of \
             supervisor.yaml)"
        )
    } else if is(io::ErrorKind::NotFound) {
        format!("there is no {socket}: the mapper does not run")
    } else if is(io::ErrorKind::ConnectionRefused) {
        format!("nobody listens on {socket}: the mapper has ended")
    } else {
        format!("cannot connect to {socket}: {error}")
    })
}

/// A connection to a mapper, which the channel takes.
#[derive(Debug)]
struct Dialled(Option<UnixStream>);

impl Service<Uri> for Dialled {
    type Response = TokioIo<UnixStream>;
    type Error = StdError;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| "the mapper hung up".into()))
    }
}
