//! How much is measured, and where the servers keep their data.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::binaries::workspace;

/// One run's sizes.
pub(super) struct Plan {
    /// Turns of each server.
    pub(super) rounds: usize,
    /// Bytes of the large blob.
    pub(super) large: u64,
    /// Bytes that each of many clients takes of it.
    pub(super) crowd: u64,
    /// How long requests are counted.
    pub(super) seconds: f64,
    /// Blobs that a server knows when it starts.
    pub(super) known: u32,
    /// Entries of a long list.
    pub(super) many: u32,
    /// A directory of its own, removed at the end.
    pub(super) directory: tempfile::TempDir,
}

impl Plan {
    pub(super) fn parse(words: &[String]) -> Result<Self> {
        let (mut quick, mut base) = (false, None);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => quick = true,
                "--directory" => base = words.next().map(PathBuf::from),
                other => bail!("{other:?} is not known; see --help"),
            }
        }
        // Not the system's directory for temporary files: that is often memory.
        let base = base.unwrap_or_else(|| workspace().join("target"));
        std::fs::create_dir_all(&base)?;
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(base)?;
        Ok(match quick {
            true => Self {
                rounds: 1,
                large: 100_000_000,
                crowd: 20_000_000,
                seconds: 0.3,
                known: 100_000,
                many: 2_000,
                directory,
            },
            false => Self {
                rounds: 3,
                large: 777_000_000,
                crowd: 100_000_000,
                seconds: 1.0,
                known: 1_000_000,
                many: 100_000,
                directory,
            },
        })
    }

    /// What a reader of the table has to know.
    pub(super) fn notes(&self) -> String {
        format!(
            "Medians of {} rounds; the large blob has {} MB, the long lists {} entries (the peers': at most {}), a start knows {} blobs.
An upload is one PUT by curl to an empty server. stratad answers after fsync of the file, of its directory and of the
database; docker-registry and distribution sync neither directory, zot nothing unless it is told to.
\"64 at once\" is the most memory while 64 clients each take {} MB of the large blob, which is in the page cache.
Of many tags docker-registry 2.8 sends all at once; the peers' many directories are in memory, stratad's database is on the disk.",
            self.rounds,
            self.large / 1_000_000,
            self.many,
            super::lists::PEERS,
            self.known,
            self.crowd / 1_000_000,
        )
    }
}
