//! The servers: how each is told where to listen and where its data is, and what it takes of the machine.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::api::Api;
use crate::binaries::binary;
use crate::command::find;
use crate::http::Http;
use crate::stratad;

/// Of proc_pid_stat(5) in a second, on every Linux that Rust's standard library knows.
const TICKS: f64 = 100.0;

/// A program that serves images.
pub(super) struct Kind {
    flavour: Flavour,
    program: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Stratad,
    /// 2.8, as Debian has it.
    DockerRegistry,
    /// 3.
    Distribution,
    Zot,
}

impl Kind {
    /// stratad, then the peers that this machine has.
    pub(super) fn present() -> Result<Vec<Self>> {
        let given = |variable| std::env::var_os(variable).map(PathBuf::from);
        let debian = find("docker-registry")
            .context("the benchmark needs a peer: install Debian's package docker-registry")?;
        find("curl").context("the benchmark needs curl")?;
        let all = [
            (Flavour::Stratad, Some(binary("stratad"))),
            (Flavour::DockerRegistry, Some(debian)),
            (Flavour::Distribution, given("STRATA_BENCH_DISTRIBUTION")),
            (Flavour::Zot, given("STRATA_BENCH_ZOT")),
        ];
        let present = all
            .into_iter()
            .filter_map(|(flavour, program)| program.map(|program| Self { flavour, program }));
        Ok(present.collect())
    }

    pub(super) fn name(&self) -> String {
        match self.flavour {
            Flavour::Stratad => "stratad",
            Flavour::DockerRegistry => "docker-registry",
            Flavour::Distribution => "distribution 3",
            Flavour::Zot => "zot",
        }
        .to_owned()
    }

    pub(super) fn is_stratad(&self) -> bool {
        self.flavour == Flavour::Stratad
    }

    /// Whether long lists can be made for it: its database or its directories have a form that is known here.
    pub(super) fn has_lists(&self) -> bool {
        self.flavour != Flavour::Zot
    }

    /// Starts it with data of its own, which goes when it ends.
    pub(super) fn start(&self, base: impl AsRef<Path>) -> Result<Server> {
        let data = tempfile::Builder::new().prefix("data-").tempdir_in(base)?;
        let mut server = self.start_on(data.path())?;
        server.own = Some(data);
        Ok(server)
    }

    /// Starts it with the data in `data`, and waits until it answers.
    pub(super) fn start_on(&self, data: &Path) -> Result<Server> {
        let address = free_address()?;
        let began = Instant::now();
        let mut command = self.command(data, address)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn();
        let child = child.with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut server = Server {
            child,
            address,
            started: Duration::ZERO,
            own: None,
        };
        while TcpStream::connect(address).is_err() {
            if server.child.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(60) {
                bail!("{} does not start", self.name());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        server.api().0.send("GET", "/v2/", &[], b"").expect(200);
        server.started = began.elapsed();
        Ok(server)
    }

    fn command(&self, data: &Path, address: SocketAddr) -> Result<Command> {
        let mut command = Command::new(&self.program);
        let (root, config) = (data.display(), data.with_extension("conf"));
        match self.flavour {
            Flavour::Stratad => return Ok(stratad::serve(&self.program, data, address)),
            Flavour::DockerRegistry | Flavour::Distribution => {
                let text = format!(
                    "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  \
                     filesystem:\n    rootdirectory: {root}\nhttp:\n  addr: {address}\n"
                );
                fs::write(&config, text)?;
                command.env("OTEL_TRACES_EXPORTER", "none").arg("serve");
            }
            Flavour::Zot => {
                let text = format!(
                    r#"{{"distSpecVersion":"1.1.1","storage":{{"rootDirectory":"{root}","gc":false}},"http":{{"address":"{}","port":"{}"}},"log":{{"level":"error"}}}}"#,
                    address.ip(),
                    address.port()
                );
                fs::write(&config, text)?;
                command.arg("serve");
            }
        }
        command.arg(config);
        Ok(command)
    }
}

/// An address that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A server under way; it ends with its owner.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    /// From the start of the process to its first answer.
    pub(super) started: Duration,
    own: Option<tempfile::TempDir>,
}

impl Server {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn api(&self) -> Api {
        Api(Http::new(self.address))
    }

    /// CPU seconds that it has used.
    pub(super) fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        let fields = stat.rsplit_once(')').context("no name in stat")?.1;
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<f64>);
        let ticks: f64 = ticks.sum::<Result<f64, _>>()?;
        Ok(ticks / TICKS)
    }

    /// Megabytes of memory that it has now (`VmRSS`), or had at most (`VmHWM`).
    pub(super) fn memory(&self, field: &str) -> Result<f64> {
        let status = self.proc("status")?;
        let line = status.lines().find(|line| line.starts_with(field));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
        let kilobytes: f64 = kilobytes.context("no memory in status")?.parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    /// Forgets what it had at most.
    pub(super) fn reset_peak(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(path, "5").context("cannot reset the peak of memory")
    }

    fn proc(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).with_context(|| path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
