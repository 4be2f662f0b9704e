//! Where a registry may send its clients.
//!
//! Blobs are often served by another host (object storage), and tokens by another (the realm of a
//! challenge), so a response may name any address: also one that only this machine can reach. A
//! hostile registry made clients ask cloud metadata services and internal hosts that way
//! (go-containerregistry#2243, #2293, #2295). Credentials stay with the registry (CVE-2020-15157).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How far an address is reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// This machine.
    Loopback,
    /// Networks that are not routed on the internet (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// Link-local (cloud metadata services), multicast, unspecified, reserved: never a blob's place.
    Special,
    /// The internet.
    Public,
}

/// The zone of an address; an IPv4 address inside an IPv6 one counts as itself.
pub(super) fn zone(address: IpAddr) -> Zone {
    match address {
        IpAddr::V4(v4) => zone_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => zone_v4(v4),
            None => zone_v6(v6),
        },
    }
}

fn zone_v4(address: Ipv4Addr) -> Zone {
    let [a, b, c, _] = address.octets();
    match (a, b) {
        (127, _) => Zone::Loopback,
        (10, _) | (192, 168) | (172, 16..=31) | (100, 64..=127) => Zone::Private,
        (0 | 224..=255, _) | (169, 254) | (198, 18..=19) => Zone::Special,
        (192, 0) if c == 0 => Zone::Special,
        _ => Zone::Public,
    }
}

fn zone_v6(address: Ipv6Addr) -> Zone {
    let first = address.segments()[0];
    if address.is_loopback() {
        Zone::Loopback
    } else if first & 0xfe00 == 0xfc00 {
        Zone::Private
    } else if address.is_unspecified() || first & 0xffc0 == 0xfe80 || first & 0xff00 == 0xff00 {
        Zone::Special
    } else {
        Zone::Public
    }
}

/// IPv4-mapped and -compatible addresses, 6to4 (RFC 3056) and NAT64 (RFC 6052).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |[.., a, b]: [u16; 8]| {
        let [a, b] = [a.to_be_bytes(), b.to_be_bytes()];
        Ipv4Addr::new(a[0], a[1], b[0], b[1])
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        all @ ([0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..]) => Some(last(all)),
        [0x2002, a, b, ..] => Some(last([0, 0, 0, 0, 0, 0, a, b])),
        _ => None,
    }
}

/// Whether a registry in zone `from` may name an address in zone `to`.
pub(super) fn may_reach(from: Zone, to: Zone) -> bool {
    match to {
        Zone::Public => true,
        Zone::Private => matches!(from, Zone::Private | Zone::Loopback),
        Zone::Loopback => from == Zone::Loopback,
        Zone::Special => false,
    }
}

/// The zone that an address's text tells: of literal addresses and `localhost`; `None` for
/// names, which [`Guarded`] judges when they are resolved.
pub(super) fn literal_zone(url: &Url) -> Option<Zone> {
    let host = url.host_str()?.trim_matches(['[', ']']);
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(Zone::Loopback);
    }
    host.parse().ok().map(zone)
}

/// Whether two addresses are one origin: scheme, host and port (RFC 6454).
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Why an address that a registry named is not asked.
pub(super) fn refusal(registry: &Url, from: Zone, target: &Url) -> Option<&'static str> {
    if !matches!(target.scheme(), "http" | "https") {
        return Some("it is neither http nor https");
    }
    if same_origin(registry, target) {
        return None;
    }
    if target
        .host_str()
        .is_some_and(|host| proxies().iter().any(|proxy| proxy == host))
    {
        return Some("it is this machine's proxy");
    }
    if registry.scheme() == "https" && target.scheme() == "http" {
        return Some("it leads from https to http");
    }
    match literal_zone(target) {
        Some(to) if !may_reach(from, to) => Some("it leads into a network that is not public"),
        _ => None,
    }
}

/// Resolves names for requests to hosts that a registry in zone `from` named, without the
/// addresses that it may not name. Judging the resolved address itself leaves no gap between the
/// check and the connection.
pub(super) struct Guarded {
    pub(super) from: Zone,
}

/// The hosts of the proxies that the environment names. They are where requests are sent, whatever network they are in;
/// what is asked of them is judged like all else.
fn proxies() -> &'static [String] {
    static HOSTS: OnceLock<Vec<String>> = OnceLock::new();
    HOSTS.get_or_init(|| {
        let names = ["http_proxy", "https_proxy", "all_proxy"];
        let names = names
            .iter()
            .flat_map(|name| [(*name).to_owned(), name.to_uppercase()]);
        names
            .filter_map(|name| proxy_host(&std::env::var(name).ok()?))
            .collect()
    })
}

/// The host of `http://proxy:3128` and `proxy:3128`.
fn proxy_host(text: &str) -> Option<String> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    Url::parse(&full).ok()?.host_str().map(str::to_owned)
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let from = self.from;
        let proxy = proxies().iter().any(|host| host == name.as_str());
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| proxy || may_reach(from, zone(address.ip())))
                .collect();
            if allowed.is_empty() {
                let name = name.as_str();
                let text = format!("{name} leads into a network that is not public");
                return Err(text.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone_of(text: &str) -> Zone {
        zone(text.parse().expect("an address"))
    }

    #[test]
    fn zones() {
        for (text, expected) in [
            ("127.0.0.1", Zone::Loopback),
            ("127.255.0.3", Zone::Loopback),
            ("::1", Zone::Loopback),
            ("::ffff:127.0.0.1", Zone::Loopback),
            ("10.1.2.3", Zone::Private),
            ("172.16.0.1", Zone::Private),
            ("172.31.255.255", Zone::Private),
            ("192.168.0.1", Zone::Private),
            ("100.64.0.1", Zone::Private),
            ("fd00::1", Zone::Private),
            ("::ffff:10.0.0.1", Zone::Private),
            ("64:ff9b::a00:1", Zone::Private),
            ("2002:c0a8:1::1", Zone::Private),
            ("::10.0.0.1", Zone::Private),
            ("169.254.169.254", Zone::Special),
            ("0.0.0.0", Zone::Special),
            ("255.255.255.255", Zone::Special),
            ("224.0.0.1", Zone::Special),
            ("::", Zone::Special),
            ("fe80::1", Zone::Special),
            ("ff02::1", Zone::Special),
            ("172.32.0.1", Zone::Public),
            ("8.8.8.8", Zone::Public),
            ("2606:4700::1111", Zone::Public),
            ("64:ff9b::808:808", Zone::Public),
        ] {
            assert_eq!(zone_of(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_registry_may_name() {
        let refused = |registry: &str, from, target: &str| {
            let registry = Url::parse(registry).expect("an address");
            refusal(&registry, from, &Url::parse(target).expect("an address")).is_some()
        };
        let hub = "https://registry.test";
        assert!(!refused(hub, Zone::Public, "https://storage.test/blob"));
        assert!(!refused(hub, Zone::Public, "https://registry.test/other"));
        assert!(refused(hub, Zone::Public, "http://storage.test/blob"));
        assert!(refused(hub, Zone::Public, "http://registry.test/other"));
        assert!(refused(hub, Zone::Public, "https://169.254.169.254/x"));
        assert!(refused(hub, Zone::Public, "https://[::ffff:10.0.0.1]/x"));
        assert!(refused(hub, Zone::Public, "https://0x7f000001/x"));
        assert!(refused(hub, Zone::Public, "https://LocalHost./x"));
        assert!(refused(hub, Zone::Public, "file:///etc/passwd"));
        assert!(!refused(hub, Zone::Private, "https://10.0.0.9/x"));
        let local = "http://localhost:5000";
        assert!(!refused(local, Zone::Loopback, "http://127.0.0.1:9000/x"));
        assert!(!refused(local, Zone::Loopback, "https://storage.test/x"));
        assert!(refused(local, Zone::Loopback, "http://169.254.169.254/x"));
    }

    #[test]
    fn proxies_are_known_by_their_hosts() {
        let host = |text| proxy_host(text).expect("a host");
        assert_eq!(host("http://proxy.test:3128"), "proxy.test");
        assert_eq!(host("https://me:pw@proxy.test/"), "proxy.test");
        assert_eq!(host("proxy.test:3128"), "proxy.test");
        assert_eq!(proxy_host(""), None);
    }

    #[tokio::test]
    async fn names_are_judged_by_what_they_resolve_to() {
        let name = || "localhost".parse::<Name>().expect("a name");
        let public = Guarded { from: Zone::Public };
        assert!(public.resolve(name()).await.is_err());
        let local = Guarded {
            from: Zone::Loopback,
        };
        assert!(local.resolve(name()).await.is_ok());
    }
}
