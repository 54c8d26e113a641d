//! A storage driver of the test's own: its volumes are file systems of memory.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;

use crate::csi::words as w;
use crate::rpc::{self, Answers, Call};

/// The driver's name.
pub(super) const NAME: &str = "memory.example.org";

/// The driver.
pub(super) struct Driver {
    socket: PathBuf,
    /// What it was asked, one text each.
    pub(super) asked: watch::Sender<Vec<String>>,
    /// Whether it answers to requests for volumes.
    pub(super) answers: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Server {
    asked: watch::Sender<Vec<String>>,
    answers: watch::Receiver<bool>,
}

impl Driver {
    /// Makes one that registers below a root folder; nobody knows of it yet.
    pub(super) fn new(root: &Path) -> Self {
        let socket = root.join("plugins_registry/memory-reg.sock");
        let (asked, answers) = (watch::channel(Vec::new()).0, watch::channel(true).0);
        Self { socket, asked, answers, server: None }
    }

    /// Serves.
    pub(super) fn begin(&mut self) {
        let server = Server { asked: self.asked.clone(), answers: self.answers.subscribe() };
        let listener = rpc::bind(&self.socket).unwrap();
        self.server = Some(tokio::spawn(rpc::serve(listener, server)));
    }

    /// Ends, and takes its socket along.
    pub(super) async fn end(&mut self) {
        fs::remove_file(&self.socket).unwrap();
        if let Some(server) = self.server.take() {
            server.abort();
            drop(server.await);
        }
    }

    /// Returns what it was asked so far that begins with one of these.
    pub(super) fn calls(&self, of: &[&str]) -> Vec<String> {
        let asked = self.asked.borrow();
        let wanted = |call: &&String| of.iter().any(|name| call.starts_with(name));
        asked.iter().filter(wanted).cloned().collect()
    }
}

impl Server {
    /// Takes a request for a volume, and does it.
    async fn work<Q: Message + Default + 'static>(
        &self,
        call: Call,
        work: fn(&Q) -> (String, std::io::Result<()>),
    ) -> http::Response<Body> {
        call.with(|request: Q| {
            let mut answers = self.answers.clone();
            let asked = self.asked.clone();
            async move {
                let _while_it_does_not = answers.wait_for(|answers| *answers).await;
                let (what, done) = work(&request);
                asked.send_modify(|asked| asked.push(what));
                done.map(|()| w::Empty {}).map_err(|error| Status::internal(error.to_string()))
            }
        })
        .await
    }
}

fn stage(request: &w::NodeStageVolumeRequest) -> (String, std::io::Result<()>) {
    let secrets: Vec<_> =
        request.secrets.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let context: Vec<_> = request.publish_context.values().cloned().collect();
    let what = format!("stage {} {} {}", request.volume_id, secrets.join(","), context.join(","));
    let flags = MountFlags::empty();
    let made = mount(
        "tmpfs",
        &request.staging_target_path,
        "tmpfs",
        flags,
        c"size=1m".to_owned().as_c_str(),
    );
    (what, made.map_err(Into::into))
}

fn unstage(request: &w::NodeUnstageVolumeRequest) -> (String, std::io::Result<()>) {
    let gone = unmount(&request.staging_target_path, UnmountFlags::empty());
    (format!("unstage {}", request.volume_id), gone.map_err(Into::into))
}

fn publish(request: &w::NodePublishVolumeRequest) -> (String, std::io::Result<()>) {
    let pod = request.volume_context.get("csi.storage.k8s.io/pod.name");
    let what = format!("publish {}", pod.unwrap_or(&request.volume_id));
    let target = Path::new(&request.target_path);
    let done = fs::create_dir(target).and_then(|()| {
        if request.staging_target_path.is_empty() {
            let flags = MountFlags::empty();
            return Ok(mount("tmpfs", target, "tmpfs", flags, c"size=1m".to_owned().as_c_str())?);
        }
        Ok(mount_bind(&request.staging_target_path, target)?)
    });
    (what, done)
}

fn unpublish(request: &w::NodeUnpublishVolumeRequest) -> (String, std::io::Result<()>) {
    let gone = unmount(&request.target_path, UnmountFlags::empty());
    let gone = gone.map_err(Into::into).and_then(|()| fs::remove_dir(&request.target_path));
    (format!("unpublish {}", request.volume_id), gone)
}

impl Answers for Server {
    async fn answer(&self, call: Call) -> http::Response<Body> {
        match call.path() {
            "/pluginregistration.Registration/GetInfo" => {
                let info = w::PluginInfo {
                    r#type: "CSIPlugin".to_owned(),
                    name: NAME.to_owned(),
                    endpoint: String::new(),
                    supported_versions: vec!["1.0.0".to_owned()],
                };
                call.with(move |_: w::Empty| std::future::ready(Ok(info.clone()))).await
            }
            "/pluginregistration.Registration/NotifyRegistrationStatus" => {
                call.with(|status: w::RegistrationStatus| {
                    let what = format!("registered {}", status.plugin_registered);
                    self.asked.send_modify(|asked| asked.push(what));
                    std::future::ready(Ok(w::Empty {}))
                })
                .await
            }
            "/csi.v1.Node/NodeGetInfo" => {
                let segments = [("topology.example.org/rack".to_owned(), "7".to_owned())].into();
                let info = w::NodeGetInfoResponse {
                    node_id: "memory-of-n".to_owned(),
                    accessible_topology: Some(w::Topology { segments }),
                };
                call.with(move |_: w::Empty| std::future::ready(Ok(info.clone()))).await
            }
            "/csi.v1.Node/NodeGetCapabilities" => {
                let rpc = Some(w::Rpc { r#type: w::STAGE });
                let capabilities = vec![w::NodeServiceCapability { rpc }];
                let answer = w::NodeGetCapabilitiesResponse { capabilities };
                call.with(move |_: w::Empty| std::future::ready(Ok(answer.clone()))).await
            }
            "/csi.v1.Node/NodeStageVolume" => self.work(call, stage).await,
            "/csi.v1.Node/NodeUnstageVolume" => self.work(call, unstage).await,
            "/csi.v1.Node/NodePublishVolume" => self.work(call, publish).await,
            "/csi.v1.Node/NodeUnpublishVolume" => self.work(call, unpublish).await,
            _ => call.unknown(),
        }
    }
}
