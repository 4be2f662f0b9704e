//! Running as root, and as an ordinary user who owns nothing but a home of their own.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::tool;
use crate::place::Place;

/// Fails the test unless it runs as root.
#[track_caller]
pub fn need_root() {
    assert!(
        is_root(),
        "this test mounts file systems and changes users: run it as root, or through tests/run, which uses sudo"
    );
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An ordinary user: no name in the machine's list, no groups, no capabilities.
#[derive(Debug, Clone)]
pub struct User {
    id: u32,
    home: PathBuf,
}

impl User {
    /// Gives user `id` a home inside `place`.
    #[track_caller]
    pub fn new(place: &Place, id: u32) -> Self {
        need_root();
        let home = place.dir(&format!("home-{id}"));
        chown(&home, Some(id), Some(id)).expect("give the home away");
        Self { id, home }
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The user id; the group's too.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Turns a command into the same command run by this user.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(tool("setpriv"));
        let id = self.id;
        command
            .args([format!("--reuid={id}"), format!("--regid={id}")])
            .args([
                "--clear-groups",
                "--bounding-set=-all",
                "--inh-caps=-all",
                "--no-new-privs",
            ])
            .arg("--")
            .arg(program)
            .current_dir(&self.home)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", &self.home);
        command
    }
}
