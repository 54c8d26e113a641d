//! A cloud for the rig's node to join, on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipc_proto::{Operation, Resource};
use minicloud::fault::Fault;
use minicloud::{Config, Minicloud};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{SOON, Setup};

/// The node's name.
pub const NODE: &str = "edge1";

/// How long a renewal may take, the longest absence of the cloud in it.
const LEASE: Duration = Duration::from_secs(60);

/// The cloud; it ends when dropped.
#[derive(Debug)]
pub struct Cloud {
    minicloud: Arc<Minicloud>,
    runtime: Handle,
    _ends_with_this: oneshot::Sender<()>,
}

impl Cloud {
    /// Starts a cloud that knows the node.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(config: Config) -> Result<Self> {
        let cloud = Self::start_empty(config)?;
        cloud.apply(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": NODE, "labels": {"node-role.kubernetes.io/edge": ""}},
        }))?;
        Ok(cloud)
    }

    /// Starts a cloud in which no node was registered yet.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start_empty(config: Config) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (started, cloud) = sync_channel(1);
        std::thread::Builder::new().name("cloud".into()).spawn(move || {
            runtime.block_on(async move {
                if started.send(Minicloud::start(config).await).is_ok() {
                    let _dropped = stopped.await;
                }
            });
        })?;
        let minicloud = Arc::new(cloud.recv().context("the cloud's thread has ended")??);
        Ok(Self { minicloud, runtime: handle, _ends_with_this: stop })
    }

    /// Tells the node where this cloud is, with a token to join it.
    pub fn lead(&self, setup: &mut Setup) {
        let certs = setup.folder.path().join("certs");
        setup.edgecore["modules"]["edgeHub"] = json!({
            "httpServer": format!("https://{}", self.minicloud.https()),
            "websocket": {"enable": true, "server": self.minicloud.hub().to_string()},
            "tlsCaFile": certs.join("rootCA.crt"),
            "tlsCertFile": certs.join("server.crt"),
            "tlsPrivateKeyFile": certs.join("server.key"),
            "token": self.minicloud.token(),
        });
        setup.edgecore["modules"]["edgeStream"] = json!({
            "enable": true,
            "server": self.minicloud.tunnel().to_string(),
            "tlsTunnelCAFile": certs.join("rootCA.crt"),
            "tlsTunnelCertFile": certs.join("server.crt"),
            "tlsTunnelPrivateKeyFile": certs.join("server.key"),
        });
    }

    /// Returns the cloud itself, for what it tells without being asked to wait.
    #[must_use]
    pub fn minicloud(&self) -> &Minicloud {
        &self.minicloud
    }

    /// Makes an object what is given, as `kubectl apply` would; returns its key.
    ///
    /// # Errors
    /// When it is no object, or the cloud has ended.
    pub fn apply(&self, object: Value) -> Result<String> {
        self.with(|cloud| async move { cloud.apply(object).await })
    }

    /// Lets something go wrong.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn fault(&self, fault: Fault) -> Result<()> {
        self.with(|cloud| async move { cloud.fault(None, fault).await })
    }

    /// Tells whether the node has acknowledged all that was sent to it.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn waits_for_nothing(&self) -> Result<bool> {
        let sessions = self.with(|cloud| async move { cloud.sessions().await })?;
        Ok(sessions.iter().any(|it| it.node == NODE && it.waiting == 0 && !it.in_flight))
    }

    /// Returns what the node sent; heartbeats, barriers, acknowledgements, and what metaserver asks
    /// and watches on its own account, left out.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn received(&self) -> Result<Vec<String>> {
        let received = self.with(|cloud| async move { cloud.received(0).await })?;
        Ok(received
            .into_iter()
            .map(|it| it.message)
            .filter(|it| {
                let operation = &it.route.operation;
                !matches!(operation, Operation::Keepalive | Operation::Response | Operation::Null)
            })
            .filter(|it| it.route.resource != Resource::KubernetesCa)
            .filter(|it| it.route.resource.to_string() != "watchapp/sync")
            .map(|it| format!("{} {}", it.route.operation, it.route.resource))
            .collect())
    }

    /// Does something with the cloud and waits until it is done.
    pub fn with<F: Future>(&self, work: impl FnOnce(Arc<Minicloud>) -> F) -> F::Output {
        self.runtime.block_on(work(Arc::clone(&self.minicloud)))
    }

    /// Begins something in the cloud's own thread.
    pub fn begin<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Minicloud>) -> F,
    ) -> Begun<T> {
        let runtime = self.runtime.clone();
        let task = runtime.spawn(work(Arc::clone(&self.minicloud)));
        Begun { runtime, task }
    }

    /// Returns the number of the node's session, or 0 where it has none.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn session(&self) -> Result<u64> {
        let sessions = self.with(|cloud| async move { cloud.sessions().await })?;
        Ok(sessions.iter().find(|session| session.node == NODE).map_or(0, |it| it.session))
    }

    /// Returns when the node's lease was renewed last, as the lease says it.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub fn lease(&self) -> Result<Option<String>> {
        self.with(|cloud| async move { cloud.look(renewal).await })
    }

    /// Waits for a renewal of the node's lease that is not the one of `last`, and notes when it came.
    pub fn next_lease(&self, last: Option<String>) -> Begun<Instant> {
        self.begin(move |cloud| async move {
            let came = move |cloud: &minicloud::core::Cloud, _| {
                renewal(cloud).is_some_and(|renewed| Some(renewed) != last)
            };
            cloud.wait_for(LEASE, came).await.context("the lease is not renewed")?;
            Ok(Instant::now())
        })
    }

    /// Waits for a session of the node later than the one numbered `last`, and notes when it began.
    pub fn next_session(&self, last: u64) -> Begun<Instant> {
        self.begin(move |cloud| async move {
            let came = move |cloud: &minicloud::core::Cloud, _| {
                cloud.hub().session_of(NODE).is_some_and(|session| session.0 > last)
            };
            cloud.wait_for(SOON, came).await.context("the node does not join")?;
            Ok(Instant::now())
        })
    }
}

fn renewal(cloud: &minicloud::core::Cloud) -> Option<String> {
    let mut leases = cloud.cluster().of_kind("lease");
    let (_, lease) = leases.find(|(key, _)| key.name() == NODE)?;
    Some(lease["spec"]["renewTime"].as_str()?.to_owned())
}

/// What goes on in the cloud's thread, also when nobody waits for it.
#[derive(Debug)]
#[must_use]
pub struct Begun<T> {
    runtime: Handle,
    task: JoinHandle<Result<T>>,
}

impl<T> Begun<T> {
    /// Waits until it is done.
    ///
    /// # Errors
    /// When it fails.
    pub fn done(self) -> Result<T> {
        self.runtime.block_on(self.task)?
    }
}
