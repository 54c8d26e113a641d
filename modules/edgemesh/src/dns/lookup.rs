//! A client: asks a name server as a pod does, for the operator.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

use super::fqdn::Domain;
use super::wire::{Data, Foreign, Query, code, kind};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many dots a name has that is taken as whole at first, as kubelet tells pods.
const DOTS: usize = 5;

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Found {
    /// The name that was found, or the last that was asked for.
    name: String,
    /// How the query ended.
    status: &'static str,
    answers: Vec<Answer>,
}

#[derive(Debug, Serialize)]
struct Answer {
    name: String,
    r#type: &'static str,
    /// Seconds.
    ttl: u32,
    data: String,
}

/// Asks a server for a name as a pod of a namespace does, and returns what it says as JSON: an
/// object with `name`, `status` and `answers`.
///
/// # Errors
/// When the name is none, or the server does not answer.
pub fn resolve(
    server: SocketAddr,
    domain: &str,
    namespace: &str,
    name: &str,
) -> Result<String, String> {
    let found = find(server, domain, namespace, name)?;
    serde_json::to_string(&found).map_err(|error| error.to_string())
}

/// Asks a server for a name as [`resolve`] does.
///
/// # Errors
/// When the name is none, or the server does not answer.
pub(crate) fn find(
    server: SocketAddr,
    domain: &str,
    namespace: &str,
    name: &str,
) -> Result<Found, String> {
    let mut found = Found::default();
    for candidate in candidates(domain, namespace, name) {
        let unknown = || format!("{candidate:?} is no name");
        let whole = Domain::parse(&candidate).ok_or_else(unknown)?;
        let first = candidate.starts_with('_');
        let kinds: &[u16] = match (whole.reversed(), first) {
            (Some(_), _) => &[kind::PTR],
            (None, true) => &[kind::SRV],
            (None, false) => &[kind::A, kind::AAAA],
        };
        found = Found { name: whole.to_string(), status: "NOERROR", answers: Vec::new() };
        for kind in kinds {
            let query = Query::new(whole.clone(), *kind);
            let reply = ask(server, &query)
                .map_err(|error| format!("{server} does not say what {whole} is: {error}"))?;
            found.take(&reply);
        }
        if found.status != "NXDOMAIN" {
            break;
        }
    }
    Ok(found)
}

impl Found {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn status(&self) -> &'static str {
        self.status
    }

    /// Returns the first address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.answers.iter().find_map(|answer| answer.data.parse().ok())
    }

    fn take(&mut self, reply: &Foreign) {
        self.status = status(reply.code());
        for record in &reply.answers {
            let (kind, data) = match &record.data {
                Data::Address(address @ IpAddr::V4(_)) => ("A", address.to_string()),
                Data::Address(address @ IpAddr::V6(_)) => ("AAAA", address.to_string()),
                Data::Alias(name) => ("CNAME", name.to_string()),
                Data::Pointer(name) => ("PTR", name.to_string()),
                Data::Server { port, target, .. } => ("SRV", format!("{target} {port}")),
                Data::Authority { .. } => continue,
            };
            let (name, ttl) = (record.name.to_string(), record.ttl);
            let is_known = |it: &Answer| it.name == name && it.r#type == kind && it.data == data;
            if !self.answers.iter().any(is_known) {
                self.answers.push(Answer { name, r#type: kind, ttl, data });
            }
        }
    }
}

/// Returns the names that a pod tries, in order: behind each end of its search list, and alone.
fn candidates(domain: &str, namespace: &str, name: &str) -> Vec<String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return vec![reverse(address)];
    }
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let ends = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    let mut names: Vec<_> = ends.iter().map(|end| format!("{name}.{end}")).collect();
    let is_whole = name.matches('.').count() >= DOTS;
    let place = if is_whole { 0 } else { names.len() };
    names.insert(place, name.to_owned());
    names
}

/// Returns the name under which an address is told whose it is.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", address.to_bits());
            let mut name: String = digits.chars().rev().flat_map(|digit| [digit, '.']).collect();
            name.push_str("ip6.arpa");
            name
        }
    }
}

/// Asks through a connection, in which every answer is whole.
fn ask(server: SocketAddr, query: &Query) -> io::Result<Foreign> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let packet = query.encode(query.id);
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), &*packet].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut reply)?;
    Foreign::read(reply, query.id, query).ok_or_else(|| io::Error::other("its reply is none"))
}

const fn status(code: u16) -> &'static str {
    match code {
        code::OK => "NOERROR",
        code::FORMAT => "FORMERR",
        code::FAILURE => "SERVFAIL",
        code::NO_NAME => "NXDOMAIN",
        code::NOT_IMPLEMENTED => "NOTIMP",
        code::REFUSED => "REFUSED",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tried_as_pods_try_them() {
        let all = |name: &str| candidates("cluster.local", "shop", name).join(" ");
        let tried = "web.shop.svc.cluster.local web.svc.cluster.local web.cluster.local web";
        assert_eq!(all("web"), tried);
        assert_eq!(all("web.shop."), "web.shop.");
        assert!(
            all("_http._tcp.web.shop.svc.cluster.local")
                .starts_with("_http._tcp.web.shop.svc.cluster.local _")
        );
        assert_eq!(all("10.96.0.7"), "7.0.96.10.in-addr.arpa");
        let v6 = Domain::parse(&all("fd00::7")).and_then(|name| name.reversed());
        assert_eq!(v6, "fd00::7".parse().ok());
    }
}
