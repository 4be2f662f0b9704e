//! What the server is told: where to listen, where its data is, and how much a client may ask of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of one server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The directory that holds the database and the blobs.
    pub data: PathBuf,
    /// Whether manifests are taken whose blobs or children are not here (a mirror of one platform).
    pub sparse: bool,
    /// How much a client may ask.
    pub limits: Limits,
}

impl Config {
    /// The defaults, with this data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            data: data.into(),
            sparse: false,
            limits: Limits::default(),
        }
    }
}

/// Where a server listens that was told nothing: only this machine reaches it.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);

/// Where the data is when nothing was said: `/var/lib/stratad` for root, the XDG data directory of
/// a user (<https://specifications.freedesktop.org/basedir-spec>). `None` when the user has no home.
pub fn default_data() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/stratad"));
    }
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let base =
        absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(base.join("stratad"))
}

/// Bounds that keep one client from taking what is everyone's.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// How long a connection may be idle, or take to send a request's head.
    pub head_timeout: Duration,
    /// How long a body may bring nothing.
    pub body_timeout: Duration,
    /// Bytes a second that a body must bring on average, once it has lasted for `body_timeout`.
    pub body_rate: u64,
    /// How long a client may take nothing of a response.
    pub write_timeout: Duration,
    /// How long a stop waits for requests that are under way.
    pub drain: Duration,
    /// How long an upload that nobody goes on with is kept.
    pub upload_life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            connections: 8192,
            head: 64 * 1024,
            head_timeout: minute,
            body_timeout: minute,
            body_rate: 128,
            write_timeout: minute,
            drain: Duration::from_secs(10),
            upload_life: 24 * 60 * minute,
        }
    }
}
