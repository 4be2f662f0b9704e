//! The real `strata` with a store of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strata_oci::digest::Digest;

use crate::binaries::binary;
use crate::command::{Ran, run};
use crate::place::Place;
use crate::program;
use crate::user::User;

/// A store and who uses it.
#[derive(Debug, Clone)]
pub struct Strata {
    command: PathBuf,
    root: PathBuf,
    user: Option<User>,
}

impl Strata {
    /// A store in `place`, used by whoever runs the test.
    pub fn new(place: &Place) -> Self {
        Self::at(binary("strata"), place.join("store"))
    }

    /// A store at `root` used through the program at `command`.
    pub fn at(command: PathBuf, root: PathBuf) -> Self {
        Self {
            command,
            root,
            user: None,
        }
    }

    /// A store in the home of an ordinary user, with a copy of the program that the user can run.
    pub fn of_user(place: &Place, user: &User) -> Self {
        let command = place.join("strata");
        program::copy(&binary("strata"), &command);
        Self {
            command,
            root: user.home().join("store"),
            user: Some(user.clone()),
        }
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.command
    }

    /// A command line of strata's.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.user {
            Some(user) => user.command(&self.command),
            None => Command::new(&self.command),
        };
        command.env("STRATA_ROOT", &self.root).args(args);
        command
            .env_remove("DOCKER_CONFIG")
            .env_remove("STRATA_CONFIG")
            .env_remove("CONTAINERS_REGISTRIES_CONF")
            .env_remove("REGISTRY_AUTH_FILE");
        command
    }

    /// Runs a command of strata's to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args))
    }

    /// Pulls and reads the report.
    #[track_caller]
    pub fn pull(&self, reference: &str) -> Pulled {
        let ran = self.run(&["pull", "--format", "json", reference]).ok();
        match Pulled::parse(&ran.stdout) {
            Some(pulled) => pulled,
            None => panic!("not a report of a pull: {}", ran.story()),
        }
    }

    /// The directory of a layer's tree.
    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    /// The layers that the store shows.
    pub fn layers(&self) -> Vec<String> {
        list(&self.root.join("layers"))
    }

    /// What lies in a directory of the store that should be empty when nothing runs.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for name in ["staging", "partial"] {
            let names = list(&self.root.join(name));
            found.extend(names.into_iter().map(|n| format!("{name}/{n}")));
        }
        found
    }

    /// The images that the store shows, as `strata images --format json` tells them.
    #[track_caller]
    pub fn images(&self) -> Value {
        let ran = self.run(&["images", "--format", "json"]).ok();
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.story()))
    }
}

fn list(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What `strata pull --format json` prints.
#[derive(Debug, Clone, PartialEq)]
pub struct Pulled {
    /// The image's full name.
    pub image: String,
    /// What the reference was resolved to.
    pub digest: String,
    /// The layers, the lowest first.
    pub layers: Vec<PulledLayer>,
    /// Bytes that travelled for layers.
    pub bytes_fetched: u64,
    /// Bytes of layers that the store had.
    pub bytes_reused: u64,
}

/// One layer of a pull.
#[derive(Debug, Clone, PartialEq)]
pub struct PulledLayer {
    /// The digest of its tar.
    pub diff_id: String,
    /// The digest of its blob.
    pub digest: String,
    /// The blob's size in bytes.
    pub size: u64,
    /// Whether it travelled.
    pub fetched: bool,
}

impl Pulled {
    /// Reads the report; `None` when a field is missing or of another form.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let report: Value = serde_json::from_slice(json).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let layers = report["layers"].as_array()?.iter().map(|layer| {
            Some(PulledLayer {
                diff_id: text(&layer["diffID"])?,
                digest: text(&layer["digest"])?,
                size: layer["size"].as_u64()?,
                fetched: match layer["state"].as_str()? {
                    "fetched" => true,
                    "reused" => false,
                    _ => return None,
                },
            })
        });
        Some(Self {
            image: text(&report["image"])?,
            digest: text(&report["digest"])?,
            layers: layers.collect::<Option<_>>()?,
            bytes_fetched: report["bytes_fetched"].as_u64()?,
            bytes_reused: report["bytes_reused"].as_u64()?,
        })
    }

    /// How many layers travelled.
    pub fn fetched(&self) -> usize {
        self.layers.iter().filter(|layer| layer.fetched).count()
    }

    /// How many layers the store had.
    pub fn reused(&self) -> usize {
        self.layers.len() - self.fetched()
    }
}
