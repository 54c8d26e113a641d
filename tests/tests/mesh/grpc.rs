//! A gRPC service in a pod, and tonic's client of it.

use anyhow::{Context, Result};
use bytes::Bytes;
use edgecore_tests::rig::mesh::Place;
use edgecore_tests::rig::network::Network;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

/// Where it is served.
pub(crate) const PORT: u16 = 8081;

/// The only message: a text.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Serves in a pod until the test's process ends: each call is answered with the pod's address.
pub(crate) fn serve(pod: &Network, address: &'static str) -> Result<()> {
    let listener = pod.run(|| {
        let listener = std::net::TcpListener::bind(("0.0.0.0", PORT))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })?;
    std::thread::Builder::new().name("grpc".into()).spawn(move || -> Result<()> {
        runtime()?.block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let service = service_fn(move |request| answer(request, address));
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        })
    })?;
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    address: &str,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>>> {
    request.into_body().collect().await?;
    let message = prost::Message::encode_to_vec(&Text { text: address.to_owned() });
    let length = u32::try_from(message.len())?.to_be_bytes();
    let framed = Bytes::from([&[0], &length[..], &message].concat());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse()?);
    let body = Full::new(framed).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::builder().header("content-type", "application/grpc").body(body.boxed())?)
}

/// Makes so many calls at a time on one connection from a network; returns who answered each.
pub(crate) fn ask(from: &Network, to: &str, calls: usize) -> Result<Vec<String>> {
    let endpoint = Endpoint::from_shared(format!("http://{to}"))?;
    let endpoint = endpoint.timeout(std::time::Duration::from_secs(5));
    from.run(|| {
        runtime()?.block_on(async {
            let channel = endpoint.connect().await?;
            let calls = (0..calls).map(|_| async {
                let mut client = Grpc::new(channel.clone());
                client.ready().await?;
                let path = "/shop.Web/Who".parse()?;
                let request = tonic::Request::new(Text { text: "who?".to_owned() });
                let codec = ProstCodec::<Text, Text>::default();
                let answer = client.unary(request, path, codec).await.context("a call fails")?;
                anyhow::Ok(answer.into_inner().text)
            });
            futures_util::future::try_join_all(calls).await
        })
    })
}

/// Has the cloud say which pods serve, at a port of theirs.
pub(crate) fn endpoints(place: &Place, addresses: &[&str], port: u16) -> Result<()> {
    let endpoint = |address: &&str| json!({"addresses": [address], "conditions": {"ready": true}});
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    place.cloud.apply(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-ipv4", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": endpoints, "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }))?;
    Ok(())
}
