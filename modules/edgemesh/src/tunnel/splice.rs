//! From a stream of the tunnel to the connection or the datagrams on this side of it, and back.

use std::io::{self, ErrorKind};

use bytes::{Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::coop::consume_budget;

use super::counts::Counts;
use super::peers::Open;
use crate::proxy::{Scratch, write};

/// Why a stream ends that does not end well, for the other side.
const BROKEN: VarInt = VarInt::from_u32(1);

/// A stream to another node, which counts as open as long as this lives.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
    pub(super) open: Open,
}

impl Stream {
    /// Sends what has to come first.
    pub(crate) async fn begin(&mut self, head: &[u8]) -> io::Result<()> {
        self.open.counts.sent(head.len());
        Ok(self.send.write_all(head).await?)
    }

    /// Carries a connection; each side may finish before the other. When either breaks, the other side
    /// is told so.
    pub(crate) async fn carry(mut self, stream: &TcpStream, scratch: &Scratch) -> io::Result<()> {
        let up = up(stream, &mut self.send, (scratch, &self.open.counts));
        let down = down(&mut self.receive, stream, &self.open.counts);
        let carried = tokio::try_join!(up, down).map(|((), ())| ());
        self.end(carried)
    }

    /// Carries datagrams of and to a socket that is connected, until the other side has finished.
    pub(crate) async fn carry_datagrams(
        mut self,
        socket: &UdpSocket,
        scratch: &Scratch,
    ) -> io::Result<()> {
        let carried = tokio::select! {
            ended = datagrams_up(socket, &mut self.send, (scratch, &self.open.counts)) => ended,
            ended = datagrams_down(&mut self.receive, socket, &self.open.counts) => ended,
        };
        self.end(carried)
    }

    fn end(&mut self, carried: io::Result<()>) -> io::Result<()> {
        if carried.is_err() {
            // what has ended already is as good
            let _ended = self.send.reset(BROKEN);
            let _ended = self.receive.stop(BROKEN);
        }
        carried
    }
}

async fn up(
    from: &TcpStream,
    to: &mut SendStream,
    (scratch, counts): (&Scratch, &Counts),
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let part = {
            let mut scratch = scratch.borrow_mut();
            match from.try_read(&mut scratch) {
                Ok(0) => break,
                Ok(length) => Bytes::copy_from_slice(&scratch[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
        };
        counts.sent(part.len());
        to.write_chunk(part).await?;
        consume_budget().await;
    }
    to.finish().map_err(Into::into)
}

async fn down(from: &mut RecvStream, to: &TcpStream, counts: &Counts) -> io::Result<()> {
    while let Some(part) = from.read_chunk(usize::MAX, true).await? {
        counts.received(part.bytes.len());
        write(to, &part.bytes).await?;
        consume_budget().await;
    }
    match shutdown(to, Shutdown::Write) {
        // it has gone by itself
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn datagrams_up(
    from: &UdpSocket,
    to: &mut SendStream,
    (scratch, counts): (&Scratch, &Counts),
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let datagram = {
            let mut scratch = scratch.borrow_mut();
            match from.try_recv(&mut scratch) {
                Ok(length) => framed(&scratch[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
        };
        counts.sent(datagram.len());
        to.write_chunk(datagram).await?;
        consume_budget().await;
    }
}

/// Puts its length before a datagram.
fn framed(datagram: &[u8]) -> Bytes {
    let length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
    let mut framed = BytesMut::with_capacity(2 + datagram.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&datagram[..usize::from(length)]);
    framed.freeze()
}

async fn datagrams_down(from: &mut RecvStream, to: &UdpSocket, counts: &Counts) -> io::Result<()> {
    let mut length = [0; 2];
    loop {
        match from.read_exact(&mut length).await {
            Ok(()) => {}
            Err(quinn::ReadExactError::FinishedEarly(0)) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        }
        let mut datagram = vec![0; u16::from_be_bytes(length).into()];
        from.read_exact(&mut datagram).await.map_err(io::Error::other)?;
        counts.received(datagram.len());
        // past the runtime, which does not know yet that a new socket can be written to; one that
        // cannot be sent is lost, but where nobody listens the flow ends
        if let Err(error @ Errno::CONNREFUSED) = send(to, &datagram, SendFlags::DONTWAIT) {
            return Err(error.into());
        }
        consume_budget().await;
    }
}
