//! Tells the service manager how things are (sd_notify(3): a datagram of lines to the socket that
//! NOTIFY_SOCKET names). Without a service manager it does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// Connections are accepted, with the settings that are in force.
pub(crate) fn ready() {
    tell("READY=1");
}

/// Settings are being read. The time tells the manager which answer belongs to its request.
pub(crate) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now
        .tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(now.tv_nsec / 1000);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The end has begun.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("cannot tell the service manager {state:?}: {error}");
    }
}

/// A name that begins with `@` is in the abstract namespace.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_with_a_path_and_without_are_told() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("notify");
        let named = UnixDatagram::bind(&path).expect("bind");
        send(path.as_os_str(), "READY=1").expect("send");
        let name = format!("stratad-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("name");
        let unnamed = UnixDatagram::bind_addr(&address).expect("bind");
        send(OsStr::new(&format!("@{name}")), "READY=1").expect("send");
        for socket in [named, unnamed] {
            let mut bytes = [0; 32];
            let length = socket.recv(&mut bytes).expect("receive");
            assert_eq!(&bytes[..length], b"READY=1");
        }
    }
}
