//! A listening address: accepts connections, bounded in number, and ends them all when the cloud
//! restarts.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::owner::Conditions;

/// The most connections that one address has at a time.
const MAX_CONNECTIONS: usize = 1024;

/// Accepts connections until the cloud ends, and hands each to `serve`.
pub(crate) async fn listen<F: Future<Output = ()> + Send + 'static>(
    mut listener: TcpListener,
    mut conditions: watch::Receiver<Conditions>,
    serve: impl Fn(TcpStream) -> F,
) {
    let Ok(address) = listener.local_addr() else { return };
    loop {
        let epoch = conditions.borrow().epoch;
        accept(&listener, &mut conditions, epoch, &serve).await;
        drop(listener);
        if conditions.wait_for(|now| !now.down).await.is_err() {
            return;
        }
        match bind(address).await {
            Some(again) => listener = again,
            None => return,
        }
    }
}

/// Accepts until the epoch is over; then all connections are closed.
async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: &TcpListener,
    conditions: &mut watch::Receiver<Conditions>,
    epoch: u64,
    serve: &impl Fn(TcpStream) -> F,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                // A connection that died while it waited is none.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream));
                }
            }
            Some(_) = connections.join_next() => {}
            _ = conditions.wait_for(|now| now.epoch != epoch) => break,
        }
    }
    connections.shutdown().await;
}

/// Takes the address again that was let go.
#[expect(clippy::print_stderr, reason = "a test double has no log; its user must see this")]
async fn bind(address: SocketAddr) -> Option<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.inspect_err(|error| eprintln!("minicloud: cannot listen on {address}: {error}")).ok()
}
