//! A link of the host's that has an address which no other has: a bridge without ports, which every
//! kernel with containers knows, made through rtnetlink(7).

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// The link's name, as EdgeMesh has it.
pub(super) const NAME: &str = "edgemesh0";

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const REQUEST_AND_ACKNOWLEDGE: u16 = 0x5;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;

const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const IS_UP: u32 = 1;

/// No search for others with the address: there can be none.
const NO_DAD: u8 = 2;

/// Makes the link, if it is not there, and gives it an address of its own.
///
/// # Errors
/// When the kernel refuses; as to whoever is not root.
pub(super) fn make(address: IpAddr) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    // Without a protocol it is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let tell = |message: Vec<u8>| -> io::Result<()> {
        send(&socket, &message, SendFlags::empty())?;
        // The kernel answers before the call returns.
        let mut reply = [0; 1024];
        let (length, _) = recv(&socket, &mut reply, RecvFlags::DONTWAIT)?;
        outcome(&reply[..length])
    };
    match tell(new_link()) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {}
        other => other?,
    }
    let index = name_to_index(&socket, NAME)?;
    tell(new_address(index, address))
}

fn new_link() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&IS_UP.to_ne_bytes());
    body.extend_from_slice(&IS_UP.to_ne_bytes());
    let name = [NAME.as_bytes(), b"\0"].concat();
    attribute(&mut body, LINK_NAME, &name);
    let mut info = Vec::new();
    attribute(&mut info, INFO_KIND, b"bridge");
    attribute(&mut body, LINK_INFO, &info);
    message(NEW_LINK, CREATE | EXCLUSIVE, &body)
}

fn new_address(index: u32, address: IpAddr) -> Vec<u8> {
    let (family, bits, flags, bytes) = match address {
        IpAddr::V4(v4) => (AddressFamily::INET, 32, 0, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AddressFamily::INET6, 128, NO_DAD, v6.octets().to_vec()),
    };
    let [family, ..] = family.as_raw().to_le_bytes();
    let mut body = vec![family, bits, flags, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    attribute(&mut body, LOCAL, &bytes);
    attribute(&mut body, ADDRESS, &bytes);
    message(NEW_ADDRESS, CREATE | REPLACE, &body)
}

/// Appends an attribute, whose length is a multiple of four.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(REQUEST_AND_ACKNOWLEDGE | flags).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    message
}

/// Reads how a request ended.
fn outcome(reply: &[u8]) -> io::Result<()> {
    let kind = reply.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = reply.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::other("the kernel's answer is none")),
    }
}
