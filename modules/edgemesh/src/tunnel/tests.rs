//! Nodes that reach each other through a relay, all in this process, with real certificates.

use std::future::Future;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tempfile::TempDir;
use tokio::task::LocalSet;

use super::*;
use crate::services::table;

const LONG: Duration = Duration::from_secs(20);

/// An address that is no node's.
const NOWHERE: &str = "10.9.9.9:80";

/// Runs a test where tasks can be local.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async { timeout(LONG, test).await.expect("in time") };
    LocalSet::new().block_on(&runtime, all);
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The authority of a cluster, and the files of its nodes.
struct Cluster {
    folder: TempDir,
    authority: Authority,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority();
        std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        Self { folder, authority }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the certificate of a node, as CloudCore issues it.
    fn issue(&self, authority: &Authority, node: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, authority).unwrap();
        std::fs::write(self.path().join(format!("{node}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.path().join(format!("{node}.key")), key.serialize_pem()).unwrap();
    }

    /// Makes a node's tunnel with the certificate of `of`.
    fn node(&self, name: &str, of: &str, relay: Option<SocketAddr>) -> Rc<Tunnel> {
        let identity = module_runtime::tls::Identity {
            certificate: self.path().join(format!("{of}.crt")),
            key: self.path().join(format!("{of}.key")),
        };
        let tls = Files { ca: self.path().join("ca.crt"), identity: Some(identity) };
        let relays = relay.map(|it| FarEnd { host: it.ip().to_string(), port: it.port() });
        let config = Config {
            listen: relay.is_none().then(|| (Ipv4Addr::LOCALHOST, 0).into()),
            relay: relay.is_none(),
            relays: relays.into_iter().collect(),
            direct: Vec::new(),
            stand_ins: None,
            keep_alive: Duration::from_secs(1),
            tls,
        };
        let (publisher, services) = table();
        publisher.publish(Arc::default());
        Tunnel::new(name, config, services)
    }

    /// Starts a node with its own certificate; one without a relay is one.
    fn start(&self, name: &str, relay: Option<SocketAddr>) -> (Rc<Tunnel>, Shown) {
        self.issue(&self.authority, name);
        start(self.node(name, name, relay))
    }
}

type Shown = watch::Receiver<Option<Standing>>;

fn start(tunnel: Rc<Tunnel>) -> (Rc<Tunnel>, Shown) {
    let (show, shown) = watch::channel(None);
    spawn_local(Rc::clone(&tunnel).run(show));
    (tunnel, shown)
}

/// Waits until the standing is as wanted; as JSON, which is what users see.
async fn wait(shown: &mut Shown, wanted: impl Fn(&serde_json::Value) -> bool) {
    let fits = |now: &Option<Standing>| wanted(&serde_json::to_value(now).unwrap());
    shown.wait_for(fits).await.unwrap();
}

fn is_connected(standing: &serde_json::Value) -> bool {
    standing["relays"][0]["connected"] == true
}

/// Returns where a relay listens.
async fn address((relay, shown): &mut (Rc<Tunnel>, Shown)) -> SocketAddr {
    wait(shown, |standing| standing["relay"] == true).await;
    relay.outer().unwrap().0.local_addr().unwrap()
}

/// Asks for an endpoint that nobody has; returns what is said to that.
async fn ask(from: &Rc<Tunnel>, node: &str) -> String {
    let stream = from.stream(NodeId::of(node), NOWHERE.parse().unwrap(), Carriage::Tcp);
    stream.await.expect_err("nobody has it").to_string()
}

#[test]
fn nodes_reach_each_other_through_a_relay_and_the_relay_directly() {
    run(async {
        let cluster = Cluster::new();
        let mut hub = cluster.start("hub", None);
        let at = address(&mut hub).await;
        let (one, mut shown) = cluster.start("edge1", Some(at));
        let (_other, mut others) = cluster.start("edge2", Some(at));
        wait(&mut shown, is_connected).await;
        wait(&mut others, is_connected).await;
        let refusal = |node| {
            format!("node '{node}' says: {NOWHERE} is no endpoint of a service on this node")
        };
        assert_eq!(ask(&one, "edge2").await, refusal("edge2"));
        assert_eq!(ask(&one, "hub").await, refusal("hub"));
        assert_eq!(ask(&hub.0, "edge1").await, refusal("edge1"), "the other way round");
        wait(&mut shown, |standing| standing["nodes"] == 2).await;
        let standing = serde_json::to_value(one.standing()).unwrap();
        let vias: Vec<_> = [0, 1].map(|it| standing["peers"][it]["via"].clone()).into();
        assert_eq!(vias, ["relay", "direct"], "{standing}");
        assert_eq!(standing["relays"][0]["node"], "hub");
        assert!(
            one.peers.borrow().relayed.values().all(|it| it.peer.get().unwrap().streams() == 0)
        );
    });
}

#[test]
fn a_node_that_is_not_connected_is_said_to_be_so() {
    run(async {
        let cluster = Cluster::new();
        let mut hub = cluster.start("hub", None);
        let at = address(&mut hub).await;
        let (one, mut shown) = cluster.start("edge1", Some(at));
        wait(&mut shown, is_connected).await;
        assert_eq!(ask(&one, "edge2").await, "no relay is connected with the node");
        // the node comes, and is found
        let (_other, mut others) = cluster.start("edge2", Some(at));
        wait(&mut others, is_connected).await;
        assert!(ask(&one, "edge2").await.starts_with("node 'edge2' says"));
    });
}

#[test]
fn a_relay_that_lies_about_who_is_who_is_found_out() {
    run(async {
        let cluster = Cluster::new();
        cluster.issue(&cluster.authority, "hub");
        let hub = cluster.node("hub", "hub", None);
        let (credentials, _) = hub.credentials().unwrap();
        let endpoint = hub.open(&credentials).unwrap();
        let at = endpoint.local_addr().unwrap();
        let (one, mut shown) = cluster.start("edge1", Some(at));
        let (_impostor, mut others) = cluster.start("edge3", Some(at));
        for _ in 0..2 {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let name = node_at(&connection).unwrap().replace("edge3", "edge2");
            let peer = Peer::new(name.clone(), connection, &hub.counts);
            hub.peers.borrow_mut().accepted.insert(NodeId::of(&name), peer.clone());
            let hub = Rc::clone(&hub);
            spawn_local(async move { relay::relay(&hub, &peer).await });
        }
        wait(&mut shown, is_connected).await;
        wait(&mut others, is_connected).await;
        let said = ask(&one, "edge2").await;
        assert_eq!(said, "node 'edge3' answers in the place of another");
    });
}

#[test]
fn who_has_no_certificate_of_the_cluster_is_refused() {
    run(async {
        let cluster = Cluster::new();
        let mut hub = cluster.start("hub", None);
        let at = address(&mut hub).await;
        cluster.issue(&authority(), "edge1");
        let (_stranger, mut shown) = start(cluster.node("edge1", "edge1", Some(at)));
        wait(&mut shown, |standing| {
            let reason = standing["relays"][0]["reason"].as_str().unwrap_or_default();
            reason.contains("certificate") || reason.contains("handshake failed")
        })
        .await;
        assert_eq!(hub.0.peers.borrow().accepted.len(), 0);
        // one of the cluster, but another node's, is not used at all
        cluster.issue(&cluster.authority, "edge3");
        let (_thief, mut shown) = start(cluster.node("edge2", "edge3", Some(at)));
        wait(&mut shown, |standing| {
            let trouble = standing["trouble"].as_str().unwrap_or_default();
            trouble.ends_with("is of node 'edge3', expected 'edge2'")
        })
        .await;
    });
}

#[test]
fn a_node_whose_certificate_comes_later_is_connected_then() {
    run(async {
        let cluster = Cluster::new();
        let mut hub = cluster.start("hub", None);
        let at = address(&mut hub).await;
        let (_one, mut shown) = start(cluster.node("edge1", "edge1", Some(at)));
        wait(&mut shown, |standing| standing["trouble"].is_string()).await;
        cluster.issue(&cluster.authority, "edge1");
        wait(&mut shown, is_connected).await;
        wait(&mut shown, |standing| standing["trouble"].is_null()).await;
    });
}
