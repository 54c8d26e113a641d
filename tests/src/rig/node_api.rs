//! A node's API, as far as the tunnel needs one: logs that never end, upgrades that echo, texts of
//! failures. It stands where edged's would.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

/// Serves until the test's process ends.
///
/// # Errors
/// When there is no free port.
pub fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("node-api".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = move || {
                // How a connection ends is its client's affair.
                let _ended = serve(stream);
            };
            drop(thread::Builder::new().stack_size(128 * 1024).spawn(serve));
        }
    })?;
    Ok(address)
}

/// Serves one connection; the name of the container says what is wanted.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    match path.rsplit('/').next().unwrap_or_default() {
        "echo" => {
            switch(&mut stream)?;
            std::io::copy(&mut reader, &mut stream).map(drop)
        }
        "deaf" => {
            switch(&mut stream)?;
            stream.write_all(b"deaf")?;
            loop {
                thread::park();
            }
        }
        "sink" => {
            switch(&mut stream)?;
            let wanted = query.parse().unwrap_or(0);
            let taken = std::io::copy(&mut reader.take(wanted), &mut std::io::sink())?;
            stream.write_all(format!("{taken}\n").as_bytes())
        }
        "source" => {
            switch(&mut stream)?;
            pour(&mut stream, query.parse().unwrap_or(0))
        }
        "follow" => {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nline 1\n\r\n",
            )?;
            // Until the client goes.
            std::io::copy(&mut reader, &mut std::io::sink()).map(drop)
        }
        "bytes" => {
            let length: u64 = query.parse().unwrap_or(0);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            pour(&mut stream, length)
        }
        "resource" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n# HELP\n"),
        _ => {
            let why = "pod \"p\" not found\n";
            let head = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n", why.len());
            stream.write_all((head + why).as_bytes())
        }
    }
}

fn switch(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
    )
}

/// Writes bytes, among them those that are no UTF-8.
fn pour(stream: &mut TcpStream, length: u64) -> std::io::Result<()> {
    let block: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    let mut left = length;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        stream.write_all(&block[..now])?;
        left -= now as u64;
    }
    Ok(())
}
