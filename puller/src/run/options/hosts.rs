//! `--add-host NAME:ADDRESS`: one more line of /etc/hosts.

use std::net::{IpAddr, Ipv4Addr};

use super::{OptionError, shown};

/// Name and address. `host-gateway` stands for the host, which is at the loopback address: its network is shared.
///
/// # Errors
/// No address, or a name that would be more than one word of the file.
pub fn host_name(text: &str) -> Result<(String, String), OptionError> {
    let (name, address) = text
        .split_once([':', '='])
        .ok_or_else(|| OptionError::new(format!("bad format for add-host: {}", shown(text))))?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if name.is_empty() || name.len() > 255 || !name.bytes().all(allowed) {
        return Err(OptionError::new(format!(
            "invalid host name in add-host: {}",
            shown(name)
        )));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let address = match bare.unwrap_or(address) {
        "host-gateway" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        address => address.parse().map_err(|_| {
            OptionError::new(format!(
                "invalid IP address in add-host: {}",
                shown(address)
            ))
        })?,
    };
    Ok((name.to_owned(), address.to_string()))
}

/// The address of a name server (`--dns`).
///
/// # Errors
/// It is none.
pub fn address(text: &str) -> Result<String, OptionError> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(OptionError::new(format!(
            "{} is not an ip address",
            shown(text)
        ))),
    }
}

/// Why a port cannot be published.
pub fn no_published_ports(host_network: bool) -> OptionError {
    OptionError::new(match host_network {
        true => {
            "ports cannot be published: the container is in the host's network, so what it listens on can be reached \
             already at the port itself; leave -p and -P out"
        }
        false => {
            "ports cannot be published: with --network none nothing reaches the container; leave -p and -P out"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let read = |text: &str| host_name(text).expect("reads");
        assert_eq!(read("db:10.0.0.7"), ("db".into(), "10.0.0.7".into()));
        assert_eq!(read("db:::1"), ("db".into(), "::1".into()));
        assert_eq!(read("db=[fe80::1]"), ("db".into(), "fe80::1".into()));
        assert_eq!(read("host:host-gateway").1, "127.0.0.1");
        assert_eq!(address("2001:db8::1"), Ok("2001:db8::1".into()));
        assert!(address("dns.example").is_err() && address("1.1.1.1\n").is_ok());
        for bad in [
            "",
            "db",
            ":1.2.3.4",
            "db:",
            "db:here",
            "a b:1.2.3.4",
            "a\nb:1.2.3.4",
        ] {
            assert!(host_name(bad).is_err(), "{bad:?}");
        }
    }
}
