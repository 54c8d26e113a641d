//! The address at which pods find the node's own API: put on a link that leads nowhere, so that it
//! is there on whatever network the node is (rtnetlink).
//!
//! edged does this because it may: metaserver, which serves there, has no privileges.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with};

/// The link's name: KubeEdge's, so that each agent finds the other's.
const LINK: &str = "edge-dummy0";

/// Kinds of a link that leads nowhere: what it is for, and what stands in where the kernel has not
/// got that, a bridge without ports.
const KINDS: [&str; 2] = ["dummy", "bridge"];

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;

/// A request that is answered, and makes what is not there yet.
const FLAGS: u16 = 0x1 | 0x4 | 0x200 | 0x400;

/// The link is up.
const UP: u32 = 1;

const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;

/// The length of a message's head, in bytes.
const HEAD: usize = 16;

/// Sees to it that the host has an address. One of the loopback it always has.
///
/// # Errors
/// When the kernel does not make the link or does not take the address.
pub(crate) fn ensure(address: IpAddr) -> io::Result<()> {
    if address.is_loopback() {
        return Ok(());
    }
    let mut made = Ok(());
    for kind in KINDS {
        made = ask(NEW_LINK, &link(kind));
        if !matches!(made, Err(Errno::OPNOTSUPP)) {
            break;
        }
    }
    let failed = |what: &str, error: Errno| {
        io::Error::new(io::Error::from(error).kind(), format!("{what} {LINK}: {error}"))
    };
    let exists = |result| match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    };
    exists(made).map_err(|error| failed("cannot make the link", error))?;
    let index = index().map_err(|error| failed("cannot find the link", error))?;
    let what = format!("cannot put {address} on");
    exists(ask(NEW_ADDRESS, &place(address, index))).map_err(|error| failed(&what, error))
}

fn index() -> rustix::io::Result<u32> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    name_to_index(&socket, LINK)
}

/// Says what link there is to be.
fn link(kind: &str) -> Vec<u8> {
    // Family, type and index are for the kernel to choose.
    let mut body = vec![0; 8];
    body.extend(UP.to_ne_bytes());
    body.extend(UP.to_ne_bytes());
    attribute(&mut body, LINK_NAME, format!("{LINK}\0").as_bytes());
    let mut info = Vec::new();
    attribute(&mut info, INFO_KIND, kind.as_bytes());
    attribute(&mut body, LINK_INFO, &info);
    body
}

/// Says which address is to be on the link.
fn place(address: IpAddr, index: u32) -> Vec<u8> {
    let (family, bits, bytes) = match address {
        IpAddr::V4(v4) => (AddressFamily::INET, 32, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AddressFamily::INET6, 128, v6.octets().to_vec()),
    };
    let family = family.as_raw().to_le_bytes()[0];
    let mut body = vec![family, bits, 0, 0];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, LOCAL, &bytes);
    attribute(&mut body, ADDRESS, &bytes);
    body
}

/// Writes an attribute, and what fills it up to four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(length(4 + value.len()).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Attributes here are some bytes long.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// Sends a request to the kernel, and takes its answer.
fn ask(kind: u16, body: &[u8]) -> rustix::io::Result<()> {
    // Without a protocol it is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = u32::from(length(HEAD + body.len())).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Number and sender: there is one message on this socket.
    message.extend([0; 8]);
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0; 4096];
    let (count, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let code = answer.get(..count).and_then(|answer| answer.get(HEAD..HEAD + 4));
    let code = code.and_then(|code| <[u8; 4]>::try_from(code).ok()).ok_or(Errno::PROTO)?;
    match i32::from_ne_bytes(code) {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(error.saturating_neg())),
    }
}

#[cfg(test)]
mod tests;
