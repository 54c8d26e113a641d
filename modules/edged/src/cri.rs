//! The container runtime (containerd, CRI-O) behind its Unix socket: one method for each call of
//! the interface that is used here, each with a deadline.
//!
//! The connection is made with the first call and again after it was lost; nothing here waits for a
//! runtime that is not there, so a call fails at once and whoever needs it asks again.

pub mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::{TcpStream, UnixStream};
use tonic::client::Grpc;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Service, StdError};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use words as w;

/// The longest message that is taken: as kubelet.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// How long an ordinary call may take: kubelet's `runtimeRequestTimeout`.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long an image may take to come when the runtime itself sees no end to it.
const PULL_PATIENCE: Duration = Duration::from_secs(3600);

/// How long a question for what there is may take.
const LIST_PATIENCE: Duration = Duration::from_secs(30);

/// How much longer than a command may take the runtime may take to say that it took too long.
const EXEC_PATIENCE: Duration = Duration::from_secs(10);

/// Calls that wait for the connection at once; the others wait for them.
const BUFFER: usize = 64;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The call's name.
    pub call: &'static str,
    code: Code,
    /// Whether nothing came from the runtime in time.
    own: bool,
    /// What the runtime said, or why it said nothing.
    pub message: String,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rpc error: code = {:?} desc = {}", self.code, self.message)
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    fn new(call: &'static str, status: &Status) -> Self {
        // What went wrong with the connection stands in the sources.
        let message = module_runtime::with_causes(status.message().to_owned(), status);
        Self { call, code: status.code(), own: false, message }
    }

    fn late(call: &'static str, patience: Duration) -> Self {
        let message = format!("{call} took longer than {} s", patience.as_secs());
        Self { call, code: Code::DeadlineExceeded, own: true, message }
    }

    /// Tells whether the object of the call does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// Tells whether the runtime ended a command because it took too long. A runtime that says
    /// nothing in time is another matter.
    pub fn is_command_late(&self) -> bool {
        self.code == Code::DeadlineExceeded && !self.own
    }

    /// Tells whether the runtime has as much to do as it takes.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.code == Code::ResourceExhausted
    }

    /// Tells whether what was asked cannot be done as things are.
    pub(crate) fn is_out_of_place(&self) -> bool {
        self.code == Code::FailedPrecondition
    }

    /// Tells whether the runtime does not know such a call.
    pub fn is_unimplemented(&self) -> bool {
        self.code == Code::Unimplemented
    }
}

/// Dials the socket anew for each connection.
#[derive(Clone, Debug)]
struct Dial(Arc<PathBuf>);

impl Service<Uri> for Dial {
    type Response = TokioIo<UnixStream>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = Arc::clone(&self.0);
        Box::pin(async move {
            let stream = UnixStream::connect(&*path)
                .await
                .map_err(|error| format!("cannot connect to {}: {error}", path.display()))?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// Makes one call to a server of the pod's own, over TCP.
///
/// # Errors
/// What went wrong, for people.
pub(crate) async fn ask_over_tcp<Q, A>(
    host: &str,
    port: u16,
    path: &'static str,
    request: Q,
) -> Result<A, String>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let to = host.to_owned();
    let uri = format!("http://{host}:{port}").parse::<Uri>().map_err(|error| error.to_string())?;
    let endpoint = Endpoint::from(uri);
    let channel = endpoint.connect_with_connector(DialTcp(to, port)).await;
    let channel = channel.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| error.to_string())?;
    let codec = ProstCodec::<Q, A>::default();
    let request = tonic::Request::new(request);
    let answer = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| Trouble::new("Check", &status).to_string())
}

/// Dials a port.
#[derive(Clone, Debug)]
struct DialTcp(String, u16);

impl Service<Uri> for DialTcp {
    type Response = TokioIo<TcpStream>;
    type Error = StdError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self(host, port) = self.clone();
        Box::pin(async move {
            Ok(TokioIo::new(TcpStream::connect((host.trim_matches(['[', ']']), port)).await?))
        })
    }
}

/// The handle on the runtime; cheap to copy.
#[derive(Clone, Debug)]
pub struct Runtime {
    channel: Channel,
}

impl Runtime {
    /// Makes a handle on the runtime behind `socket`. To be called inside a tokio runtime; it does
    /// not connect yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { channel: channel(socket) }
    }

    async fn call<Q, A>(
        &self,
        call: &'static str,
        path: &'static str,
        request: Q,
        patience: Duration,
    ) -> Result<A, Trouble>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        ask(&self.channel, (call, path), request, patience).await
    }
}

/// Makes the way to whoever serves a socket; it connects with the first call.
pub fn channel(socket: PathBuf) -> Channel {
    let endpoint = Endpoint::from_static("http://runtime").buffer_size(BUFFER);
    endpoint.connect_with_connector_lazy(Dial(Arc::new(socket)))
}

/// Makes a call, by its name and its path.
///
/// # Errors
/// What the server says, or that it says nothing in time.
pub async fn ask<Q, A>(
    channel: &Channel,
    (call, path): (&'static str, &'static str),
    request: Q,
    patience: Duration,
) -> Result<A, Trouble>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let request = tonic::Request::new(request);
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let answer = async {
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        let codec = ProstCodec::<Q, A>::default();
        grpc.unary(request, PathAndQuery::from_static(path), codec).await
    };
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Trouble::new(call, &status)),
        Err(_) => Err(Trouble::late(call, patience)),
    }
}

/// Makes a call, by its name and its path, that is answered again and again.
pub(crate) async fn listen<Q, A>(
    channel: &Channel,
    (call, path): (&'static str, &'static str),
    request: Q,
) -> Result<Streaming<A>, Trouble>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let answer = async {
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        let codec = ProstCodec::<Q, A>::default();
        let request = tonic::Request::new(request);
        grpc.server_streaming(request, PathAndQuery::from_static(path), codec).await
    };
    answer.await.map(tonic::Response::into_inner).map_err(|status| Trouble::new(call, &status))
}

/// Writes a method for each call: its name, the service, the patience, request and answer.
macro_rules! calls {
    ($($(#[doc = $doc:literal])+ $name:ident = $service:literal / $call:literal within $patience:expr, $request:ident => $answer:ident;)+) => {
        impl Runtime {
            $(
                $(#[doc = $doc])+
                pub async fn $name(&self, request: w::$request) -> Result<w::$answer, Trouble> {
                    const PATH: &str = concat!("/runtime.v1.", $service, "/", $call);
                    self.call($call, PATH, request, $patience).await
                }
            )+
        }
    };
}

calls! {
    /// Asks which runtime it is.
    version = "RuntimeService" / "Version" within LIST_PATIENCE, VersionRequest => VersionResponse;
    /// Asks whether it is ready.
    status = "RuntimeService" / "Status" within LIST_PATIENCE, StatusRequest => StatusResponse;
    /// Makes and starts a sandbox. On failure nothing of it runs.
    run_sandbox = "RuntimeService" / "RunPodSandbox" within PATIENCE * 2, RunPodSandboxRequest => RunPodSandboxResponse;
    /// Stops a sandbox and gives its network back; may be repeated.
    stop_sandbox = "RuntimeService" / "StopPodSandbox" within PATIENCE, StopPodSandboxRequest => Empty;
    /// Removes a sandbox with all its containers; may be repeated.
    remove_sandbox = "RuntimeService" / "RemovePodSandbox" within PATIENCE, RemovePodSandboxRequest => Empty;
    /// Asks about one sandbox.
    sandbox_status = "RuntimeService" / "PodSandboxStatus" within LIST_PATIENCE, PodSandboxStatusRequest => PodSandboxStatusResponse;
    /// Lists sandboxes.
    list_sandboxes = "RuntimeService" / "ListPodSandbox" within LIST_PATIENCE, ListPodSandboxRequest => ListPodSandboxResponse;
    /// Makes a container.
    create_container = "RuntimeService" / "CreateContainer" within PATIENCE, CreateContainerRequest => CreateContainerResponse;
    /// Starts a container.
    start_container = "RuntimeService" / "StartContainer" within PATIENCE, StartContainerRequest => Empty;
    /// Removes a container, by force if it runs; may be repeated.
    remove_container = "RuntimeService" / "RemoveContainer" within PATIENCE, RemoveContainerRequest => Empty;
    /// Lists containers.
    list_containers = "RuntimeService" / "ListContainers" within LIST_PATIENCE, ListContainersRequest => ListContainersResponse;
    /// Asks about one container.
    container_status = "RuntimeService" / "ContainerStatus" within LIST_PATIENCE, ContainerStatusRequest => ContainerStatusResponse;
    /// Asks for the address of a command's streams.
    exec_url = "RuntimeService" / "Exec" within LIST_PATIENCE, ExecRequest => StreamResponse;
    /// Asks for the address of the streams of a container's own command.
    attach_url = "RuntimeService" / "Attach" within LIST_PATIENCE, AttachRequest => StreamResponse;
    /// Asks for the address of streams to ports.
    port_forward_url = "RuntimeService" / "PortForward" within LIST_PATIENCE, PortForwardRequest => StreamResponse;
    /// Asks what all containers use.
    container_stats = "RuntimeService" / "ListContainerStats" within LIST_PATIENCE, ListStatsRequest => ListContainerStatsResponse;
    /// Asks what all sandboxes use. Older runtimes do not know this call.
    sandbox_stats = "RuntimeService" / "ListPodSandboxStats" within LIST_PATIENCE, ListStatsRequest => ListPodSandboxStatsResponse;
    /// Asks whether an image is here.
    image_status = "ImageService" / "ImageStatus" within LIST_PATIENCE, ImageStatusRequest => ImageStatusResponse;
    /// Lists the images.
    list_images = "ImageService" / "ListImages" within LIST_PATIENCE, ListImagesRequest => ListImagesResponse;
    /// Asks where the images are.
    image_place = "ImageService" / "ImageFsInfo" within LIST_PATIENCE, ImageFsInfoRequest => ImageFsInfoResponse;
    /// Removes an image with all its names; may be repeated.
    remove_image = "ImageService" / "RemoveImage" within PATIENCE, RemoveImageRequest => Empty;
    /// Has a container's log written into a new file.
    reopen_log = "RuntimeService" / "ReopenContainerLog" within LIST_PATIENCE, ReopenContainerLogRequest => Empty;
    /// Asks how it is configured. Older runtimes do not know this call.
    runtime_config = "RuntimeService" / "RuntimeConfig" within LIST_PATIENCE, RuntimeConfigRequest => RuntimeConfigResponse;
    /// Fetches an image.
    pull_image = "ImageService" / "PullImage" within PULL_PATIENCE, PullImageRequest => PullImageResponse;
}

impl Runtime {
    /// Stops a container: a polite signal, and after `grace` the other one. May be repeated.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Trouble> {
        const PATH: &str = "/runtime.v1.RuntimeService/StopContainer";
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let request = w::StopContainerRequest { container_id: id.to_owned(), timeout };
        let patience = PATIENCE.saturating_add(grace);
        self.call::<_, w::Empty>("StopContainer", PATH, request, patience).await.map(drop)
    }

    /// Runs a command in a container and waits for its end, at most `timeout` if there is one.
    pub async fn exec(
        &self,
        container_id: &str,
        cmd: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<w::ExecSyncResponse, Trouble> {
        const PATH: &str = "/runtime.v1.RuntimeService/ExecSync";
        let seconds = timeout.map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX));
        let container_id = container_id.to_owned();
        let request = w::ExecSyncRequest { container_id, cmd, timeout: seconds };
        // The runtime itself ends the command at the time-out.
        let patience = timeout.map_or(Duration::MAX, |it| it.saturating_add(EXEC_PATIENCE));
        self.call("ExecSync", PATH, request, patience).await
    }

    /// Hears what happens to containers from now on. Older runtimes do not know this call.
    pub async fn events(&self) -> Result<Streaming<w::ContainerEventResponse>, Trouble> {
        const PATH: &str = "/runtime.v1.RuntimeService/GetContainerEvents";
        listen(&self.channel, ("GetContainerEvents", PATH), w::GetEventsRequest {}).await
    }

    /// Lists the sandboxes and the containers with these labels, the newest first.
    pub async fn list(
        &self,
        labels: BTreeMap<String, String>,
    ) -> Result<(Vec<w::PodSandbox>, Vec<w::Container>), Trouble> {
        let label_selector = labels.clone();
        let filter = Some(w::PodSandboxFilter { label_selector });
        let sandboxes = self.list_sandboxes(w::ListPodSandboxRequest { filter });
        let filter = Some(w::ContainerFilter { label_selector: labels });
        let containers = self.list_containers(w::ListContainersRequest { filter });
        let (sandboxes, containers) = tokio::try_join!(sandboxes, containers)?;
        let (mut sandboxes, mut containers) = (sandboxes.items, containers.containers);
        // Attempts are counted whatever the clock says.
        sandboxes.sort_by_key(|it| {
            let attempt = it.metadata.as_ref().map(|metadata| metadata.attempt);
            std::cmp::Reverse((attempt, it.created_at))
        });
        containers.sort_by_key(|it| {
            let attempt = it.metadata.as_ref().map(|metadata| metadata.attempt);
            std::cmp::Reverse((attempt, it.created_at))
        });
        Ok((sandboxes, containers))
    }
}
