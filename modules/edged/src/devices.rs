//! Devices of plug-ins (kubelet's interface v1beta1): which there are, which container has which,
//! and what each container needs for them.
//!
//! One task owns [`core::Core`], and writes what it gave away to the disk before it says so. Plug-ins
//! are asked by whoever needs them, with an end in time, so that one that hangs holds up its own pods.

mod checkpoint;
pub(crate) mod core;
mod plugin;
pub(crate) mod trial;
pub mod words;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::body::Body;
use tonic::codegen::http;
use tracing::{info, warn};

use crate::pod::make::Extra;
use crate::rpc::{self, Answers, Call};
use core::{Core, Held, Known, Lack, Want};
use plugin::Plugin;

/// The folder of plug-ins' sockets inside the root, and the socket that they register at.
const FOLDER: &str = "device-plugins";
const SOCKET: &str = "kubelet.sock";

/// Questions that wait at once; the others wait to ask.
const ASKS: usize = 64;

/// How long a pod that comes just after this process waits for a plug-in that was here before.
const SOON: Duration = Duration::from_secs(10);

/// How many devices there are of each resource, and how many of them can be used.
pub(crate) type Amounts = BTreeMap<String, Known>;

/// Something to be done with the state; it makes what is to be done once the disk has the state.
type Ask = Box<dyn FnOnce(&mut State) -> Box<dyn FnOnce() + Send> + Send>;

/// What one task owns.
#[derive(Debug)]
struct State {
    core: Core,
    /// By resource.
    plugins: HashMap<String, Plugin>,
    /// Counts the plug-ins that came.
    number: u64,
    /// Whether the disk does not have what was given away.
    changed: bool,
    amounts: watch::Sender<Amounts>,
}

/// The handle on the devices; cheap to copy.
#[derive(Clone, Debug)]
pub(crate) struct Devices {
    asks: mpsc::Sender<Ask>,
    amounts: watch::Receiver<Amounts>,
    folder: PathBuf,
}

impl Devices {
    /// Begins to serve plug-ins below a folder. To be called inside a runtime.
    pub(crate) fn begin(root: &Path) -> Self {
        let folder = root.join(FOLDER);
        let (resources, held) = checkpoint::read(&folder);
        let core = Core::new(resources, held, module_runtime::unix_millis());
        let (amounts_sender, amounts) = watch::channel(core.resources.clone());
        let (asks, asked) = mpsc::channel(ASKS);
        let devices = Self { asks, amounts, folder: folder.clone() };
        let state = State {
            core,
            plugins: HashMap::new(),
            number: 0,
            changed: false,
            amounts: amounts_sender,
        };
        tokio::spawn(state.run(asked, folder.clone()));
        match listen(&folder) {
            Ok(listener) => drop(tokio::spawn(rpc::serve(listener, Registry(devices.clone())))),
            Err(error) => warn!("no device plug-in can register in {}: {error}", folder.display()),
        }
        devices
    }

    /// Returns how many devices there are, whenever that changes.
    pub(crate) fn amounts(&self) -> watch::Receiver<Amounts> {
        self.amounts.clone()
    }

    /// Has something done with the state, and returns what it comes to once the disk has the state.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> T {
        let (sender, answer) = oneshot::channel();
        let ask: Ask = Box::new(move |state| {
            let done = work(state);
            Box::new(move || drop(sender.send(done)))
        });
        // The other end lives as long as the process.
        if self.asks.send(ask).await.is_err() {
            std::future::pending::<()>().await;
        }
        match answer.await {
            Ok(done) => done,
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns what all containers have.
    pub(crate) async fn held(&self) -> Core {
        self.with(|state| state.core.clone()).await
    }

    /// Takes back the devices of a pod that is over.
    pub(crate) async fn release(&self, uid: &str) {
        let uid = uid.to_owned();
        self.with(move |state| state.changed |= state.core.release(&uid)).await;
    }

    /// Takes back the devices of all pods but these.
    pub(crate) fn retain(&self, uids: HashSet<String>) {
        let devices = self.clone();
        tokio::spawn(async move {
            devices.with(move |state| state.changed |= state.core.retain(&uids)).await;
        });
    }

    /// Tells of which of these resources there are plug-ins, or were.
    pub(crate) fn known(
        &self,
        resources: impl Iterator<Item = (String, usize)>,
    ) -> Vec<(String, usize)> {
        let amounts = self.amounts.borrow();
        resources.filter(|(name, count)| *count > 0 && amounts.contains_key(name)).collect()
    }

    /// Gives a container devices, unless it has them.
    ///
    /// # Errors
    /// Why it cannot have them, as kubelet says it.
    pub(crate) async fn claim(&self, want: Want) -> Result<(), String> {
        match self.try_claim(&want).await {
            Err(Lack { soon: true, .. }) => {
                let resource = &want.resource;
                let has = |amounts: &Amounts| {
                    amounts.get(resource).is_some_and(|it| it.devices.values().any(|it| it.healthy))
                };
                let mut amounts = self.amounts.clone();
                let come = async { drop(amounts.wait_for(has).await) };
                let _either_way = tokio::time::timeout(SOON, come).await;
                self.try_claim(&want).await
            }
            claimed => claimed,
        }
        .map_err(|lack| lack.why)
    }

    async fn try_claim(&self, want: &Want) -> Result<(), Lack> {
        let asked = want.clone();
        let begun = move |state: &mut State| {
            let offer = state.core.offer(&asked)?;
            let plugin = state.plugins.get(&asked.resource).cloned();
            Ok::<_, Lack>(offer.map(|offer| (offer, plugin)))
        };
        let Some((offer, plugin)) = self.with(begun).await? else { return Ok(()) };
        let gone =
            || format!("endpoint not found in cache for a registered resource: {}", want.resource);
        let failed = |why: String| Lack { why, soon: false };
        let plugin = plugin.ok_or_else(|| failed(gone()))?;
        let preferred = plugin.preferred(&offer, want.count).await.map_err(failed)?;
        let asked = want.clone();
        let reserved = self.with(move |state| state.core.reserve(&asked, &preferred)).await?;
        let Some(ids) = reserved else { return Ok(()) };
        let answer = plugin.allocate(ids).await;
        let (why, answer) = match answer {
            Ok(answer) => (None, Some(answer)),
            Err(why) => (Some(why), None),
        };
        let asked = want.clone();
        let settle = move |state: &mut State| {
            state.core.settle(&asked, answer);
            state.changed = true;
        };
        self.with(settle).await;
        why.map_or(Ok(()), |why| Err(failed(why)))
    }

    /// Returns what a container needs for the devices that it has, once their plug-ins know that it
    /// starts.
    ///
    /// # Errors
    /// When a plug-in that wants to know it cannot be told.
    pub(crate) async fn before_start(&self, uid: &str, container: &str) -> Result<Extra, String> {
        let (uid, container) = (uid.to_owned(), container.to_owned());
        let find = move |state: &mut State| -> Vec<(Held, Option<Plugin>)> {
            let plugin = |held: &Held| state.plugins.get(&held.resource).cloned();
            state.core.of(&uid, &container).map(|held| (held.clone(), plugin(held))).collect()
        };
        let mut extra = Extra::default();
        for (held, plugin) in self.with(find).await {
            let resource = &held.resource;
            let plugin = plugin.ok_or_else(|| {
                format!("endpoint not found in cache for a registered resource: {resource}")
            })?;
            plugin.before_start(held.ids()).await?;
            plugin::add(&mut extra, held.answer.unwrap_or_default());
        }
        Ok(extra)
    }

    /// Takes a plug-in that says it is there.
    async fn register(&self, request: words::RegisterRequest) -> Result<(), String> {
        let words::RegisterRequest { version, endpoint, resource_name, .. } = request;
        if version != words::VERSION {
            return Err(format!(
                "requested API version \"{version}\" is not supported by kubelet. Supported version \
                 is [\"{}\"]",
                words::VERSION
            ));
        }
        if !core::is_extended(&resource_name) {
            return Err(format!("the ResourceName \"{resource_name}\" is invalid"));
        }
        if !crate::pod::names::is_plain(&endpoint) || endpoint == SOCKET {
            return Err(format!("the endpoint '{endpoint}' is no name of a socket in the folder"));
        }
        let plugin = Plugin::connect(self.folder.join(endpoint)).await?;
        let resource = resource_name.clone();
        let added = plugin.clone();
        let add = move |state: &mut State| {
            state.number += 1;
            state.changed = true;
            state.core.came(&resource, state.number)?;
            state.plugins.insert(resource, added);
            Ok::<_, String>(state.number)
        };
        let number = self.with(add).await?;
        info!(resource = %resource_name, "a device plug-in is there");
        tokio::spawn(plugin.follow(self.clone(), resource_name, number));
        Ok(())
    }
}

impl State {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>, folder: PathBuf) {
        while let Some(ask) = asked.recv().await {
            let told = ask(&mut self);
            if std::mem::take(&mut self.changed) {
                let (core, folder) = (self.core.clone(), folder.clone());
                let written = move || checkpoint::write(&folder, &core);
                if let Ok(Err(error)) = tokio::task::spawn_blocking(written).await {
                    warn!("a restart will not know which devices are in use: {error}");
                }
            }
            self.amounts.send_if_modified(|amounts| {
                let news = *amounts != self.core.resources;
                if news {
                    amounts.clone_from(&self.core.resources);
                }
                news
            });
            told();
        }
    }

    /// Takes it that a plug-in left.
    fn left(&mut self, resource: &str, number: u64) {
        let current = self.core.resources.get(resource).and_then(|known| known.plugin);
        if current == Some(number) {
            self.core.left(resource, number, module_runtime::unix_millis());
            self.plugins.remove(resource);
            warn!(resource, "a device plug-in left");
        }
    }
}

/// Makes the socket that plug-ins register at. Sockets of plug-ins are removed, which is how they
/// notice that they have to register again.
fn listen(folder: &Path) -> std::io::Result<UnixListener> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
            fs::remove_file(entry.path())?;
        }
    }
    rpc::bind(&folder.join(SOCKET))
}

/// What plug-ins call.
#[derive(Clone)]
struct Registry(Devices);

impl Answers for Registry {
    async fn answer(&self, call: Call) -> http::Response<Body> {
        if call.path() != "/v1beta1.Registration/Register" {
            return call.unknown();
        }
        call.with(|request: words::RegisterRequest| {
            let devices = self.0.clone();
            async move {
                let resource = request.resource_name.clone();
                let registered = devices.register(request).await;
                registered.map(|()| words::Empty {}).map_err(|why| {
                    let resource: String = resource.chars().take(128).collect();
                    warn!(%resource, "a device plug-in is refused: {why}");
                    tonic::Status::unknown(why)
                })
            }
        })
        .await
    }
}
