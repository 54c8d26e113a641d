//! A device plug-in: it registers, lists what it is told to, and on request it hangs, lies or floods.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, ServerStreamingService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use edged::cri;
use edged::device_words as w;
use edged::rpc::{self, Answers, Call};

/// How often it looks whether its socket is there.
const GLANCE: Duration = Duration::from_millis(100);

/// How the plug-in behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It does what it is asked.
    Good,
    /// It is asked for devices and never answers.
    Hangs,
    /// It answers with nothing that makes sense.
    Lies,
    /// It tells of its devices without end.
    Floods,
}

impl Manner {
    /// Reads the word for it.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let all = [
            ("good", Self::Good),
            ("hangs", Self::Hangs),
            ("lies", Self::Lies),
            ("floods", Self::Floods),
        ];
        all.into_iter().find_map(|(name, manner)| (name == word).then_some(manner))
    }
}

/// The plug-in.
#[derive(Debug)]
pub struct PlugIn {
    resource: String,
    socket: PathBuf,
    /// Its devices, and whether each is well.
    pub devices: watch::Sender<Vec<(&'static str, bool)>>,
    /// What it was asked, one text each.
    pub asked: watch::Sender<Vec<String>>,
    manner: Manner,
    server: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Server {
    devices: watch::Receiver<Vec<(&'static str, bool)>>,
    asked: watch::Sender<Vec<String>>,
    manner: Manner,
    file: PathBuf,
}

impl PlugIn {
    /// Makes one for a resource below the node's folder; nobody knows of it yet.
    #[must_use]
    pub fn new(root: &Path, resource: &str, manner: Manner) -> Self {
        let socket = root.join("device-plugins").join(resource.replace('/', "-"));
        let (devices, _) = watch::channel(vec![("one", true), ("two", true)]);
        let (asked, _) = watch::channel(Vec::new());
        Self { resource: resource.to_owned(), socket, devices, asked, manner, server: None }
    }

    /// Serves and registers.
    ///
    /// # Errors
    /// When it cannot serve, or is not taken.
    pub async fn begin(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.vanish().await;
        let listener = rpc::bind(&self.socket)?;
        let file = self.socket.with_extension("file");
        std::fs::write(&file, "of the plug-in")?;
        let (devices, asked) = (self.devices.subscribe(), self.asked.clone());
        let server = Server { devices, asked, manner: self.manner, file };
        self.server = Some(tokio::spawn(rpc::serve(listener, server)));
        let endpoint = self.socket.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(register(&self.socket, w::VERSION, &endpoint, &self.resource).await?)
    }

    /// Waits until it has to register again: whoever it registered with began anew, and removed its
    /// socket.
    pub async fn forgotten(&self) {
        while self.socket.exists() {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Ends as a killed process does.
    pub async fn vanish(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            drop(server.await);
        }
    }

    /// Returns how often a call with this in it was made.
    #[must_use]
    pub fn count(&self, call: &str) -> usize {
        self.asked.borrow().iter().filter(|asked| asked.contains(call)).count()
    }
}

/// Registers a plug-in at the socket beside its own.
///
/// # Errors
/// When it is not taken.
pub async fn register(
    socket: &Path,
    version: &str,
    endpoint: &str,
    resource: &str,
) -> Result<(), cri::Trouble> {
    let channel = cri::channel(socket.with_file_name("kubelet.sock"));
    let [version, endpoint, resource_name] = [version, endpoint, resource].map(str::to_owned);
    let request = w::RegisterRequest { version, endpoint, resource_name, options: None };
    let call = ("Register", "/v1beta1.Registration/Register");
    cri::ask::<_, w::Empty>(&channel, call, request, Duration::from_secs(30)).await.map(drop)
}

/// Pods are asked for one container at a time.
fn first<T: Default>(all: Vec<T>) -> T {
    all.into_iter().next().unwrap_or_default()
}

impl Server {
    fn allocate(&self, ids: &[String]) -> w::AllocateResponse {
        if self.manner == Manner::Lies {
            return w::AllocateResponse { container_responses: Vec::new() };
        }
        let file = self.file.display().to_string();
        let answer = w::ContainerAllocateResponse {
            envs: [("DEVICES".to_owned(), ids.join(","))].into(),
            mounts: vec![w::Mount {
                container_path: "/plugin/file".to_owned(),
                host_path: file,
                read_only: true,
            }],
            devices: vec![w::DeviceSpec {
                container_path: "/dev/of-the-plugin".to_owned(),
                host_path: "/dev/zero".to_owned(),
                permissions: "r".to_owned(),
            }],
            annotations: [("x.org/note".to_owned(), ids.join(","))].into(),
            cdi_devices: Vec::new(),
        };
        w::AllocateResponse { container_responses: vec![answer] }
    }

    fn note(&self, what: String) {
        self.asked.send_modify(|asked| asked.push(what));
    }
}

impl Answers for Server {
    async fn answer(&self, call: Call) -> http::Response<Body> {
        match call.path() {
            "/v1beta1.DevicePlugin/GetDevicePluginOptions" => {
                let options = w::DevicePluginOptions {
                    pre_start_required: true,
                    get_preferred_allocation_available: true,
                };
                call.with(|_: w::Empty| async move { Ok(options) }).await
            }
            "/v1beta1.DevicePlugin/ListAndWatch" => {
                let codec = ProstCodec::<w::ListAndWatchResponse, w::Empty>::default();
                Grpc::new(codec).server_streaming(self.clone(), call.into_request()).await
            }
            "/v1beta1.DevicePlugin/GetPreferredAllocation" => {
                call.with(|request: w::PreferredAllocationRequest| {
                    // The last one, for nobody else would think of that.
                    let mut ids = first(request.container_requests).available;
                    ids.reverse();
                    let answer = w::PreferredAllocationResponse {
                        container_responses: vec![w::Ids { ids }],
                    };
                    async move { Ok(answer) }
                })
                .await
            }
            "/v1beta1.DevicePlugin/Allocate" => {
                call.with(|request: w::AllocateRequest| {
                    let ids = first(request.container_requests).ids;
                    self.note(format!("Allocate {}", ids.join(",")));
                    let (answer, hangs) = (self.allocate(&ids), self.manner == Manner::Hangs);
                    async move {
                        if hangs {
                            std::future::pending::<()>().await;
                        }
                        Ok(answer)
                    }
                })
                .await
            }
            "/v1beta1.DevicePlugin/PreStartContainer" => {
                call.with(|request: w::PreStartContainerRequest| {
                    self.note(format!("PreStartContainer {}", request.ids.join(",")));
                    async move { Ok(w::Empty {}) }
                })
                .await
            }
            _ => call.unknown(),
        }
    }
}

impl ServerStreamingService<w::Empty> for Server {
    type Response = w::ListAndWatchResponse;
    type ResponseStream =
        Pin<Box<dyn Stream<Item = Result<w::ListAndWatchResponse, Status>> + Send>>;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, _: Request<w::Empty>) -> Self::Future {
        let (mut devices, floods) = (self.devices.clone(), self.manner == Manner::Floods);
        devices.mark_changed();
        let lists = stream::unfold(devices, move |mut devices| async move {
            if !floods {
                devices.changed().await.ok()?;
            }
            let device = |(id, healthy): &(&str, bool)| w::Device {
                id: (*id).to_owned(),
                health: if *healthy { w::HEALTHY } else { "Unhealthy" }.to_owned(),
                topology: None,
            };
            let list = devices.borrow_and_update().iter().map(device).collect();
            Some((Ok(w::ListAndWatchResponse { devices: list }), devices))
        });
        Box::pin(async move { Ok(Response::new(Box::pin(lists) as Self::ResponseStream)) })
    }
}
