//! A WebSocket in a pod that sends back what comes, and a client of it.

use anyhow::{Context, Result, ensure};
use edgecore_tests::rig::network::Network;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// Where it is served.
pub(crate) const PORT: u16 = 8082;

/// How long the greatest message is.
const MUCH: usize = 1 << 20;

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Serves in a pod until the test's process ends: greets with the pod's address.
pub(crate) fn serve(pod: &Network, address: &'static str) -> Result<()> {
    let listener = pod.run(|| {
        let listener = std::net::TcpListener::bind(("0.0.0.0", PORT))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })?;
    std::thread::Builder::new().name("websocket".into()).spawn(move || -> Result<()> {
        runtime()?.block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(echo(stream, address));
            }
        })
    })?;
    Ok(())
}

async fn echo(stream: TcpStream, address: &str) -> Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    socket.send(Message::text(address)).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        // the others the library answers itself
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

/// Connects from a network as a user; returns who serves, after messages of all kinds and an orderly
/// end.
pub(crate) fn talk(from: &Network, to: &str, user: usize) -> Result<String> {
    let address: std::net::SocketAddr = to.parse()?;
    let mut request = format!("ws://{to}/").into_client_request()?;
    request.headers_mut().insert("x-user", user.into());
    from.run(|| {
        runtime()?.block_on(async {
            let stream = TcpStream::connect(address).await?;
            let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
            let mut next = async |sent: Option<Message>| {
                if let Some(sent) = sent {
                    socket.send(sent).await?;
                }
                socket.next().await.context("it ends")?.context("it breaks")
            };
            let who = next(None).await?.into_text()?.to_string();
            for message in [Message::text("hello"), Message::binary(vec![7; MUCH])] {
                ensure!(next(Some(message.clone())).await? == message, "another comes back");
            }
            let answer = next(Some(Message::Ping("are you there?".into()))).await?;
            ensure!(answer == Message::Pong("are you there?".into()), "{answer:?}");
            let answer = next(Some(Message::Close(None))).await?;
            ensure!(answer.is_close() && socket.next().await.is_none(), "{answer:?}");
            Ok(who)
        })
    })
}
