//! Addresses as people write them: a bare port is on loopback, a host is an IPv4 or IPv6 address or a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use crate::error::{CliError, Code};

/// A host and a port. Names are kept as names, because they may come to mean another address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Address {
    /// The first address that the name stands for now.
    pub(crate) fn resolve(&self) -> Result<SocketAddr, CliError> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(SocketAddr::new(*ip, self.port)),
            Host::Name(name) => name,
        };
        let found = (name.as_str(), self.port).to_socket_addrs();
        let found = found.map_err(|error| {
            CliError::new(Code::Failed, format!("looking up the name: {error}"))
                .at(self)
                .hint("write an IP address, or check the name with `getent hosts`")
        })?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| CliError::new(Code::Failed, "the name has no address").at(self))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return Ok(Self { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port: port(text)? });
        }
        if let Ok(known) = text.parse::<SocketAddr>() {
            return Ok(Self { host: Host::Ip(known.ip()), port: known.port() });
        }
        if text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            let example = if bare.contains(':') { format!("[{bare}]:7101") } else { format!("{bare}:7101") };
            return Err(format!("`{text}` has no port: write {example}"));
        }
        let (name, port_text) =
            text.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port: write {text}:7101"))?;
        if name.is_empty() {
            return Err(format!(
                "`{text}` has no host: write 127.0.0.1{text}, or 0.0.0.0{text} for every card"
            ));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
            return Err(format!("`{name}` is no host: write 127.0.0.1:7101, [::1]:7101 or name:7101"));
        }
        Ok(Self { host: Host::Name(name.to_owned()), port: port(port_text)? })
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is no port: use 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => fmt::Display::fmt(&SocketAddr::new(*ip, self.port), f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        text.parse::<Address>().map(|address| address.to_string())
    }

    #[test]
    fn a_bare_port_is_on_loopback() {
        assert_eq!(read("7101"), Ok("127.0.0.1:7101".into()));
        assert_eq!(read("65536"), Err("`65536` is no port: use 1 to 65535".into()));
        assert_eq!(read("0"), Err("`0` is no port: use 1 to 65535".into()));
    }

    #[test]
    fn both_families_and_names_are_read() {
        assert_eq!(read("10.0.0.1:7"), Ok("10.0.0.1:7".into()));
        assert_eq!(read("[::1]:7101"), Ok("[::1]:7101".into()));
        assert_eq!(read("node-1.lan:7101"), Ok("node-1.lan:7101".into()));
    }

    #[test]
    fn what_is_missing_is_named_with_an_example() {
        assert_eq!(read("10.0.0.1"), Err("`10.0.0.1` has no port: write 10.0.0.1:7101".into()));
        assert_eq!(read("::1"), Err("`::1` has no port: write [::1]:7101".into()));
        assert_eq!(read("host"), Err("`host` has no port: write host:7101".into()));
        assert_eq!(
            read(":7101"),
            Err("`:7101` has no host: write 127.0.0.1:7101, or 0.0.0.0:7101 for every card".into())
        );
        assert_eq!(
            read("a b:1"),
            Err("`a b` is no host: write 127.0.0.1:7101, [::1]:7101 or name:7101".into())
        );
        assert_eq!(read("host:x"), Err("`x` is no port: use 1 to 65535".into()));
        assert!(read("").is_err());
    }

    #[test]
    fn localhost_resolves_and_nonsense_names_itself() {
        let known: Address = "127.0.0.1:7101".parse().unwrap();
        assert_eq!(known.resolve().unwrap(), SocketAddr::from(([127, 0, 0, 1], 7101)));
    }
}
