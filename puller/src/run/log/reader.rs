//! Reading what a container has printed, from several files if the log is bounded, and what is added meanwhile.

use std::fs::{self, File};
use std::io::{self, BufRead};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Entry, MAX_ENTRY, older, path};

/// Reads a log from its beginning, and what is added to it while it is read.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    file: io::BufReader<File>,
    /// Which file this is, whatever it is called by now.
    inode: u64,
    partial: Vec<u8>,
}

impl Reader {
    /// Opens the log in a container's directory; `None` when nothing was ever printed.
    pub fn open(directory: &Path) -> io::Result<Option<Self>> {
        for file in files(directory)?.iter().rev() {
            if let Some((file, inode)) = open(file)? {
                return Ok(Some(Self {
                    directory: directory.to_owned(),
                    file,
                    inode,
                    partial: Vec::new(),
                }));
            }
        }
        Ok(None)
    }

    /// The next entry; `None` when there is no more now. What is damaged is passed over: a power cut may have
    /// taken part of a line.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            if let Some(entry) = self.next_here()? {
                return Ok(Some(entry));
            }
            if self.is_newest()? {
                return Ok(None);
            }
            // It may have got more before it was put aside.
            if let Some(entry) = self.next_here()? {
                return Ok(Some(entry));
            }
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    fn next_here(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let room = MAX_ENTRY.saturating_sub(self.partial.len() as u64);
            let mut limited = io::Read::take(&mut self.file, room);
            limited.read_until(b'\n', &mut self.partial)?;
            let whole = self.partial.last() == Some(&b'\n');
            if !whole && (self.partial.len() as u64) < MAX_ENTRY {
                return Ok(None);
            }
            let entry = serde_json::from_slice(&self.partial);
            self.partial.clear();
            if let Ok(entry) = entry {
                return Ok(Some(entry));
            }
        }
    }

    fn is_newest(&self) -> io::Result<bool> {
        match fs::metadata(path(&self.directory)) {
            Ok(newest) => Ok(newest.ino() == self.inode),
            // Removed, or another one is put in its place right now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// To the file after this one; to the oldest when this one is gone. `false`: there is none now.
    fn go_on(&mut self) -> io::Result<bool> {
        let mut after = None;
        for file in files(&self.directory)? {
            let Some((file, inode)) = open(&file)? else {
                continue;
            };
            if inode == self.inode {
                break;
            }
            after = Some((file, inode));
        }
        let Some((file, inode)) = after else {
            return Ok(false);
        };
        (self.file, self.inode) = (file, inode);
        self.partial.clear();
        Ok(true)
    }
}

/// The files of a log, the newest first.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut numbers: Vec<u32> = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("log.json."));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    let mut files = vec![path(directory)];
    files.extend(numbers.into_iter().map(|number| older(directory, number)));
    Ok(files)
}

fn open(path: &Path) -> io::Result<Option<(io::BufReader<File>, u64)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let inode = file.metadata()?.ino();
    Ok(Some((io::BufReader::with_capacity(64 * 1024, file), inode)))
}
