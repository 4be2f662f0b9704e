//! `stratad health`: asks a running server, so that an image without any other program can be watched.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use stratad::Config;

use super::settings::Settings;
use super::{Outcome, load, one};

/// Whom to ask.
#[derive(Args)]
pub(crate) struct Health {
    /// What to ask, by plain HTTP [default: /readyz of admin.listen; without that, of http.listen].
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    #[command(flatten)]
    settings: Settings,
}

/// How long each of connecting, asking and the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer that are looked at, at most.
const ENOUGH: u64 = 16 * 1024;

/// Succeeds when the answer is 200. When it is another the reason that the server gives is told.
pub(crate) fn run(health: &Health) -> Outcome {
    let url = match &health.url {
        Some(url) => url.clone(),
        None => own(&load(&health.settings.clone().inputs())?.config)?,
    };
    let (address, path) = parts(&url).map_err(one)?;
    let answer =
        ask(&address, &path).map_err(|error| one(format!("cannot reach {url}: {error}")))?;
    let status = answer.split_ascii_whitespace().nth(1).unwrap_or("nothing");
    if status == "200" {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let printable = |c: &char| !c.is_control();
    let body: String = body.chars().filter(printable).take(500).collect();
    Err(one(format!("{url} answers {status}: {body}")))
}

/// The URL of the server that these settings are for.
fn own(config: &Config) -> Result<String, Vec<String>> {
    let registry = config.http.listen.first().copied();
    match config.admin.listen.or(registry) {
        Some(address) if address.port() != 0 => Ok(format!("http://{}/readyz", reachable(address))),
        _ => Err(one("the server's port is not known: say --url")),
    }
}

/// An address by which a listener on this machine is reached: one on all interfaces is on loopback, too.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// The host with its port, and the path.
fn parts(url: &str) -> Result<(String, String), String> {
    let wrong = || format!("{url:?} is not a URL such as http://127.0.0.1:5000/readyz");
    let parsed: http::Uri = url.parse().map_err(|_| wrong())?;
    let authority = parsed.authority().ok_or_else(wrong)?;
    if parsed.scheme_str() != Some("http") || authority.as_str().contains('@') {
        return Err(wrong());
    }
    let port = authority.port_u16().unwrap_or(80);
    let path = parsed.path_and_query().map_or("/", |path| path.as_str());
    Ok((format!("{}:{port}", authority.host()), path.to_owned()))
}

fn ask(address: &str, path: &str) -> io::Result<String> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs()? {
        let stream = match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        return exchange(stream, address, path);
    }
    Err(last)
}

fn exchange(mut stream: TcpStream, host: &str, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stratad-health\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ENOUGH).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_on_its_admin_listener_if_it_has_one() {
        let mut config = Config::new("");
        assert_eq!(own(&config).expect("url"), "http://127.0.0.1:5000/readyz");
        config.http.listen = vec!["[::]:81".parse().expect("address")];
        assert_eq!(own(&config).expect("url"), "http://[::1]:81/readyz");
        config.admin.listen = Some("0.0.0.0:5001".parse().expect("address"));
        assert_eq!(own(&config).expect("url"), "http://127.0.0.1:5001/readyz");
        config.admin.listen = Some("127.0.0.1:0".parse().expect("address"));
        assert!(own(&config).is_err());
    }

    #[test]
    fn only_plain_http_is_asked() {
        let parts = |url| parts(url).ok();
        let some = |address: &str, path: &str| Some((address.to_owned(), path.to_owned()));
        assert_eq!(parts("http://[::1]:5/a?b"), some("[::1]:5", "/a?b"));
        assert_eq!(parts("http://localhost"), some("localhost:80", "/"));
        for bad in [
            "https://localhost/",
            "localhost",
            "http://a@b/",
            "http://",
            "",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
