//! containerd as Debian has it, and `ctr`: root, state and sockets are inside the test's directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::daemon::Daemon;
use crate::command::{Ran, run, tool};
use crate::place::Place;
use crate::user::need_root;

/// A containerd, and the client that speaks to it.
pub struct Containerd {
    home: PathBuf,
    _daemon: Daemon,
}

impl Containerd {
    /// Starts a containerd in `place`.
    #[track_caller]
    pub fn new(place: &Place) -> Self {
        need_root();
        let home = place.dir("containerd");
        let at = |name: &str| home.join(name).display().to_string();
        // The plugin `opt` would make a directory in /opt; `cri` is for Kubernetes.
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("socket"),
            at("socket.ttrpc"),
        );
        fs::write(home.join("config.toml"), config).expect("write");
        let daemon = Daemon::start(
            "containerd",
            |command| {
                command.arg("--config").arg(home.join("config.toml"));
            },
            &home.join("log"),
            || client(&home, &["version"]).status.success(),
        );
        Self {
            home,
            _daemon: daemon,
        }
    }

    /// `ctr` with these arguments.
    #[track_caller]
    pub fn ctr(&self, args: &[&str]) -> Ran {
        client(&self.home, args)
    }

    /// `ctr images` with a subcommand that speaks to a registry.
    #[track_caller]
    pub fn images(&self, what: &str, args: &[&str]) -> Ran {
        let words = [&["images", what, "--plain-http"], args].concat();
        self.ctr(&words)
    }
}

#[track_caller]
fn client(home: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(tool("ctr"));
    command
        .env_remove("CONTAINERD_NAMESPACE")
        .arg("--address")
        .arg(home.join("socket"));
    run(command.args(args))
}
