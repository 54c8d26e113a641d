//! A client of the Kubernetes API as applications are: kube-rs' watcher with its store of pods, which
//! says on standard output what it has whenever that changes.
//!
//! `informer URL [LABELS]`: a line has the pods' names in order, each with its label `app`; standard
//! error has what goes wrong meanwhile.

use std::pin::pin;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, Config, ResourceExt as _};

/// Runs until it is killed.
///
/// # Errors
/// When its arguments are wrong.
#[tokio::main(flavor = "current_thread")]
pub async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url: http::Uri = arguments.next().ok_or("usage: informer URL [LABELS]")?.parse()?;
    let client = Client::try_from(Config::new(url))?;
    let mut wanted = watcher::Config::default();
    if let Some(labels) = arguments.next() {
        wanted = wanted.labels(&labels);
    }
    let (store, writer) = reflector::store();
    let pods: Api<Pod> = Api::default_namespaced(client);
    let events = reflector(writer, watcher(pods, wanted)).default_backoff();
    let mut events = pin!(events);
    let mut last = String::new();
    while let Some(event) = events.next().await {
        if let Err(error) = event {
            eprintln!("{error}");
            continue;
        }
        let app = |pod: &Pod| pod.labels().get("app").cloned().unwrap_or_default();
        let mut names: Vec<_> =
            store.state().iter().map(|pod| format!("{}={}", pod.name_any(), app(pod))).collect();
        names.sort();
        let now = names.join(" ");
        if now != last {
            println!("{now}");
            last = now;
        }
    }
    Ok(())
}
