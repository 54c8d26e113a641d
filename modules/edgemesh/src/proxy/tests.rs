//! Listeners with real clients and endpoints on the loopback.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Runs a test where tasks can be local.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async { timeout(LONG, test).await.expect("in time") };
    LocalSet::new().block_on(&runtime, all);
}

fn key(protocol: Protocol) -> Key {
    let service = Name { namespace: "default".into(), name: "web".into() };
    Key { service, pod: None, protocol, port: 80 }
}

fn manner(policy: Policy, targets: &[SocketAddr]) -> Manner {
    Manner { policy, affinity: None, targets: targets.iter().copied().map(Target::from).collect() }
}

/// An endpoint that greets with its own address, and after the client's end of its request sends
/// that back.
async fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            spawn_local(async move {
                stream.write_all(format!("{address}\n").as_bytes()).await.unwrap();
                let mut request = Vec::new();
                stream.read_to_end(&mut request).await.unwrap();
                stream.write_all(&request).await.unwrap();
            });
        }
    });
    address
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// Sends a request, finishes, and returns who answered and what.
async fn ask(port: u16, request: &[u8]) -> (SocketAddr, Vec<u8>) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let line = answer.iter().position(|byte| *byte == b'\n').expect("a greeting");
    let who = String::from_utf8(answer[..line].to_vec()).unwrap().parse().unwrap();
    (who, answer.split_off(line + 1))
}

#[test]
fn each_side_may_finish_before_the_other() {
    run(async {
        let mut proxy = Proxy::new(None);
        let endpoint = endpoint().await;
        let manner = manner(Policy::RoundRobin, &[endpoint]);
        let port = proxy.serve(&key(Protocol::Tcp), manner).unwrap();
        let request: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let half = request.len() / 2;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(&request[..half]).await.unwrap();
        stream.write_all(&request[half..]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(&request), "all came back after the client had finished");
    });
}

#[test]
fn an_endpoint_that_is_not_there_costs_no_client_its_answer() {
    run(async {
        let mut proxy = Proxy::new(None);
        let [good, bad] = [endpoint().await, nobody().await];
        let manner = manner(Policy::RoundRobin, &[bad, good]);
        let port = proxy.serve(&key(Protocol::Tcp), manner).unwrap();
        for _ in 0..10 {
            assert_eq!(ask(port, b"hello").await, (good, b"hello".to_vec()));
        }
    });
}

#[test]
fn a_client_without_any_endpoint_is_reset_and_a_slow_one_delays_nobody() {
    run(async {
        let mut proxy = Proxy::new(None);
        let none = manner(Policy::RoundRobin, &[nobody().await]);
        let port = proxy.serve(&key(Protocol::Tcp), none).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let end = stream.read(&mut [0; 1]).await.expect_err("a reset, not an end");
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        let header = manner(Policy::Header("x-user".into()), &[endpoint().await]);
        assert_eq!(proxy.serve(&key(Protocol::Tcp), header).unwrap(), port, "the port stays");
        let silent = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        ask(port, b"hello").await;
        drop(silent);
    });
}

#[test]
fn one_user_s_requests_go_to_one_endpoint_and_arrive_whole() {
    run(async {
        let mut proxy = Proxy::new(None);
        let all = [endpoint().await, endpoint().await, endpoint().await];
        let manner = manner(Policy::Header("X-User".into()), &all);
        let port = proxy.serve(&key(Protocol::Tcp), manner).unwrap();
        let mut everybody = BTreeSet::new();
        for user in 0..30 {
            let request = format!("GET / HTTP/1.1\r\nx-user: {user}\r\n\r\nbody and more");
            let (first, whole) = ask(port, request.as_bytes()).await;
            assert_eq!(whole, request.as_bytes());
            assert_eq!(ask(port, request.as_bytes()).await.0, first);
            everybody.insert(first);
        }
        assert_eq!(everybody, BTreeSet::from(all));
        let others = [ask(port, b"not http").await, ask(port, b"GET / HTTP").await];
        assert_eq!(others.map(|(_, whole)| whole), [&b"not http"[..], b"GET / HTTP"]);
    });
}

#[test]
fn connections_stand_when_their_endpoint_and_their_port_go() {
    run(async {
        let mut proxy = Proxy::new(None);
        let [one, other] = [endpoint().await, endpoint().await];
        let port = proxy.serve(&key(Protocol::Tcp), manner(Policy::Random, &[one])).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let mut greeting = vec![0; one.to_string().len() + 1];
        stream.read_exact(&mut greeting).await.unwrap();
        proxy.serve(&key(Protocol::Tcp), manner(Policy::Random, &[other])).unwrap();
        assert_eq!(ask(port, b"").await.0, other);
        proxy.retain(&key(Protocol::Tcp).service, |_| false);
        assert_eq!(proxy.len(), 0);
        stream.write_all(b"still here").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"still here");
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
        assert!(refused.is_err(), "nobody listens there any more");
    });
}

/// An endpoint that answers each datagram with its own address, and tells of each.
async fn udp_endpoint(heard: mpsc::Sender<Vec<u8>>) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    spawn_local(async move {
        let mut datagram = vec![0; 65_536];
        while let Ok((length, client)) = socket.recv_from(&mut datagram).await {
            heard.send(datagram[..length].to_vec()).await.unwrap();
            socket.send_to(address.to_string().as_bytes(), client).await.unwrap();
        }
    });
    address
}

/// Sends a datagram and returns who answers it.
async fn ask_udp(socket: &UdpSocket, datagram: &[u8]) -> SocketAddr {
    socket.send(datagram).await.unwrap();
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer).await.unwrap();
    std::str::from_utf8(&answer[..length]).unwrap().parse().unwrap()
}

#[test]
fn datagrams_of_a_client_are_one_flow_and_keep_their_bounds() {
    run(async {
        let mut proxy = Proxy::new(None);
        let (heard, mut hears) = mpsc::channel(8);
        let all = [udp_endpoint(heard.clone()).await, udp_endpoint(heard).await];
        let manner = manner(Policy::RoundRobin, &all);
        let port = proxy.serve(&key(Protocol::Udp), manner).unwrap();
        let mut everybody = BTreeSet::new();
        for _ in 0..2 {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            socket.connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let who = ask_udp(&socket, b"hello").await;
            for size in [0, 1, 9_000, 60_000] {
                assert_eq!(ask_udp(&socket, &vec![7; size]).await, who);
            }
            everybody.insert(who);
            let mut sizes = Vec::new();
            for _ in 0..5 {
                sizes.push(hears.recv().await.unwrap().len());
            }
            assert_eq!(sizes, [5, 0, 1, 9_000, 60_000]);
        }
        assert_eq!(everybody, BTreeSet::from(all));
    });
}

#[test]
fn a_flow_whose_endpoint_is_not_there_goes_to_another() {
    run(async {
        let mut proxy = Proxy::new(None);
        let (heard, _hears) = mpsc::channel(64);
        let all = [nobody().await, udp_endpoint(heard).await];
        let manner = manner(Policy::RoundRobin, &all);
        let port = proxy.serve(&key(Protocol::Udp), manner).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let mut answer = [0; 64];
        loop {
            socket.send(b"hello").await.unwrap();
            let answered = timeout(Duration::from_millis(50), socket.recv(&mut answer)).await;
            if answered.is_ok() {
                return;
            }
        }
    });
}
