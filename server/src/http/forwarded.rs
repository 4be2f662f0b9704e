//! Where a request comes from when proxies stand between (RFC 7239 `Forwarded`, and the older
//! `X-Forwarded-For` and `X-Forwarded-Prefix`).
//!
//! Anyone can send these headers, so they count only as far as proxies that the configuration trusts have
//! written them: the chain is read from its end, and the first address that is no such proxy is the
//! client. A proxy appends to the header that it knows and lets the other one pass, so when both are there
//! neither counts.
//!
//! Scheme and host of a proxy are not read: what a client is referred to is a path on the host that it
//! already talks to, or begins with the configured public URL. The ports, schemes and hosts that proxies get
//! wrong have no effect here.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// So many proxies in a row are followed.
const HOPS: usize = 32;

/// The length of a prefix, in bytes, at most.
const MAX_PREFIX: usize = 255;

/// The address that a request comes from, as far as trusted proxies tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Who is behind `peer`, which sent these headers.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> ClientAddress {
    let mut current = peer.to_canonical();
    if !is_trusted(current, trusted) {
        return ClientAddress(current);
    }
    let chain = match (
        headers.contains_key(FORWARDED),
        headers.contains_key(FORWARDED_FOR),
    ) {
        (true, false) => hops(headers, &FORWARDED, elements),
        (false, true) => hops(headers, &FORWARDED_FOR, addresses),
        _ => Vec::new(),
    };
    for hop in chain {
        match hop {
            Some(address) if is_trusted(current, trusted) => current = address,
            _ => break,
        }
    }
    ClientAddress(current)
}

/// The path that a trusted proxy has taken away in front of `/v2/`, without a slash at its end.
pub fn prefix<'a>(peer: IpAddr, headers: &'a HeaderMap, trusted: &[IpNet]) -> Option<&'a str> {
    if !is_trusted(peer.to_canonical(), trusted) {
        return None;
    }
    let mut lines = headers.get_all(FORWARDED_PREFIX).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let path = line.to_str().ok()?.trim().trim_end_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let is_segment = |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(plain);
    let segments = path.strip_prefix('/')?;
    (path.len() <= MAX_PREFIX && segments.split('/').all(is_segment)).then_some(path)
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The hops of a chain, the nearest first; `None` is one that cannot be known, and nothing counts after it.
fn hops(
    headers: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&str) -> Option<Vec<Option<IpAddr>>>,
) -> Vec<Option<IpAddr>> {
    let lines: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    let mut chain = Vec::new();
    for line in lines.into_iter().rev() {
        match line.to_str().ok().and_then(&read) {
            Some(hops) => chain.extend(hops.into_iter().rev()),
            None => chain.push(None),
        }
        if chain.len() >= HOPS {
            break;
        }
    }
    chain.truncate(HOPS);
    chain
}

/// A line of X-Forwarded-For.
fn addresses(line: &str) -> Option<Vec<Option<IpAddr>>> {
    Some(line.split(',').map(node).collect())
}

/// A line of Forwarded: the `for` of each element; `None` when it is not of that form.
fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = Vec::new();
    let mut hop = None;
    let mut rest = line.trim();
    loop {
        if let Some((name, value)) = rest
            .split_once('=')
            .filter(|(name, _)| !name.contains([';', ',', '"']))
        {
            let (value, after) = parameter(value)?;
            if name.trim().eq_ignore_ascii_case("for") {
                hop = node(&value);
            }
            rest = after.trim_start();
        }
        // What follows a parameter, or an element without any.
        match rest.chars().next() {
            None => {
                hops.push(hop);
                return Some(hops);
            }
            Some(',') => hops.push(hop.take()),
            Some(';') => {}
            Some(_) => return None,
        }
        rest = rest[1..].trim_start();
    }
}

/// A parameter's value, a token or a quoted string (RFC 9110, 5.6.6), and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ';', ' ', '\t', '"']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ => value.push(c),
        }
    }
    None
}

/// A node's address, with or without a port; `unknown` and made-up names (`_gateway`) have none.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']')?;
            let address = (port.is_empty() || port.starts_with(':')).then_some(address)?;
            IpAddr::V6(address.parse().ok()?)
        }
        None => match text.parse() {
            Ok(address) => address,
            Err(_) => IpAddr::V4(text.split_once(':')?.0.parse().ok()?),
        },
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROXY: &str = "10.0.0.1";

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "fd00::/8"]
            .map(|n| n.parse().expect("network"))
            .to_vec()
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    fn seen(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let peer = peer.parse().expect("address");
        client(peer, &headers(lines), &trusted()).0.to_string()
    }

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        let x = |value| seen(PROXY, &[("x-forwarded-for", value)]);
        assert_eq!(x("192.0.2.7"), "192.0.2.7");
        assert_eq!(
            x("6.6.6.6, 192.0.2.7"),
            "192.0.2.7",
            "the client made up 6.6.6.6"
        );
        assert_eq!(
            x("6.6.6.6, 192.0.2.7, 10.9.9.9"),
            "192.0.2.7",
            "two proxies"
        );
        assert_eq!(x("10.1.1.1, 10.2.2.2"), "10.1.1.1", "all are ours");
        assert_eq!(x("192.0.2.7:4711"), "192.0.2.7");
        assert_eq!(x("[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(x("2001:db8::1"), "2001:db8::1");
        assert_eq!(x("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(x("192.0.2.7, rubbish"), PROXY);
        assert_eq!(x(""), PROXY);
        let stranger = seen("192.0.2.9", &[("x-forwarded-for", "6.6.6.6")]);
        assert_eq!(stranger, "192.0.2.9");
        assert_eq!(
            seen("::ffff:10.0.0.1", &[("x-forwarded-for", "6.6.6.6")]),
            "6.6.6.6"
        );
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        assert_eq!(
            seen(PROXY, &lines),
            "192.0.2.7",
            "several lines are one list"
        );
    }

    #[test]
    fn forwarded_elements() {
        let f = |value| seen(PROXY, &[("forwarded", value)]);
        assert_eq!(f("for=192.0.2.7"), "192.0.2.7");
        assert_eq!(f("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(
            f("for=192.0.2.43;proto=http, by=x;for=198.51.100.17"),
            "198.51.100.17"
        );
        assert_eq!(
            f("for=192.0.2.43, for=10.3.3.3;host=\"a,b;for=6.6.6.6\""),
            "192.0.2.43"
        );
        assert_eq!(f("for=unknown"), PROXY);
        assert_eq!(f("for=192.0.2.7, for=_hidden"), PROXY);
        assert_eq!(f("proto=https"), PROXY);
        // The client left a quote open, in front of what the proxy wrote.
        assert_eq!(f("for=\"x, for=192.0.2.7"), PROXY);
        let lines = [("forwarded", "for=\"x"), ("forwarded", "for=192.0.2.7")];
        assert_eq!(seen(PROXY, &lines), "192.0.2.7");
        // The proxy knows one of the headers, the client made up the other one.
        let both = [
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        assert_eq!(seen(PROXY, &both), PROXY);
    }

    #[test]
    fn endless_chains_are_cut() {
        let long = vec!["10.0.0.2"; 5000].join(",");
        assert_eq!(seen(PROXY, &[("x-forwarded-for", &long)]), "10.0.0.2");
        let long = format!("192.0.2.7,{long}");
        assert_eq!(seen(PROXY, &[("x-forwarded-for", &long)]), "10.0.0.2");
    }

    #[test]
    fn prefixes_are_plain_paths() {
        let of = |peer: &str, value: &str| {
            let headers = headers(&[("x-forwarded-prefix", value)]);
            let peer = peer.parse().expect("address");
            prefix(peer, &headers, &trusted()).map(str::to_owned)
        };
        assert_eq!(of(PROXY, "/registry/").as_deref(), Some("/registry"));
        assert_eq!(of(PROXY, "/a/b-c").as_deref(), Some("/a/b-c"));
        assert_eq!(of("192.0.2.1", "/registry"), None);
        let long = format!("/{}", "a".repeat(255));
        for bad in [
            "",
            "/",
            "a",
            "//evil.example",
            "/a//b",
            "/../a",
            "/a b",
            "/a>",
            "/a, /b",
            &long,
        ] {
            assert_eq!(of(PROXY, bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in "(for=|[0-9.:;,\"\\\\\\[\\] a-f=]){0,60}") {
            let _ = elements(&line);
            let _ = addresses(&line);
            let lines = [("forwarded", line.as_str())];
            let _ = seen(PROXY, &lines);
        }

        #[test]
        fn the_last_untrusted_address_is_the_client(made_up in "[0-9., a-z]{0,30}", last in any::<[u8; 3]>(), ours in 0usize..20) {
            let client = format!("192.{}.{}.{}", last[0], last[1], last[2]);
            let proxies = ", 10.7.7.7".repeat(ours);
            let line = format!("{made_up}, {client}{proxies}");
            prop_assert_eq!(seen(PROXY, &[("x-forwarded-for", &line)]), client);
        }
    }
}
