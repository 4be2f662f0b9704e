//! What a demonstration owns: a temporary directory, the built programs, a store. All of it goes at the
//! end, when a step fails and when the person interrupts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::binaries;
use crate::command::{Ran, Running};
use crate::demo::show;
use crate::place::Place;
use crate::strata::{Pulled, Strata};
use crate::stratad::Stratad;

/// The word that makes the demonstration print one digest of a directory tree and end.
pub(super) const TREE_DIGEST: &str = "tree-digest";
/// The word that makes it print the bytes of the files in a tree and end.
pub(super) const TREE_SIZE: &str = "tree-size";

/// The things of one demonstration. Fields are dropped in this order: the store before its directory.
pub(super) struct Session {
    pub(super) strata: Strata,
    programs: BTreeMap<String, PathBuf>,
    interrupted: Arc<AtomicBool>,
    _cleaner: Cleaner,
    pub(super) place: Place,
}

impl Session {
    /// Builds the programs, and makes the temporary directory.
    pub(super) fn start() -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        show::step(1, "Build stratad and strata");
        let began = Instant::now();
        let programs = binaries::build()?;
        show::fact("built in", &show::time(began.elapsed()));
        let place = Place::try_new().context("cannot make a temporary directory")?;
        let strata = Strata::at(programs["strata"].clone(), place.join("store"));
        let _cleaner = Cleaner(strata.clone());
        let session = Self {
            strata,
            programs,
            interrupted,
            _cleaner,
            place,
        };
        session.check_interrupt()?;
        Ok(session)
    }

    /// Starts the registry.
    pub(super) fn serve(&self) -> Result<Stratad> {
        Stratad::launch(&self.programs["stratad"], &self.place.join("registry"))
    }

    /// Runs strata to its end and expects success.
    pub(super) fn strata(&self, args: &[&str]) -> Result<Ran> {
        let ran = self.finish(&mut self.strata.command(args))?;
        ensure!(
            ran.status.success(),
            "strata {} failed: {}",
            args.join(" "),
            ran.stderr.trim()
        );
        Ok(ran)
    }

    /// Pulls and reads the report.
    pub(super) fn pull(&self, reference: &str) -> Result<(Pulled, Duration)> {
        let ran = self.strata(&["pull", "--format", "json", reference])?;
        let pulled = Pulled::parse(&ran.stdout)
            .context("strata pull --format json printed something else")?;
        Ok((pulled, ran.took))
    }

    fn finish(&self, command: &mut Command) -> Result<Ran> {
        let mut running = Running::start(command.stdin(std::process::Stdio::null()));
        while running.child.try_wait()?.is_none() {
            if self.check_interrupt().is_err() {
                let _ = running.child.kill();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.check_interrupt()?;
        Ok(running.wait())
    }

    /// Fails once the person has asked for the end.
    pub(super) fn check_interrupt(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// One digest of all layers' trees: names, modes, owners, times, attributes, contents.
    pub(super) fn layers_digest(&self) -> Result<String> {
        let layers = self.strata.root().join("layers");
        let own = std::env::current_exe()?;
        let words = [path_text(&own)?, TREE_DIGEST, path_text(&layers)?];
        let ran = self.in_namespace(&words)?;
        Ok(ran.out())
    }

    /// Runs a program where the store's files can be read and its mounts be seen: root needs nothing,
    /// others `strata unshare`.
    pub(super) fn in_namespace(&self, words: &[&str]) -> Result<Ran> {
        let mut command = if crate::user::is_root() {
            let mut command = Command::new(words[0]);
            command
                .args(&words[1..])
                .env("STRATA_ROOT", self.strata.root());
            command
        } else {
            self.strata.command(&[&["unshare"], words].concat())
        };
        let ran = self.finish(&mut command)?;
        ensure!(
            ran.status.success(),
            "{} failed: {}",
            words.join(" "),
            ran.stderr.trim()
        );
        Ok(ran)
    }

    /// What a part of the store takes on disk, in bytes of file contents: each inode once.
    pub(super) fn disk(&self, part: &str) -> Result<u64> {
        let directory = self.strata.root().join(part);
        let own = std::env::current_exe()?;
        let ran = self.in_namespace(&[path_text(&own)?, TREE_SIZE, path_text(&directory)?])?;
        ran.out().parse().context("cannot add up file sizes")
    }

    /// Removes everything and says so.
    pub(super) fn finish_up(self) -> Result<()> {
        let path = self.place.path().to_owned();
        drop(self);
        ensure!(!path.exists(), "{} could not be removed", path.display());
        println!("\nEverything is removed again: {}", path.display());
        Ok(())
    }
}

/// A path as text; temporary directories here have no other names.
pub(super) fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not text", path.display()))
}

/// Removes a rootless store from inside its user namespace, where files that belong to other mapped ids
/// and directories without permissions can be removed.
struct Cleaner(Strata);

impl Drop for Cleaner {
    fn drop(&mut self) {
        if let (false, Some(root)) = (crate::user::is_root(), self.0.root().to_str()) {
            let _ = self.0.command(&["unshare", "rm", "-rf", root]).output();
        }
    }
}
