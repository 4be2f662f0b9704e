//! Programs that serve their clients until they are told to end, each one test's own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::tool;

/// A daemon under way; asked to end when dropped, and waited for.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts the program `name` as `arguments` prepares it, its output in `log`, and waits until `ready`.
    /// It ends with the test even when the test is killed (setpriv(1), `--pdeathsig`).
    #[track_caller]
    pub fn start(
        name: &str,
        arguments: impl FnOnce(&mut Command),
        log: &Path,
        ready: impl Fn() -> bool,
    ) -> Self {
        let file = File::create(log).expect("make the log");
        let mut command = Command::new(tool("setpriv"));
        command
            .args(["--pdeathsig", "TERM", "--"])
            .arg(tool(name))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("share the log"))
            .stderr(file);
        arguments(&mut command);
        let child = command.spawn().expect("start");
        let mut daemon = Self {
            child,
            log: log.to_owned(),
        };
        let limit = Instant::now() + Duration::from_secs(60);
        while !ready() {
            let ended = daemon.child.try_wait().expect("wait");
            assert!(
                ended.is_none() && Instant::now() < limit,
                "{name} does not serve ({ended:?})"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Not waited for yet, so the id is still its own.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let limit = Instant::now() + Duration::from_secs(30);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- {}\n{log}", self.log.display());
        }
    }
}
