//! A storage driver: its volumes are file systems of memory, and devices that nobody is behind.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http;

use edged::csi_words as w;
use edged::rpc::{self, Answers, Call};

/// What a device is called where it is staged.
const DEVICE: &str = "device";

/// The driver's name.
pub const NAME: &str = "memory.example.org";

/// The driver.
#[derive(Debug)]
pub struct Driver {
    socket: PathBuf,
    /// What it was asked, one text each.
    pub asked: watch::Sender<Vec<String>>,
    /// Whether it answers to requests for volumes.
    pub answers: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Server {
    asked: watch::Sender<Vec<String>>,
    answers: watch::Receiver<bool>,
}

impl Driver {
    /// Makes one that registers below the node's folder; nobody knows of it yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let socket = root.join("plugins_registry/memory-reg.sock");
        let (asked, answers) = (watch::channel(Vec::new()).0, watch::channel(true).0);
        Self { socket, asked, answers, server: None }
    }

    /// Serves.
    ///
    /// # Errors
    /// When it cannot.
    pub fn begin(&mut self) -> io::Result<()> {
        let server = Server { asked: self.asked.clone(), answers: self.answers.subscribe() };
        let listener = rpc::bind(&self.socket)?;
        self.server = Some(tokio::spawn(rpc::serve(listener, server)));
        Ok(())
    }

    /// Ends, and takes its socket along.
    ///
    /// # Errors
    /// When it has none.
    pub async fn end(&mut self) -> io::Result<()> {
        fs::remove_file(&self.socket)?;
        if let Some(server) = self.server.take() {
            server.abort();
            drop(server.await);
        }
        Ok(())
    }

    /// Returns what it was asked so far that begins with one of these.
    #[must_use]
    pub fn calls(&self, of: &[&str]) -> Vec<String> {
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
        work: fn(&Q) -> (String, io::Result<()>),
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

fn stage(request: &w::NodeStageVolumeRequest) -> (String, io::Result<()>) {
    let secrets: Vec<_> =
        request.secrets.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let context: Vec<_> = request.publish_context.values().cloned().collect();
    let what = format!("stage {} {} {}", request.volume_id, secrets.join(","), context.join(","));
    let staging = Path::new(&request.staging_target_path);
    let done = if is_device(request.volume_capability.as_ref()) {
        make_device(&staging.join(DEVICE))
    } else {
        make_memory(staging)
    };
    (what, done)
}

/// Tells whether a volume is to be a device.
fn is_device(capability: Option<&w::VolumeCapability>) -> bool {
    capability.is_some_and(|capability| capability.block.is_some())
}

fn make_memory(folder: &Path) -> io::Result<()> {
    let size = c"size=1m".to_owned();
    Ok(mount("tmpfs", folder, "tmpfs", MountFlags::empty(), size.as_c_str())?)
}

fn make_device(path: &Path) -> io::Result<()> {
    // The first loop device, which has a file behind it at most.
    let (kind, mode, number) = (FileType::BlockDevice, Mode::from_raw_mode(0o600), makedev(7, 0));
    match mknodat(CWD, path, kind, mode, number) {
        // It was staged for another pod.
        Err(Errno::EXIST) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes what may not be there any more.
fn remove(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(
        |error| {
            if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
        },
    )
}

fn unstage(request: &w::NodeUnstageVolumeRequest) -> (String, io::Result<()>) {
    let staging = Path::new(&request.staging_target_path);
    let device = staging.join(DEVICE);
    let gone = if device.exists() {
        remove(fs::remove_file(device))
    } else {
        unmount(staging, UnmountFlags::empty()).map_err(Into::into)
    };
    (format!("unstage {}", request.volume_id), gone)
}

fn publish(request: &w::NodePublishVolumeRequest) -> (String, io::Result<()>) {
    let pod = request.volume_context.get("csi.storage.k8s.io/pod.name");
    let what = format!("publish {}", pod.unwrap_or(&request.volume_id));
    let (staging, target) =
        (Path::new(&request.staging_target_path), Path::new(&request.target_path));
    let done = if is_device(request.volume_capability.as_ref()) {
        fs::write(target, "").and_then(|()| Ok(mount_bind(staging.join(DEVICE), target)?))
    } else if request.staging_target_path.is_empty() {
        fs::create_dir(target).and_then(|()| make_memory(target))
    } else {
        fs::create_dir(target).and_then(|()| Ok(mount_bind(staging, target)?))
    };
    (what, done)
}

fn unpublish(request: &w::NodeUnpublishVolumeRequest) -> (String, io::Result<()>) {
    let target = Path::new(&request.target_path);
    let gone = unmount(target, UnmountFlags::empty()).map_err(Into::into).and_then(|()| {
        remove(if target.is_dir() { fs::remove_dir(target) } else { fs::remove_file(target) })
    });
    (format!("unpublish {}", request.volume_id), gone)
}

fn expand(request: &w::NodeExpandVolumeRequest) -> (String, io::Result<()>) {
    let size = request.capacity_range.map_or(0, |range| range.required_bytes);
    let what = format!("expand {} {size}", request.volume_id);
    if is_device(request.volume_capability.as_ref()) {
        return (what, Ok(()));
    }
    let options = CString::new(format!("size={size}")).map_err(io::Error::other);
    let done = options.and_then(|options| {
        Ok(mount_remount(&*request.volume_path, MountFlags::empty(), options.as_c_str())?)
    });
    (what, done)
}

fn stats(request: &w::NodeGetVolumeStatsRequest) -> io::Result<w::NodeGetVolumeStatsResponse> {
    let it = rustix::fs::statvfs(&*request.volume_path)?;
    let usage = |unit: i32, [available, total, free]: [u64; 3]| {
        let [available, total, used] = [available, total, total.saturating_sub(free)]
            .map(|number| i64::try_from(number).unwrap_or_default());
        w::VolumeUsage { available, total, used, unit }
    };
    let bytes = [it.f_bavail, it.f_blocks, it.f_bfree].map(|blocks| blocks * it.f_frsize);
    let usage =
        vec![usage(w::BYTES, bytes), usage(w::INODES, [it.f_favail, it.f_files, it.f_ffree])];
    Ok(w::NodeGetVolumeStatsResponse { usage })
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
                let able =
                    |ability| w::NodeServiceCapability { rpc: Some(w::Rpc { r#type: ability }) };
                let capabilities = [w::STAGE, w::STATS, w::EXPAND].map(able).to_vec();
                let answer = w::NodeGetCapabilitiesResponse { capabilities };
                call.with(move |_: w::Empty| std::future::ready(Ok(answer.clone()))).await
            }
            "/csi.v1.Node/NodeStageVolume" => self.work(call, stage).await,
            "/csi.v1.Node/NodeUnstageVolume" => self.work(call, unstage).await,
            "/csi.v1.Node/NodePublishVolume" => self.work(call, publish).await,
            "/csi.v1.Node/NodeUnpublishVolume" => self.work(call, unpublish).await,
            "/csi.v1.Node/NodeExpandVolume" => self.work(call, expand).await,
            "/csi.v1.Node/NodeGetVolumeStats" => {
                call.with(|request: w::NodeGetVolumeStatsRequest| {
                    let told = stats(&request).map_err(|error| Status::internal(error.to_string()));
                    std::future::ready(told)
                })
                .await
            }
            _ => call.unknown(),
        }
    }
}
