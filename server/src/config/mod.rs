//! What the server is told: where to listen, where its data is, and how much a client may ask of it.
//!
//! One struct for each section of the configuration file, one field for each key.

mod file;
mod live;
mod load;
mod show;
mod table;
#[cfg(test)]
mod tests;
mod units;
mod value;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use live::Live;
pub use load::{Change, DEFAULT_FILE, FILE_VARIABLE, Inputs, Loaded, Problem, Source};
pub use table::{KEYS, Key};

/// The settings of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The registry's own listener.
    pub http: Http,
    /// The listener of those who run it.
    pub admin: Admin,
    /// The data.
    pub storage: Storage,
    /// How much a client may ask.
    pub limits: Limits,
    /// Garbage collection.
    pub gc: Gc,
    /// What is logged.
    pub log: Log,
    /// What is sent to collectors.
    pub telemetry: Telemetry,
}

impl Config {
    /// The defaults, with this data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            http: Http::default(),
            admin: Admin::default(),
            storage: Storage {
                data: data.into(),
                sparse: false,
            },
            limits: Limits::default(),
            gc: Gc::default(),
            log: Log::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// The registry's own listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Where it listens, at least one; port 0 takes any that is free.
    pub listen: Vec<SocketAddr>,
    /// The URL that clients know it by, `http[s]://HOST[:PORT]` without a slash at the end. With one,
    /// what it refers clients to is absolute; without, it is relative.
    pub public_url: Option<String>,
    /// The proxies whose `Forwarded` and `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Where a server listens that was told nothing: only this machine reaches it.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: vec![DEFAULT_LISTEN],
            public_url: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// The listener of those who run it: metrics, and whether it is alive and ready.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Admin {
    /// Where it listens; none: nowhere.
    pub listen: Option<SocketAddr>,
}

/// The data.
#[derive(Debug, Clone, PartialEq)]
pub struct Storage {
    /// The directory that holds the database and the blobs.
    pub data: PathBuf,
    /// Whether manifests are taken whose blobs or children are not here (a mirror of one platform).
    pub sparse: bool,
}

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
#[derive(Debug, Clone, PartialEq)]
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

const MINUTE: Duration = Duration::from_secs(60);

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            head: 64 * 1024,
            head_timeout: MINUTE,
            body_timeout: MINUTE,
            body_rate: 128,
            write_timeout: MINUTE,
            drain: Duration::from_secs(10),
            upload_life: 24 * 60 * MINUTE,
        }
    }
}

/// Garbage collection: removal of what nothing names any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Gc {
    /// How often it runs.
    pub interval: Duration,
    /// How long content is kept that nothing names: a push sends blobs before the manifest that names them.
    pub grace: Duration,
}

impl Default for Gc {
    fn default() -> Self {
        Self {
            interval: 5 * MINUTE,
            grace: 24 * 60 * MINUTE,
        }
    }
}

/// What is logged, on standard error.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// What is worth a line: a level, or directives of `target=level`, with commas between them
    /// (<https://docs.rs/tracing-subscriber/latest/tracing_subscriber/filter/struct.EnvFilter.html>).
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// A JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Human,
        }
    }
}

/// What is sent to collectors of traces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Telemetry {
    /// The URL of a collector that takes OTLP over HTTP; none: nothing is sent.
    pub otlp_endpoint: Option<String>,
}
