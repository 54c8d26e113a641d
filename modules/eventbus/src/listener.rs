//! The internal broker's door.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::connection::{Happening, pair, prepare};
use crate::core::ConnectionId;

/// Connections at a time: somewhat more than there are sessions, since a new one of a client comes
/// before the old one is gone.
const CONNECTIONS: usize = 640;

/// How long to wait before an address that is taken is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes connections for ever. An address that is taken is waited for.
pub(crate) async fn listen(host: String, port: u16, happenings: mpsc::Sender<Happening>) {
    let listener = loop {
        let (listener, told) = match TcpListener::bind((host.as_str(), port)).await {
            Ok(listener) => (Some(listener), Ok(())),
            Err(error) => (None, Err(format!("cannot listen on {host}:{port}: {error}"))),
        };
        if happenings.send(Happening::Listening(told)).await.is_err() {
            return;
        }
        match listener {
            Some(listener) => break listener,
            None => tokio::time::sleep(PAUSE).await,
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut last: ConnectionId = 0;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // The process is out of descriptors, or so; connections end, and there are more.
                warn!("cannot take an MQTT connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let _slower_without = prepare(&stream);
        last += 1;
        let (port, line) = pair(last, None, BytesMut::new(), happenings.clone());
        if happenings.send(Happening::Opened(last, port)).await.is_err() {
            return;
        }
        tokio::spawn(async move {
            line.serve(stream).await;
            drop(place);
        });
    }
}
