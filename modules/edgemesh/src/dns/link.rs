//! A link of the host's that has an address which no other has: a bridge without ports, which every
//! kernel with containers knows, made through rtnetlink(7).

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags};

use crate::netlink::{ACKNOWLEDGE, Batch, CREATE, EXCLUSIVE, REPLACE, open, tell};

/// The link's name, as EdgeMesh has it.
pub(super) const NAME: &str = "edgemesh0";

const NEW_LINK: u16 = 16;
const REMOVE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;

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
    let socket = open(None, 0, SocketFlags::empty())?;
    match tell(&socket, &new_link()) {
        Err((_, error)) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {}
        other => other.map_err(|(_, error)| error)?,
    }
    let index = name_to_index(&socket, NAME)?;
    tell(&socket, &new_address(index, address)).map_err(|(_, error)| error)
}

/// Removes the link, if it is there.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn remove() -> io::Result<()> {
    let socket = open(None, 0, SocketFlags::empty())?;
    let mut batch = Batch::default();
    batch.message(REMOVE_LINK, ACKNOWLEDGE, |body| {
        body.raw(&[0; 16]);
        body.text(LINK_NAME, NAME);
    });
    match tell(&socket, &batch) {
        Err((_, error)) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Ok(()),
        other => other.map_err(|(_, error)| error),
    }
}

fn new_link() -> Batch {
    let mut batch = Batch::default();
    batch.message(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, |body| {
        body.raw(&[0; 8]);
        body.raw(&IS_UP.to_ne_bytes());
        body.raw(&IS_UP.to_ne_bytes());
        body.text(LINK_NAME, NAME);
        body.nest(LINK_INFO, |info| info.put(INFO_KIND, b"bridge"));
    });
    batch
}

fn new_address(index: u32, address: IpAddr) -> Batch {
    let (family, bits, flags, bytes) = match address {
        IpAddr::V4(v4) => (AddressFamily::INET, 32, 0, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AddressFamily::INET6, 128, NO_DAD, v6.octets().to_vec()),
    };
    let [family, ..] = family.as_raw().to_le_bytes();
    let mut batch = Batch::default();
    batch.message(NEW_ADDRESS, ACKNOWLEDGE | CREATE | REPLACE, |body| {
        body.raw(&[family, bits, flags, 0]);
        body.raw(&index.to_ne_bytes());
        body.put(LOCAL, &bytes);
        body.put(ADDRESS, &bytes);
    });
    batch
}
