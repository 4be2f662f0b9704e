//! Sockets that take connections: one for each address.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted, at most (the kernel takes no more than net.core.somaxconn).
const BACKLOG: u32 = 1024;

/// The sockets of one server.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl From<TcpListener> for Listeners {
    fn from(one: TcpListener) -> Self {
        Self(vec![one])
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", advice(.source))]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there: end it, or say another address"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        io::ErrorKind::PermissionDenied => {
            "; a port below 1024 needs CAP_NET_BIND_SERVICE: say another port"
        }
        _ => "",
    }
}

impl Listeners {
    /// Listens on each address, or on none.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, ListenError> {
        let bound = addresses.iter().map(|address| {
            bind(*address, addresses).map_err(|source| ListenError {
                address: *address,
                source,
            })
        });
        Ok(Self(bound.collect::<Result<_, _>>()?))
    }

    /// Where they listen; a port that was 0 is the one that was given.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().map(TcpListener::local_addr).collect()
    }

    /// The next connection of any. Those that come first in the list are asked first; what waits at the
    /// others is not starved, because a connection is only accepted when nobody else is being served by this task.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| {
            let mut ready = self.0.iter().map(|listener| listener.poll_accept(cx));
            ready.find(Poll::is_ready).unwrap_or(Poll::Pending)
        })
        .await
    }
}

fn bind(address: SocketAddr, all: &[SocketAddr]) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        let socket = TcpSocket::new_v6()?;
        // [::] takes IPv4 as well, unless that has a socket of its own (RFC 3493, 5.3).
        if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            let other = |a: &SocketAddr| a.is_ipv4() && a.port() == address.port();
            set_ipv6_v6only(&socket, all.iter().any(other))?;
        }
        socket
    } else {
        TcpSocket::new_v4()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    #[tokio::test]
    async fn connections_come_from_each_address() {
        let listeners = Listeners::bind(&[at("127.0.0.1:0"), at("[::1]:0")]).expect("bind");
        for address in listeners.addresses().expect("addresses") {
            let client = TcpStream::connect(address).await.expect("connect");
            let (_, peer) = listeners.accept().await.expect("accept");
            assert_eq!(peer, client.local_addr().expect("address"));
        }
    }

    #[tokio::test]
    async fn both_families_can_have_the_same_port() {
        let first = Listeners::bind(&[at("0.0.0.0:0")]).expect("bind");
        let port = first.addresses().expect("addresses")[0].port();
        drop(first);
        let (v4, v6) = (
            SocketAddr::from(([0; 4], port)),
            SocketAddr::from(([0u16; 8], port)),
        );
        let both = Listeners::bind(&[v4, v6]).expect("bind");
        assert_eq!(both.addresses().expect("addresses"), [v4, v6]);
    }

    #[tokio::test]
    async fn an_address_that_is_taken_or_not_here_is_told_with_what_to_do() {
        let first = Listeners::bind(&[at("127.0.0.1:0")]).expect("bind");
        let taken = first.addresses().expect("addresses");
        let error = Listeners::bind(&taken).expect_err("taken").to_string();
        assert!(
            error.contains(&taken[0].to_string()) && error.contains("another program"),
            "{error}"
        );
        let error = Listeners::bind(&[at("192.0.2.1:0")])
            .expect_err("elsewhere")
            .to_string();
        assert!(error.contains("no interface"), "{error}");
    }
}
