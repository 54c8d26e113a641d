//! Requests as fast as they are answered: a server that does nothing else, and clients that each wait
//! for their answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::rig::network::Network;

/// How many clients there are.
const CLIENTS: usize = 32;

/// How long they ask.
const ROUND: Duration = Duration::from_secs(1);

const STAYING: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
const CLOSING: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";

/// Whether a client keeps its connection, or makes one for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Kept,
    Each,
}

/// What came of a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Answers in a second.
    pub(super) answers: f64,
    /// What one answer of a hundred took at least, in ms.
    pub(super) p99: f64,
}

fn answer() -> Vec<u8> {
    let body = "x".repeat(1024);
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Serves in a network until the process ends.
pub(super) fn serve(network: &Network, port: u16) -> Result<()> {
    let listener = network.run(|| {
        let listener = std::net::TcpListener::bind(("0.0.0.0", port))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })?;
    std::thread::Builder::new().name("server".into()).spawn(move || -> Result<()> {
        runtime()?.block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(serve_one(stream));
            }
        })
    })?;
    Ok(())
}

/// Answers each request. One is never cut: it is small, and the client waits for its answer.
async fn serve_one(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let (answer, mut request) = (answer(), [0; 1024]);
    loop {
        let length = stream.read(&mut request).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&answer).await?;
        if length == CLOSING.len() {
            return Ok(());
        }
    }
}

/// Asks from a network for a while.
pub(super) fn round(from: &Network, to: &str, manner: Manner) -> Result<Rate> {
    let to: SocketAddr = to.parse()?;
    from.run(|| {
        runtime()?.block_on(async {
            let begin = Instant::now();
            let mut clients = JoinSet::new();
            for _ in 0..CLIENTS {
                clients.spawn(client(to, manner, begin + ROUND));
            }
            let mut all = Histogram::<u64>::new(3)?;
            while let Some(one) = clients.join_next().await {
                all.add(one?.with_context(|| format!("{to} does not answer"))?)?;
            }
            let seconds = begin.elapsed().as_secs_f64();
            let (count, p99) = (u32::try_from(all.len())?, all.value_at_quantile(0.99));
            let p99 = f64::from(u32::try_from(p99)?) / 1e3;
            Ok(Rate { answers: f64::from(count) / seconds, p99 })
        })
    })
}

async fn client(to: SocketAddr, manner: Manner, end: Instant) -> Result<Histogram<u64>> {
    let mut took = Histogram::<u64>::new(3)?;
    let mut answer = answer();
    let mut kept = match manner {
        Manner::Kept => Some(connect(to).await?),
        Manner::Each => None,
    };
    while Instant::now() < end {
        let begin = Instant::now();
        match &mut kept {
            Some(stream) => {
                stream.write_all(STAYING).await?;
                stream.read_exact(&mut answer).await?;
            }
            None => {
                let mut stream = connect(to).await?;
                stream.write_all(CLOSING).await?;
                stream.read_exact(&mut answer).await?;
                // the server finishes first, so that no port of the client's is held for a minute
                ensure!(stream.read(&mut [0]).await? == 0, "the answer is too long");
            }
        }
        took.record(u64::try_from(begin.elapsed().as_micros())?)?;
    }
    Ok(took)
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks once.
pub(super) fn once(from: &Network, to: &str) -> Result<()> {
    let to: SocketAddr = to.parse()?;
    from.run(|| {
        runtime()?.block_on(async {
            let mut answer = answer();
            let mut stream = connect(to).await?;
            stream.write_all(CLOSING).await?;
            stream.read_exact(&mut answer).await?;
            Ok(())
        })
    })
}
