//! Where a registry's name leads: its host on the network, and whether it speaks plain HTTP.
//!
//! Registries on this machine speak plain HTTP unless told otherwise, all others HTTPS. Docker Hub's
//! images are named `docker.io/…` and served by another host.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::RegistryError;
use crate::config::target::{Target, TlsFiles};

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

/// How a place is reached.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    /// `https://registry.test:5000/`
    pub(super) base: Url,
    /// Whether its certificate is checked.
    pub(super) verify: bool,
    /// Plain HTTP will do when there is no HTTPS.
    pub(super) fallback: bool,
    pub(super) tls: TlsFiles,
    /// Sent with each request to the place itself.
    pub(super) headers: HeaderMap,
    /// Where certificates for other hosts are, that it leads to.
    pub(super) certs_dirs: Vec<PathBuf>,
}

impl Reach {
    /// What the configuration and the command line say together; the latter where it says something.
    ///
    /// # Errors
    /// The target's host is not a host with an optional port, or a header cannot be one.
    pub(super) fn new(
        target: &Target,
        transport: Transport,
        certs_dirs: &[PathBuf],
    ) -> Result<Self, RegistryError> {
        let host = target.host.as_str();
        let said = target.scheme.map(|scheme| scheme == "http");
        let local = is_loopback(host);
        let (plain, verify, fallback) = match (transport, said, target.insecure) {
            (Transport::PlainHttp, ..) => (true, true, false),
            (Transport::Https, ..) => (false, true, false),
            (Transport::Unverified, said, _) => (said.unwrap_or(local), false, false),
            (Transport::Default, Some(plain), _) => (plain, !target.skip_verify, false),
            (Transport::Default, None, Some(true)) => (local, false, !local),
            (Transport::Default, None, Some(false)) => (false, true, false),
            // Who has certificates for a host speaks TLS to it.
            (Transport::Default, None, None) => (local && target.tls.is_empty(), true, false),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &target.headers {
            let invalid =
                || RegistryError::Client(format!("{name:?} for {host} cannot be a header"));
            let name = HeaderName::try_from(name.as_str()).map_err(|_| invalid())?;
            let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| invalid())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self {
            base: base(host, plain)?,
            verify,
            fallback,
            tls: target.tls.clone(),
            headers,
            certs_dirs: certs_dirs.to_owned(),
        })
    }

    /// Whether any HTTP client can reach it so.
    pub(super) fn is_plain_matter(&self) -> bool {
        !self.fallback && self.tls.is_empty() && self.headers.is_empty()
    }
}

/// The base address of a registry: `http://localhost:5000/`.
fn base(registry: &str, plain: bool) -> Result<Url, RegistryError> {
    let host = match registry {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
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

    fn reach(target: &Target, transport: Transport) -> (String, bool, bool) {
        let reach = Reach::new(target, transport, &[]).expect("valid");
        (reach.base.to_string(), reach.verify, reach.fallback)
    }

    fn target(host: &str) -> Target {
        Target::new(host, String::new())
    }

    #[test]
    fn base_addresses() {
        let text = |name, transport| reach(&target(name), transport).0;
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
            let bad = target(bad);
            assert!(
                Reach::new(&bad, Transport::Default, &[]).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_configuration_says_how_unless_the_command_line_does() {
        let https = |host: &str| format!("https://{host}/");
        let mut any = target("a.test");
        assert_eq!(
            reach(&any, Transport::Default),
            (https("a.test"), true, false)
        );
        any.insecure = Some(true);
        assert_eq!(
            reach(&any, Transport::Default),
            (https("a.test"), false, true)
        );
        assert_eq!(
            reach(&any, Transport::Https),
            (https("a.test"), true, false)
        );
        any.scheme = Some("http");
        assert_eq!(reach(&any, Transport::Default).0, "http://a.test/");
        let mut local = target("localhost:1");
        local.tls.ca.push(PathBuf::from("/ca"));
        assert_eq!(
            reach(&local, Transport::Default),
            (https("localhost:1"), true, false)
        );
        let mut local = target("localhost:1");
        local.insecure = Some(false);
        assert_eq!(
            reach(&local, Transport::Default),
            (https("localhost:1"), true, false)
        );
        local.insecure = Some(true);
        assert_eq!(reach(&local, Transport::Default).0, "http://localhost:1/");
    }
}
