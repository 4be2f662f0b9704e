//! Real layers from the machine's own programs: a program, the shared libraries that ldd(1) says it
//! needs, and every symbolic link on the way to them, under the same paths.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::command::find;
use crate::entry::Entry;

/// What a shell needs to be of use.
pub const COREUTILS: [&str; 24] = [
    "cat", "chmod", "chown", "cp", "date", "df", "du", "echo", "env", "head", "id", "ls", "mkdir",
    "mv", "pwd", "rm", "rmdir", "sleep", "stat", "sync", "touch", "true", "false", "wc",
];

/// Paths, from the machine's root, and what the lower layers hold already.
#[derive(Default)]
pub struct Collector {
    known: BTreeSet<PathBuf>,
    new: BTreeMap<PathBuf, Found>,
}

enum Found {
    Directory,
    Link(PathBuf),
    File,
}

impl Collector {
    /// Adds programs by name with the libraries that they need.
    pub fn programs(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            let path = find(name).with_context(|| format!("this machine has no {name}"))?;
            self.program(&path)?;
            // Scripts and configurations say /bin/sh, wherever PATH finds the shell.
            let usual = Path::new("/bin").join(name);
            if usual.exists() {
                self.program(&usual)?;
            }
        }
        Ok(())
    }

    /// Adds one program under its own path.
    pub fn program(&mut self, path: &Path) -> Result<()> {
        let real = self.path(path)?;
        for library in libraries(&real)? {
            self.path(&library)?;
        }
        Ok(())
    }

    /// Adds a file and all that leads to it: directories, and links on the way; returns where it is in the end.
    fn path(&mut self, path: &Path) -> Result<PathBuf> {
        let mut done = PathBuf::from("/");
        let mut left: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&name);
            let kind = fs::symlink_metadata(&next).with_context(|| next.display().to_string())?;
            if kind.is_symlink() {
                links += 1;
                ensure!(links < 40, "too many links: {}", path.display());
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    done = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    left.push_front(name);
                }
                self.add(next, Found::Link(target));
            } else {
                let found = if kind.is_dir() {
                    Found::Directory
                } else {
                    Found::File
                };
                self.add(next.clone(), found);
                done = next;
            }
        }
        Ok(done)
    }

    fn add(&mut self, path: PathBuf, found: Found) {
        if !self.known.contains(&path) {
            self.new.entry(path).or_insert(found);
        }
    }

    /// What was added since the last call, as entries, parents first. Owners are root and times fixed, so
    /// that the same machine gives the same layer.
    pub fn take(&mut self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for (path, found) in std::mem::take(&mut self.new) {
            let name = path.strip_prefix("/")?.as_os_str().as_bytes();
            entries.push(match found {
                Found::Directory => Entry::dir([name, b"/"].concat()),
                Found::Link(target) => Entry::symlink(name, target.as_os_str().as_bytes()),
                Found::File => {
                    let content = fs::read(&path).with_context(|| path.display().to_string())?;
                    let mode = fs::metadata(&path)?.permissions().mode() & 0o755;
                    Entry::file(name, content).mode(mode)
                }
            });
            self.known.insert(path);
        }
        Ok(entries)
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// The libraries and the interpreter of a program; none when it is static.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let ldd = find("ldd").context("this machine has no ldd")?;
    let output = Command::new(ldd)
        .arg(program)
        .stderr(Stdio::null())
        .output()
        .context("cannot run ldd")?;
    Ok(parse_ldd(&String::from_utf8_lossy(&output.stdout)))
}

/// `name => /path (0x…)` and `/path (0x…)`; the kernel's own library has no path.
fn parse_ldd(text: &str) -> Vec<PathBuf> {
    text.split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect()
}

/// What every image here needs beside programs: accounts and a directory for temporary files.
pub fn accounts() -> Vec<Entry> {
    vec![
        Entry::dir("etc/"),
        Entry::file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        ),
        Entry::file("etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"),
        Entry::dir("root/").mode(0o700),
        Entry::dir("home/"),
        Entry::dir("home/user/").owner(1000, 1000),
        Entry::dir("tmp/").mode(0o1777),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_are_read() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        let found = parse_ldd(text);
        assert_eq!(
            found,
            [
                PathBuf::from("/lib/libc.so.6"),
                PathBuf::from("/lib64/ld.so.2")
            ]
        );
        assert!(parse_ldd("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn a_second_layer_has_only_what_the_first_lacks() {
        let mut collector = Collector::default();
        collector.programs(&["sh"]).expect("a shell");
        let first = collector.take().expect("entries");
        assert!(!first.is_empty());
        collector.programs(&["sh", "ls"]).expect("ls");
        let second = collector.take().expect("entries");
        assert!(!second.is_empty() && second.len() < first.len() + 20);
    }
}
