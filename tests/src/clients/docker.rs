//! Docker as Debian has it: `dockerd` with everything it writes inside the test's directory, and no network of
//! its own. It speaks plain HTTP to loopback without being told (dockerd(8), "Insecure registries").

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::daemon::Daemon;
use crate::command::{Ran, run, tool};
use crate::place::Place;
use crate::user::need_root;

/// A daemon, and the client that speaks to it.
pub struct Docker {
    home: PathBuf,
    // Dropped before the place that its files are in, because it borrows nothing: tests make it last.
    _daemon: Daemon,
}

impl Docker {
    /// Starts a daemon in `place`.
    #[track_caller]
    pub fn new(place: &Place) -> Self {
        need_root();
        let home = place.dir("docker");
        // The key that identifies the daemon would go to /etc.
        let config = serde_json::json!({ "deprecated-key-path": home.join("key.json") });
        fs::write(home.join("daemon.json"), config.to_string()).expect("write");
        let daemon = Daemon::start(
            "dockerd",
            |command| arguments(command, &home),
            &home.join("log"),
            || client(&home, &["version"]).status.success(),
        );
        Self {
            home,
            _daemon: daemon,
        }
    }

    /// `docker` with these arguments.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        client(&self.home, args)
    }

    /// Pushes; the manifest's digest as docker tells it.
    #[track_caller]
    pub fn push(&self, reference: &str) -> String {
        let pushed = self.run(&["push", reference]).ok();
        let said = pushed.out();
        let digest = said.split_once("digest: ").map(|(_, rest)| rest);
        let digest = digest.and_then(|rest| rest.split_whitespace().next());
        digest
            .unwrap_or_else(|| panic!("no digest: {said}"))
            .to_owned()
    }

    /// The id of an image that the daemon has: the digest of its configuration.
    #[track_caller]
    pub fn id(&self, reference: &str) -> String {
        let inspect = ["image", "inspect", "--format", "{{.Id}}", reference];
        self.run(&inspect).ok().out()
    }
}

fn arguments(command: &mut Command, home: &Path) {
    for (option, name) in [
        ("--config-file", "daemon.json"),
        ("--data-root", "data"),
        ("--exec-root", "exec"),
        ("--pidfile", "pid"),
    ] {
        command.arg(option).arg(home.join(name));
    }
    command.arg("--host").arg(socket(home)).args([
        "--storage-driver=vfs",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    ]);
}

fn socket(home: &Path) -> String {
    format!("unix://{}", home.join("socket").display())
}

#[track_caller]
fn client(home: &Path, args: &[&str]) -> Ran {
    // The client of the daemon's own package: others may be too new for it.
    let packaged = Path::new("/usr/bin/docker");
    let program = if packaged.is_file() {
        packaged.to_owned()
    } else {
        tool("docker")
    };
    let mut command = Command::new(program);
    command
        .env("HOME", home)
        .env("DOCKER_CONFIG", home)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .arg("--host")
        .arg(socket(home));
    run(command.args(args))
}
