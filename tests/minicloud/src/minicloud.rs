//! A running cloud, from the side of a test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::Config;
use crate::core::cluster::Cluster;
use crate::core::ids::Ids;
use crate::core::key::Key;
use crate::core::nodes::NodeView;
use crate::core::received::Received;
use crate::core::{Cloud, Push, Settings};
use crate::fault::Fault;
use crate::hub::core::{Hub, SessionView};
#[cfg(feature = "quic")]
use crate::hub::quic;
use crate::hub::socket;
use crate::listen::listen;
use crate::owner::{COMMAND_QUEUE, Command, Conditions, Owner, Ports};
use crate::pki::Authority;
use crate::shared::Shared;
use crate::store::Store;
use crate::stream::{self, ToTunnel, TunnelFault, Tunnels};
use crate::{control, https, manifests, router, token};

/// How often a condition that time alone can make true is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A running cloud. It ends when it is dropped, without writing its state a last time;
/// [`Minicloud::stop`] does that.
pub struct Minicloud {
    shared: Shared,
    turns: watch::Receiver<u64>,
    hub: SocketAddr,
    https: SocketAddr,
    streams: Streams,
    control: Option<SocketAddr>,
    router: Option<SocketAddr>,
    #[cfg(feature = "quic")]
    quic: SocketAddr,
    /// Aborted when dropped.
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for Minicloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minicloud").field("hub", &self.hub).field("https", &self.https).finish()
    }
}

impl Minicloud {
    /// Starts a cloud on the runtime of the caller. When it returns, its addresses listen.
    ///
    /// # Errors
    /// When an address is taken, the control address is none of the loopback, or what is kept in
    /// the folder cannot be read.
    pub async fn start(config: Config) -> Result<Self> {
        let clock = Clock::start();
        let store = config.dir.as_deref().map(Store::open).transpose()?;
        let authority = Arc::new(match &store {
            Some(store) => store.authority()?,
            None => Authority::create()?,
        });
        let ids = Ids::new(config.seed.map_or_else(random, Ok)?);
        let (cluster, syncs) = match &store {
            Some(store) => store.load(ids)?,
            None => (Cluster::new(ids), BTreeMap::new()),
        };
        let settings = Settings {
            node_grace: config.node_grace,
            sync_interval: config.sync_interval,
            address: config.hub.ip().to_string(),
            ca_pem: authority.pem(),
            token_key: authority.key_der().to_vec(),
        };
        let cloud = Cloud::new(settings, cluster, Hub::new(config.times, syncs), clock.now());
        let (commands, inbox) = mpsc::channel(COMMAND_QUEUE);
        let (condition_sender, conditions) = watch::channel(Conditions::default());
        let (turn_sender, turns) = watch::channel(0);
        let names = names(&config);
        let shared = Shared {
            commands,
            conditions,
            authority: Arc::clone(&authority),
            certificates: Arc::new((authority.tls(&names, false)?, authority.tls(&names, true)?)),
            clock,
            authorize: config.authorize,
            certificate_life: config.certificate_life,
            token_life: config.token_life,
        };
        let owner = Owner {
            cloud,
            clock,
            authority,
            store,
            conditions: condition_sender,
            turns: turn_sender,
            ports: Ports::default(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(owner.run(inbox));
        Self::listen(&config, shared, turns, tasks).await
    }

    async fn listen(
        config: &Config,
        shared: Shared,
        turns: watch::Receiver<u64>,
        mut tasks: JoinSet<()>,
    ) -> Result<Self> {
        let (hub, listener) = bind(config.hub).await?;
        let with = shared.clone();
        tasks.spawn(listen(listener, shared.conditions.clone(), move |stream| {
            socket::serve(stream, with.clone())
        }));
        let (https, listener) = bind(config.https).await?;
        let with = shared.clone();
        tasks.spawn(listen(listener, shared.conditions.clone(), move |stream| {
            https::serve(stream, with.clone())
        }));
        let streams = Streams::listen(config, &shared, &mut tasks).await?;
        #[cfg(feature = "quic")]
        let quic = {
            let endpoint = quic::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &shared)?;
            let address = endpoint.local_addr()?;
            tasks.spawn(quic::listen(endpoint, shared.clone()));
            address
        };
        let mut control = None;
        if let Some(address) = config.control {
            anyhow::ensure!(
                address.ip().is_loopback(),
                "control address {address} is not loopback"
            );
            let (address, listener) = bind(address).await?;
            control = Some(address);
            let with = shared.clone();
            // A restart of the cloud does not concern who commands it.
            let (steady, conditions) = watch::channel(Conditions::default());
            tasks.spawn(async move {
                let serve = move |stream| control::serve(stream, with.clone());
                listen(listener, conditions, serve).await;
                drop(steady);
            });
        }
        let router = match config.router {
            Some(address) => Some(Self::listen_router(address, &shared, &turns, &mut tasks).await?),
            None => None,
        };
        if let Some(folder) = &config.manifests {
            tasks.spawn(manifests::follow(folder.clone(), shared.clone()));
        }
        Ok(Self {
            shared,
            turns,
            hub,
            https,
            streams,
            control,
            router,
            #[cfg(feature = "quic")]
            quic,
            tasks,
        })
    }

    async fn listen_router(
        address: SocketAddr,
        shared: &Shared,
        turns: &watch::Receiver<u64>,
        tasks: &mut JoinSet<()>,
    ) -> Result<SocketAddr> {
        let (address, listener) = bind(address).await?;
        let (with, when) = (shared.clone(), turns.clone());
        tasks.spawn(listen(listener, shared.conditions.clone(), move |stream| {
            router::serve(stream, with.clone(), when.clone())
        }));
        tasks.spawn(router::forward(shared.clone(), turns.clone()));
        Ok(address)
    }

    /// Returns where nodes connect.
    #[must_use]
    pub const fn hub(&self) -> SocketAddr {
        self.hub
    }

    /// Returns where nodes connect by QUIC.
    #[cfg(feature = "quic")]
    #[must_use]
    pub const fn quic(&self) -> SocketAddr {
        self.quic
    }

    /// Returns where nodes get their certificates.
    #[must_use]
    pub const fn https(&self) -> SocketAddr {
        self.https
    }

    /// Returns where nodes' tunnels come in.
    #[must_use]
    pub const fn tunnel(&self) -> SocketAddr {
        self.streams.tunnel
    }

    /// Returns where users of the tunnels come in.
    #[must_use]
    pub const fn stream(&self) -> SocketAddr {
        self.streams.front
    }

    /// Returns the number of a node's tunnel, where it has one; a later one has a greater number.
    #[must_use]
    pub fn tunnel_of(&self, node: &str) -> Option<u64> {
        self.streams.tunnels.find(node).map(|tunnel| tunnel.number)
    }

    /// Returns how often nodes said of each user's connection that it was over.
    #[must_use]
    pub fn removed(&self) -> BTreeMap<u64, u64> {
        self.streams.tunnels.0.borrow().removed.clone()
    }

    /// Returns how many frames of data came through the tunnels, and their bytes.
    #[must_use]
    pub fn frames(&self) -> (u64, u64) {
        self.streams.tunnels.0.borrow().frames
    }

    /// Has tunnels that are taken from now on wait before they are served, as those of CloudCore do
    /// that cannot write to the node's status.
    pub fn hesitate(&self, hesitation: Duration) {
        self.streams.tunnels.0.send_modify(|known| known.hesitation = hesitation);
    }

    /// Has frames of users who come from now on carry up to so many bytes, instead of
    /// CloudCore's [`stream::PIECE`].
    pub fn fill_frames(&self, bytes: usize) {
        self.streams.tunnels.0.send_modify(|known| known.piece = bytes);
    }

    /// Begins a fault of a node's tunnel.
    ///
    /// # Errors
    /// When it has none.
    pub async fn tunnel_fault(&self, node: &str, fault: TunnelFault) -> Result<()> {
        let tunnel =
            self.streams.tunnels.find(node).with_context(|| format!("{node} has no tunnel"))?;
        tunnel.orders.send(ToTunnel::Fault(fault)).await.ok().context("the tunnel has ended")
    }

    /// Returns where the control API listens.
    #[must_use]
    pub const fn control(&self) -> Option<SocketAddr> {
        self.control
    }

    /// Returns where the router takes calls.
    #[must_use]
    pub const fn router(&self) -> Option<SocketAddr> {
        self.router
    }

    /// Returns a fresh bootstrap token.
    #[must_use]
    pub fn token(&self) -> String {
        token::fresh(&self.shared)
    }

    /// Returns the certificate of the authority (DER).
    #[must_use]
    pub fn ca(&self) -> &[u8] {
        self.shared.authority.der()
    }

    /// Returns the authority, which REST endpoints of rules are to be of.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    /// Looks at the cloud.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub async fn look<T: Send + 'static>(
        &self,
        view: impl FnOnce(&Cloud) -> T + Send + 'static,
    ) -> Result<T> {
        self.shared.look(move |cloud, _| view(cloud)).await
    }

    /// Makes an object what is given, as `kubectl apply` would. Returns its key, as
    /// `<namespace|null>/<kind>/<name>`.
    ///
    /// # Errors
    /// When it is no object, or the cloud has ended.
    pub async fn apply(&self, object: Value) -> Result<String> {
        let applied = self.shared.act(move |cloud, now, out| cloud.apply(now, object, out)).await?;
        Ok(applied?.to_string())
    }

    /// Deletes an object, named `<namespace|null>/<kind>/<name>`. A pod on a node ends first,
    /// unless it is `force`d away.
    ///
    /// # Errors
    /// When there is no such object, or the cloud has ended.
    pub async fn delete(&self, path: &str, force: bool) -> Result<()> {
        let key = Key::parse(path)?;
        self.shared.act(move |cloud, now, out| cloud.delete(now, &key, force, out)).await??;
        Ok(())
    }

    /// Returns an object, named `<namespace|null>/<kind>/<name>`.
    ///
    /// # Errors
    /// When it is no name, or the cloud has ended.
    pub async fn object(&self, path: &str) -> Result<Option<Value>> {
        let key = Key::parse(path)?;
        self.look(move |cloud| cloud.cluster().get(&key).cloned()).await
    }

    /// Returns a node as the node controller judges it.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub async fn node(&self, name: &str) -> Result<Option<NodeView>> {
        let name = name.to_owned();
        self.shared.look(move |cloud, now| cloud.node(now, &name)).await
    }

    /// Returns the nodes' sessions.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub async fn sessions(&self) -> Result<Vec<SessionView>> {
        self.look(|cloud| cloud.hub().sessions()).await
    }

    /// Returns what nodes sent after the message numbered `sequence`.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub async fn received(&self, sequence: u64) -> Result<Vec<Received>> {
        self.look(move |cloud| cloud.received().since(sequence).cloned().collect()).await
    }

    /// Sends a message to a node.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub async fn push(&self, node: &str, push: Push) -> Result<()> {
        let node = node.to_owned();
        self.shared.act(move |cloud, now, out| cloud.push(now, &node, &push, out)).await
    }

    /// Begins a fault, of one node's link or of all.
    ///
    /// # Errors
    /// When the cloud has ended.
    pub async fn fault(&self, node: Option<&str>, fault: Fault) -> Result<()> {
        let command = Command::Fault(node.map(str::to_owned), fault);
        self.shared.commands.send(command).await.ok().context("the cloud has ended")
    }

    /// Waits until something holds. It is looked at after everything that happens.
    ///
    /// # Errors
    /// When it does not hold within `patience`, or the cloud has ended.
    pub async fn wait_for(
        &self,
        patience: Duration,
        condition: impl Fn(&Cloud, crate::Time) -> bool + Send + Sync + 'static,
    ) -> Result<()> {
        let condition = Arc::new(condition);
        let wait = async {
            let mut turns = self.turns.clone();
            loop {
                let condition = Arc::clone(&condition);
                turns.mark_unchanged();
                if self.shared.look(move |cloud, now| condition(cloud, now)).await? {
                    return Ok(());
                }
                timeout(LOOK_AGAIN, turns.changed()).await.ok();
            }
        };
        timeout(patience, wait).await.with_context(|| format!("not within {patience:?}"))?
    }

    /// Waits until a node is ready by the node controller's judgement.
    ///
    /// # Errors
    /// When it is not within `patience`, or the cloud has ended.
    pub async fn wait_ready(&self, patience: Duration, node: &str) -> Result<()> {
        let name = node.to_owned();
        let ready = move |cloud: &Cloud, now| cloud.node(now, &name).is_some_and(|it| it.ready);
        self.wait_for(patience, ready).await.with_context(|| format!("node {node} is not ready"))
    }

    /// Ends the cloud and writes its state.
    ///
    /// # Errors
    /// When it has ended before.
    pub async fn stop(mut self) -> Result<()> {
        let (reply, done) = oneshot::channel();
        self.shared
            .commands
            .send(Command::Stop(reply))
            .await
            .ok()
            .context("the cloud has ended")?;
        done.await.context("the cloud has ended")?;
        self.tasks.shutdown().await;
        Ok(())
    }
}

/// Where the tunnels and their users come in.
struct Streams {
    tunnel: SocketAddr,
    front: SocketAddr,
    tunnels: Tunnels,
}

impl Streams {
    async fn listen(config: &Config, shared: &Shared, tasks: &mut JoinSet<()>) -> Result<Self> {
        let tunnels = Tunnels::default();
        let (tunnel, listener) = bind(config.tunnel).await?;
        let with = (shared.clone(), tunnels.clone());
        tasks.spawn(listen(listener, shared.conditions.clone(), move |stream| {
            stream::serve_tunnel(stream, with.0.clone(), with.1.clone())
        }));
        let (front, listener) = bind(config.stream).await?;
        let with = (shared.clone(), tunnels.clone());
        tasks.spawn(listen(listener, shared.conditions.clone(), move |stream| {
            stream::serve_front(stream, with.0.clone(), with.1.clone())
        }));
        Ok(Self { tunnel, front, tunnels })
    }
}

async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener)> {
    let bound = TcpListener::bind(address).await;
    let listener = bound.with_context(|| format!("cannot listen on {address}"))?;
    Ok((listener.local_addr()?, listener))
}

fn random() -> Result<u64> {
    let mut seed = [0; 8];
    SystemRandom::new().fill(&mut seed).ok().context("the system gives no randomness")?;
    Ok(u64::from_be_bytes(seed))
}

/// Returns what the servers' certificate is for.
fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<_> = ["127.0.0.1", "::1", "localhost"].map(str::to_owned).into();
    for address in [config.hub, config.https] {
        if !address.ip().is_unspecified() {
            names.push(address.ip().to_string());
        }
    }
    names.extend(config.names.iter().cloned());
    names.sort();
    names.dedup();
    names
}
