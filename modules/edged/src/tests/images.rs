//! Images out of a registry that the test serves on loopback, with a real containerd.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::bench::{Bench, pod};
use super::containerd::containerd;

/// Who is let in to what is closed.
const LOGIN: &str = "user:pa:ss";

/// A registry of one image, under the names `open` and `closed`.
#[derive(Clone)]
struct Registry {
    /// Contents by digest, and the manifest's digest.
    blobs: std::sync::Arc<BTreeMap<String, (Bytes, &'static str)>>,
    manifest: String,
    /// How often the manifest was asked for by name.
    asked: watch::Sender<usize>,
}

fn digest(file: &Path) -> String {
    let sum = Command::new("sha256sum").arg(file).output().unwrap();
    let text = String::from_utf8(sum.stdout).unwrap();
    format!("sha256:{}", text.split_whitespace().next().unwrap())
}

impl Registry {
    /// Makes it of the files that the test's image was made of.
    fn new(parts: &Path) -> Self {
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let config = "application/vnd.oci.image.config.v1+json";
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let part = |kind: &str, file: &str| {
            let file = parts.join(file);
            let size = fs::metadata(&file).unwrap().len();
            json!({"mediaType": kind, "digest": digest(&file), "size": size})
        };
        let text = json!({
            "schemaVersion": 2, "mediaType": manifest,
            "config": part(config, "config.json"), "layers": [part(layer, "layer.tar")],
        });
        fs::write(parts.join("oci.json"), text.to_string()).unwrap();
        let files = [("oci.json", manifest), ("config.json", config), ("layer.tar", layer)];
        let read = |(file, kind): (&str, &'static str)| {
            let file = parts.join(file);
            (digest(&file), (Bytes::from(fs::read(&file).unwrap()), kind))
        };
        let blobs = std::sync::Arc::new(files.into_iter().map(read).collect());
        let manifest = digest(&parts.join("oci.json"));
        Self { blobs, manifest, asked: watch::Sender::new(0) }
    }

    /// Serves it; returns where.
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let this = this.clone();
                let answer = hyper::service::service_fn(move |request| {
                    let answer = this.answer(&request);
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), answer));
            }
        });
        place
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let known = request.headers().get("authorization");
        let login = format!("Basic {}", BASE64.encode(LOGIN.as_bytes()));
        if path.starts_with("/v2/closed/") && known.is_none_or(|it| it != login.as_str()) {
            let refused = Response::builder().status(StatusCode::UNAUTHORIZED);
            let refused = refused.header("www-authenticate", "Basic realm=\"test\"");
            return refused.body(Full::default()).unwrap();
        }
        let mut wanted = path.rsplit('/').next().unwrap_or_default().to_owned();
        if path.contains("/manifests/") && !wanted.starts_with("sha256:") {
            self.asked.send_modify(|asked| *asked += 1);
            wanted.clone_from(&self.manifest);
        }
        let Some((content, kind)) = self.blobs.get(&wanted) else {
            return Response::builder().status(404).body(Full::default()).unwrap();
        };
        Response::builder()
            .header("content-type", *kind)
            .header("content-length", content.len())
            .header("docker-content-digest", wanted)
            .body(Full::new(content.clone()))
            .unwrap()
    }
}

fn with(name: &str, image: &str, policy: &str, secrets: &Value) -> Value {
    let spec = json!({"imagePullSecrets": secrets, "containers": [{"name": "c", "command": ["sleep", "1000"]}]});
    let mut pod = pod(name, &spec);
    pod["spec"]["containers"][0]["image"] = image.into();
    pod["spec"]["containers"][0]["imagePullPolicy"] = policy.into();
    pod
}

#[tokio::test]
async fn images_are_fetched_when_they_are_to_and_with_what_the_pod_has() {
    let Some(containerd) = containerd().await else { return };
    let registry = Registry::new(&containerd.path().join("image"));
    let place = registry.serve().await;
    let mut bench = Bench::new(&containerd);
    let secret = |kind: &str, text: Value| json!({"data": {kind: BASE64.encode(text.to_string().as_bytes())}});
    let auth =
        |login: &str| json!({format!("{place}/closed"): {"auth": BASE64.encode(login.as_bytes())}});
    bench.maps.send_modify(|maps| {
        maps.insert("new".to_owned(), secret(".dockerconfigjson", json!({"auths": auth(LOGIN)})));
        maps.insert("old".to_owned(), secret(".dockercfg", auth(LOGIN)));
        maps.insert("wrong".to_owned(), secret(".dockercfg", auth("user:other")));
    });
    let (open, closed) = (format!("{place}/open:1"), format!("{place}/closed:1"));
    let none = json!([]);
    let list = [
        with("never", &open, "Never", &none),
        with("refused", &closed, "IfNotPresent", &json!([{"name": "wrong"}, {"name": "absent"}])),
        with("broken", "Not An Image", "Always", &none),
    ];
    bench.pods.set(&serde_json::to_vec(&list).unwrap().into());
    let waits = |bench: &Bench, pod: &str, reason: &str| {
        bench.container(pod)["state"]["waiting"]["reason"] == reason
    };
    bench.until("never waits", |bench| waits(bench, "never", "ErrImageNeverPull")).await;
    bench.until("broken waits", |bench| waits(bench, "broken", "InvalidImageName")).await;
    bench.until("refused waits", |bench| waits(bench, "refused", "ImagePullBackOff")).await;
    assert!(bench.said("refused", "FailedToRetrieveImagePullSecret", "(absent)"));
    assert_eq!(*registry.asked.borrow(), 0, "somebody was let in");

    let more = [
        with("open", &open, "IfNotPresent", &none),
        with("both", &closed, "IfNotPresent", &json!([{"name": "wrong"}, {"name": "new"}])),
    ];
    for pod in &more {
        bench.pods.apply(&serde_json::to_vec(pod).unwrap());
    }
    bench.until("those let in run", |bench| bench.is_ready("open") && bench.is_ready("both")).await;
    assert!(bench.said("open", "Pulled", "Successfully pulled image"));
    let asked = *registry.asked.borrow();
    let again = [
        with("there", &open, "IfNotPresent", &none),
        with("always", &closed, "Always", &json!([{"name": "old"}])),
    ];
    for pod in &again {
        bench.pods.apply(&serde_json::to_vec(pod).unwrap());
    }
    bench.until("both run", |bench| bench.is_ready("there") && bench.is_ready("always")).await;
    assert!(bench.said("there", "Pulled", "already present on machine"));
    assert!(*registry.asked.borrow() > asked, "it was not asked again");
    bench.until("never runs now", |bench| bench.is_ready("never")).await;
    containerd.end().await;
}
