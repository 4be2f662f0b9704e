//! Where a registry's name leads: its host on the network, and whether it speaks plain HTTP.
//!
//! Registries on this machine speak plain HTTP unless told otherwise, all others HTTPS. Docker Hub's
//! images are named `docker.io/…` and served by another host.

use std::net::IpAddr;

use reqwest::Url;

use super::RegistryError;

/// How to reach registries, where the default is not right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP for loopback hosts, HTTPS for all others.
    #[default]
    Default,
    /// Plain HTTP whatever the host.
    PlainHttp,
    /// HTTPS whatever the host.
    Https,
    /// HTTPS whose certificate is not checked; loopback hosts stay plain.
    Unverified,
}

/// The base address of a registry: `http://localhost:5000/`.
///
/// # Errors
/// The name is not a host with an optional port.
pub(super) fn base(registry: &str, transport: Transport) -> Result<Url, RegistryError> {
    let host = match registry {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    };
    let plain = match transport {
        Transport::PlainHttp => true,
        Transport::Https => false,
        Transport::Default | Transport::Unverified => is_loopback(host),
    };
    let scheme = if plain { "http" } else { "https" };
    let invalid = || RegistryError::Name(registry.chars().take(255).collect());
    let url = Url::parse(&format!("{scheme}://{host}/")).map_err(|_| invalid())?;
    let only_a_host = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if only_a_host && url.host().is_some() {
        Ok(url)
    } else {
        Err(invalid())
    }
}

/// Whether `host[:port]` is this machine: `localhost`, `127.0.0.0/8` or `::1`.
pub fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None if host.matches(':').count() > 1 => host,
        None => host.split(':').next().unwrap_or(host),
    };
    bare.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_plain_and_the_rest_is_not() {
        for host in [
            "localhost",
            "LOCALHOST:5000",
            "127.0.0.1",
            "127.9.9.9:5000",
            "[::1]:5000",
            "::1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example.org",
            "127.0.0.1.example.org",
            "1127.0.0.1",
            "[::2]:5000",
            "10.0.0.1:5000",
            "docker.io",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn base_addresses() {
        let text = |name, transport| base(name, transport).expect("valid").to_string();
        assert_eq!(
            text("docker.io", Transport::Default),
            "https://registry-1.docker.io/"
        );
        assert_eq!(
            text("localhost:5000", Transport::Default),
            "http://localhost:5000/"
        );
        assert_eq!(
            text("localhost:5000", Transport::Https),
            "https://localhost:5000/"
        );
        assert_eq!(
            text("registry.test", Transport::PlainHttp),
            "http://registry.test/"
        );
        for bad in ["", "a/b", "user@host", "host?x", "host#x", "a b"] {
            assert!(base(bad, Transport::Default).is_err(), "{bad}");
        }
    }
}
