//! Programs in Go that speak to registries without a daemon: crane, regctl, and orasgo, which is oras-go, the ORAS
//! project's library, with a command line of ours. `tests/run` builds them from the modules that `tests/go`
//! pins into `target/tools/bin`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::binaries::workspace;
use crate::command::{Ran, run, run_with_input};
use crate::place::Place;

/// One of the programs, with a home of its own.
pub struct Tool {
    program: PathBuf,
    home: PathBuf,
    first: Vec<String>,
}

impl Tool {
    /// `crane` (go-containerregistry); speaks plain HTTP to loopback without being told.
    #[track_caller]
    pub fn crane(place: &Place) -> Self {
        Self::new(place, "crane", Vec::new())
    }

    /// `regctl` (regclient), told that the registry at `address` is plain HTTP.
    #[track_caller]
    pub fn regctl(place: &Place, address: impl std::fmt::Display) -> Self {
        let host = format!("--host=reg={address},tls=disabled");
        Self::new(place, "regctl", vec![host])
    }

    /// `orasgo`, whose registries are all plain HTTP.
    #[track_caller]
    pub fn orasgo(place: &Place) -> Self {
        Self::new(place, "orasgo", Vec::new())
    }

    #[track_caller]
    fn new(place: &Place, name: &str, first: Vec<String>) -> Self {
        let home = place.dir("tool");
        fs::write(home.join("config.json"), "{}").expect("write");
        Self {
            program: built(name),
            home,
            first,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("HOME", &self.home)
            .env("DOCKER_CONFIG", &self.home)
            .env("REGCTL_CONFIG", self.home.join("regctl.json"))
            .env_remove("REGISTRY_AUTH_FILE")
            .current_dir(&self.home)
            .args(&self.first)
            .args(args);
        command
    }

    /// Runs it to the end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    /// Runs it to the end; its standard output, after a success.
    #[track_caller]
    pub fn says(&self, args: &[&str]) -> String {
        self.run(args).ok().out()
    }

    /// [`Tool::says`] with something on standard input.
    #[track_caller]
    pub fn says_with(&self, args: &[&str], input: &[u8]) -> String {
        run_with_input(&mut self.command(args), input).ok().out()
    }
}

/// A program that `tests/run` builds: in `STRATA_TOOLS_DIR`, or in the source tree's `target/tools/bin`.
#[track_caller]
fn built(name: &str) -> PathBuf {
    let directory = std::env::var_os("STRATA_TOOLS_DIR").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| workspace().join("target/tools/bin"));
    let program = directory.join(name);
    assert!(
        program.is_file(),
        "{} is missing: run tests/run, which builds it",
        program.display()
    );
    program
}
