//! The local Kubernetes API where its clients have to say who they are (`requireAuthorization`).

#[path = "metaserver/place.rs"]
#[expect(dead_code, reason = "the other tests of the local API use the rest")]
mod place;

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64URL_NOPAD;
use edgecore_tests::rig::cloud::{Cloud, NODE};
use edgecore_tests::rig::{Rig, SOON, filled, wait_until};
use ipc_proto::Module;
use minicloud::Config;
use minicloud::pki::Validity;
use place::{Api, Reply, node, pod, send};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

/// The uid of the service account `shop/reader`.
const UID: &str = "3a0a0d0e-0000-4000-8000-000000000001";

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A node whose local API asks who is there.
struct Place {
    rig: Rig,
    cloud: Cloud,
    api: Api,
    token: String,
}

/// Makes the token of a service account. The node looks for it among those that it was given, so
/// that its signature counts for nothing.
fn token(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
        "aud": ["https://kubernetes.default.svc.cluster.local"],
        "exp": 4_102_444_800_u64,
        "kubernetes.io": {
            "namespace": "default", "serviceaccount": {"name": "reader", "uid": UID},
        },
    });
    change(&mut claims);
    let parts = [r#"{"alg":"RS256"}"#.to_owned(), claims.to_string(), "signature".to_owned()];
    parts.map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".")
}

/// What the cloud says of the account: it may read pods of its namespace.
fn access(verbs: &[&str]) -> Value {
    let subject = json!({"kind": "ServiceAccount", "name": "reader", "namespace": "default"});
    json!({
        "apiVersion": "policy.kubeedge.io/v1alpha1", "kind": "ServiceAccountAccess",
        "metadata": {"name": "reader", "namespace": "default"},
        "spec": {
            "serviceAccount": {"metadata": {"name": "reader", "namespace": "default"}},
            "serviceAccountUid": UID,
            "accessRoleBinding": [{
                "roleBinding": {"metadata": {"name": "b", "namespace": "default"},
                    "subjects": [subject], "roleRef": {"kind": "Role", "name": "r"}},
                "rules": [{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}],
            }],
        },
        "status": {"nodeList": [NODE]},
    })
}

impl Place {
    fn new() -> Result<Self> {
        let cloud = Cloud::start(Config::default())?;
        let (mut setup, api) = node(&cloud)?;
        setup.edgecore["featureGates"] = json!({"requireAuthorization": true});
        // No test of this machine may give it the usual address.
        setup.edgecore["modules"]["metaManager"]["metaServer"]["dummyServer"] =
            json!(format!("127.0.0.2:{}", api.port));
        let token = token(|_| ());
        filled::with_token(&setup, &token)?;
        let rig = setup.start()?;
        let place = Self { rig, cloud, api, token };
        place.wait_until_it_serves()?;
        place.cloud.apply(access(&["get", "list", "watch"]))?;
        place.cloud.apply(pod("web", "shop"))?;
        wait_until("the account sees the pod", SOON, || {
            place.get(PODS, &place.token).is_ok_and(|reply| reply.body.contains("\"web\""))
        })?;
        Ok(place)
    }

    fn wait_until_it_serves(&self) -> Result<()> {
        wait_until("the API is served", SOON, || {
            self.get("/readyz", "").is_ok_and(|reply| reply.body == "ok")
        })
        .with_context(|| self.rig.module_log(Module::Metaserver))
    }

    /// Asks over TLS, with the certificate of a client or none.
    fn ask(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        (method, path): (&str, &str),
        headers: &str,
    ) -> Result<Reply> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cloud.minicloud().authority().der().to_vec().into())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key)?,
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(("127.0.0.1", self.api.port))?;
        stream.set_read_timeout(Some(SOON))?;
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = StreamOwned::new(ClientConnection::new(config.into(), name)?, stream);
        let (code, mut reader) = send(stream, method, path, headers, "")?;
        let mut body = String::new();
        reader.read_to_string(&mut body)?;
        Ok(Reply { code, body })
    }

    /// Asks with a token; without one when it is empty.
    fn get(&self, path: &str, token: &str) -> Result<Reply> {
        self.with_token("GET", path, token)
    }

    fn with_token(&self, method: &str, path: &str, token: &str) -> Result<Reply> {
        let header = format!("Authorization: Bearer {token}\r\n");
        self.ask(None, (method, path), if token.is_empty() { "" } else { &header })
    }

    /// Asks with a certificate of the cluster.
    fn as_user(&self, name: &str, group: &str, request: (&str, &str)) -> Result<Reply> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, name);
        let wanted = params.serialize_request(&key)?;
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let authority = self.cloud.minicloud().authority();
        let signed = authority.sign(wanted.der(), usages, Validity::from_now(SOON))?;
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
        self.ask(Some((signed.into(), key)), request, "")
    }

    /// Returns where root comes in.
    fn socket(&self) -> Result<PathBuf> {
        let report = self.rig.module(Module::Metaserver)?.report.context("a report")?;
        let doors = report["doors"].as_array().context("doors")?;
        let mut paths =
            doors.iter().filter_map(|door| door["address"].as_str()?.strip_prefix("unix:"));
        paths.next().map(PathBuf::from).context("a socket")
    }
}

/// Returns an answer's code, and what its status says.
fn refusal(reply: &Reply) -> Result<(u16, String)> {
    let status = reply.json()?;
    ensure!(status["kind"] == "Status" && status["code"] == reply.code, "{status}");
    Ok((reply.code, status["message"].as_str().unwrap_or_default().to_owned()))
}

#[test]
fn an_account_may_what_its_roles_allow_with_the_cloud_and_without() -> Result<()> {
    let place = Place::new()?;
    for linked in [true, false] {
        if !linked {
            let stop = ipc_proto::control::Request::Stop { modules: vec![Module::Edgehub] };
            place.rig.demand(&stop)?;
            // What it needs comes from the disk, also in its next life.
            let old = place.rig.pid_of(Module::Metaserver)?;
            place.rig.signal(Module::Metaserver, Signal::KILL)?;
            place.rig.wait_until_back(Module::Metaserver, old)?;
            place.wait_until_it_serves()?;
        }
        let account = "system:serviceaccount:default:reader";
        let one = format!("{PODS}/web");
        assert_eq!(place.get(&one, &place.token)?.code, 200);
        let forbidden = |user: &str, verb: &str, what: &str, place: &str| {
            let (resource, name) = what.split_once(' ').unwrap_or((what, ""));
            let name = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
            let text = format!(
                "{resource}{name} is forbidden: User \"{user}\" cannot {verb} resource \
                 \"{resource}\" in API group \"\" {place}"
            );
            (403, text)
        };
        let here = "in the namespace \"default\"";
        let said = refusal(&place.with_token("DELETE", &one, &place.token)?)?;
        assert_eq!(said, forbidden(account, "delete", "pods web", here));
        let said = refusal(&place.get("/api/v1/nodes", &place.token)?)?;
        assert_eq!(said, forbidden(account, "list", "nodes", "at the cluster scope"));
        let said = refusal(&place.get(PODS, "")?)?;
        assert_eq!(said, forbidden("system:anonymous", "list", "pods", here));
        // What there is everybody may ask.
        for path in ["/version", "/api", "/apis", "/api/v1", "/healthz"] {
            assert_eq!(place.get(path, "")?.code, 200, "{path}");
        }
    }
    Ok(())
}

#[test]
fn a_token_that_is_not_good_is_refused_with_its_reason() -> Result<()> {
    let place = Place::new()?;
    let stranger = |change: fn(&mut Value)| token(change);
    for (token, why) in [
        ("x".to_owned(), "none of a service account"),
        (stranger(|claims| claims["jti"] = "1".into()), "none that this node was given"),
        (stranger(|claims| claims["exp"] = 1.into()), "expired"),
        (stranger(|claims| claims["iss"] = "me".into()), "another issuer"),
        (stranger(|claims| claims["aud"] = "vault".into()), "another audience"),
    ] {
        for path in [PODS, "/version"] {
            let (code, message) = refusal(&place.get(path, &token)?)?;
            ensure!(code == 401 && message.contains(why), "{path}: {code} {message}");
        }
    }
    let reply = place.ask(None, ("GET", PODS), "Authorization: Basic cm9vdDp4\r\n")?;
    ensure!(refusal(&reply)?.0 == 401, "{}", reply.body);
    Ok(())
}

#[test]
fn what_the_cloud_takes_back_counts_no_more() -> Result<()> {
    let place = Place::new()?;
    place.cloud.apply(access(&["get"]))?;
    wait_until("lists are forbidden", SOON, || {
        place.get(PODS, &place.token).is_ok_and(|reply| reply.code == 403)
    })?;
    assert_eq!(place.get(&format!("{PODS}/web"), &place.token)?.code, 200);
    let mut again = access(&["get"]);
    again["spec"]["serviceAccountUid"] = "another".into();
    place.cloud.apply(again)?;
    wait_until("the account is another one", SOON, || {
        place.get(PODS, &place.token).is_ok_and(|reply| reply.code == 401)
    })
}

#[test]
fn certificates_of_the_cluster_name_users_and_groups() -> Result<()> {
    let place = Place::new()?;
    let list = ("GET", "/api/v1/nodes");
    assert_eq!(place.as_user("admin", "system:masters", list)?.code, 200);
    let (code, message) = refusal(&place.as_user("ann", "readers", list)?)?;
    ensure!(code == 403 && message.contains("User \"ann\""), "{message}");
    let mut more = access(&["get"]);
    more["spec"]["accessClusterRoleBinding"] = json!([{
        "clusterRoleBinding": {"metadata": {"name": "c"},
            "subjects": [{"kind": "Group", "name": "readers"}]},
        "rules": [{"verbs": ["list"], "apiGroups": ["*"], "resources": ["nodes"]}],
    }]);
    place.cloud.apply(more)?;
    wait_until("the group may list nodes", SOON, || {
        place.as_user("ann", "readers", list).is_ok_and(|reply| reply.code == 200)
    })?;
    // One of another authority is not even let into a conversation.
    let other = minicloud::pki::Authority::create()?;
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let (certificate, key) = other.issue(&[], usage, Validity::from_now(SOON))?;
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    ensure!(place.ask(Some((certificate, key)), ("GET", "/version"), "").is_err());
    // And nobody is in the clear.
    ensure!(place.api.get("/version").is_err());
    Ok(())
}

#[test]
fn root_needs_no_token_on_the_node_itself() -> Result<()> {
    let place = Place::new()?;
    let stream = UnixStream::connect(place.socket()?)?;
    let (code, mut reader) = send(stream, "GET", "/api/v1/pods", "", "")?;
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    ensure!(code == 200 && body.contains("\"web\""), "{code} {body}");
    Ok(())
}

#[test]
fn the_address_for_pods_is_served_too_and_the_key_is_on_the_disk_for_its_owner_alone() -> Result<()>
{
    let place = Place::new()?;
    let report = place.rig.module(Module::Metaserver)?.report.context("a report")?;
    let dummy = format!("127.0.0.2:{}", place.api.port);
    let door = report["doors"].as_array().into_iter().flatten().find(|it| it["address"] == *dummy);
    assert_eq!(door.context("a door")?["serving"], true);
    // The keys are on the disk for their owner alone.
    let files = place.socket()?.with_file_name("serving.pem");
    let metadata = std::fs::metadata(&files)?;
    ensure!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 == 0);
    Ok(())
}
