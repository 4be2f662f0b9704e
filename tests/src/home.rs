//! A user's settings of one test's own: home, configuration and credentials, and a credential helper; and the user.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::command::{Ran, run, run_with_input};
use crate::place::Place;
use crate::program;
use crate::strata::Strata;

/// What the helper does: it keeps each account in a file beside it.
const HELPER: &str = r#"#!/bin/sh
vault=$(dirname "$0")/vault
mkdir -p "$vault"
name() { printf %s "$1" | tr -c 'a-zA-Z0-9.\n' _; }
echo "$1" >>"$vault.log"
case $1 in
store)
  account=$(cat)
  server=$(printf %s "$account" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
  printf %s "$account" >"$vault/$(name "$server")"
  printf %s "$server" >"$vault/$(name "$server").server" ;;
get)
  file=$vault/$(name "$(cat)")
  if [ -f "$file" ]; then cat "$file"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase)
  file=$vault/$(name "$(cat)")
  rm -f "$file" "$file.server" ;;
list)
  printf '{'
  sep=
  for file in "$vault"/*.server; do
    [ -f "$file" ] && printf '%s"%s":"someone"' "$sep" "$(cat "$file")" && sep=,
  done
  printf '}' ;;
esac
"#;

/// A home directory and what points into it.
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// An empty home in `place`.
    #[track_caller]
    pub fn new(place: &Place) -> Self {
        let path = place.dir("home");
        for name in ["config", "session", "bin"] {
            fs::create_dir_all(path.join(name)).expect("make a directory");
        }
        Self { path }
    }

    /// A path inside it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file inside it.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
        fs::write(&path, text).expect("write");
        path
    }

    /// Writes registries.conf.
    #[track_caller]
    pub fn registries(&self, text: &str) {
        self.write("config/containers/registries.conf", text);
    }

    /// Containers' file of credentials.
    pub fn auth_file(&self) -> PathBuf {
        self.join("config/containers/auth.json")
    }

    /// docker's file of credentials.
    pub fn docker_file(&self) -> PathBuf {
        self.join(".docker/config.json")
    }

    /// A command line of strata's for this user, who has no other settings.
    pub fn command(&self, strata: &Strata, args: &[&str]) -> Command {
        let mut command = strata.command(args);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut paths = vec![self.join("bin")];
        paths.extend(std::env::split_paths(&path));
        let joined = std::env::join_paths(paths).expect("a path");
        command
            .env("HOME", &self.path)
            .env("XDG_CONFIG_HOME", self.join("config"))
            .env("XDG_RUNTIME_DIR", self.join("session"))
            .env("PATH", joined);
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(proxy).env_remove(proxy.to_uppercase());
        }
        command
    }

    /// Runs it.
    #[track_caller]
    pub fn run(&self, strata: &Strata, args: &[&str]) -> Ran {
        run(&mut self.command(strata, args))
    }

    /// `strata login` with a password on standard input.
    #[track_caller]
    pub fn login(&self, strata: &Strata, registry: &str, user: &str, password: &str) -> Ran {
        let args = ["login", "-u", user, "--password-stdin", registry];
        let input = format!("{password}\n");
        run_with_input(&mut self.command(strata, &args), input.as_bytes())
    }

    /// Installs `docker-credential-NAME`.
    #[track_caller]
    pub fn helper(&self, name: &str) -> PathBuf {
        let path = self.join("bin").join(format!("docker-credential-{name}"));
        program::write(&path, HELPER);
        path
    }
}

/// A user with a home and an empty store.
pub struct Person {
    /// The settings.
    pub home: Home,
    /// The store and the program that uses it.
    pub strata: Strata,
    /// The directory of both.
    pub place: Place,
}

impl Person {
    /// Nothing is set or stored.
    #[track_caller]
    pub fn new() -> Self {
        let place = Place::new();
        Self {
            home: Home::new(&place),
            strata: Strata::new(&place),
            place,
        }
    }

    /// Runs strata.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        self.home.run(&self.strata, args)
    }

    /// Pulls into a store of its own, so that nothing is there before.
    #[track_caller]
    pub fn pull_afresh(&self, reference: &str) -> Ran {
        let fresh = Strata::at(self.strata.program().to_owned(), self.place.join("fresh"));
        let ran = self.home.run(&fresh, &["pull", reference]);
        fs::remove_dir_all(self.place.join("fresh")).expect("remove");
        ran
    }

    /// `strata copy`, whose report [`copied`] reads.
    #[track_caller]
    pub fn copy(&self, args: &[&str]) -> Ran {
        self.run(&[&["copy", "--format", "json"], args].concat())
    }

    /// The name of an image in a layout.
    pub fn layout(&self, name: &str) -> String {
        format!("oci:{}:v1", self.place.join(name).display())
    }
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}

/// What a copy that went well says of its first image.
#[track_caller]
pub fn copied(ran: Ran) -> serde_json::Value {
    let ran = ran.ok();
    let all: serde_json::Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.story()));
    all["images"][0].clone()
}
