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
    /// Files to be seen as /etc/passwd, /etc/subuid and /etc/subgid.
    granted: Option<[PathBuf; 3]>,
}

impl User {
    /// Gives user `id` a home inside `place`.
    #[track_caller]
    pub fn new(place: &Place, id: u32) -> Self {
        need_root();
        let home = place.dir(&format!("home-{id}"));
        chown(&home, Some(id), Some(id)).expect("give the home away");
        let granted = None;
        Self { id, home, granted }
    }

    /// Grants the user `count` subordinate ids from `first` on (subuid(5)), as the user's own processes see it.
    #[must_use]
    pub fn with_subordinate_ids(mut self, place: &Place, first: u32, count: u32) -> Self {
        let id = self.id;
        let files = ["passwd", "subuid", "subgid"].map(|name| place.join(format!("{name}-{id}")));
        // newuidmap wants a name for whoever calls it.
        let names = std::fs::read_to_string("/etc/passwd").expect("names");
        let names = format!("{names}tester:x:{id}:{id}::/:/bin/sh\n");
        let ids = format!("tester:{first}:{count}\n");
        for (file, text) in files.iter().zip([&names, &ids, &ids]) {
            std::fs::write(file, text).expect("write");
        }
        self.granted = Some(files);
        self
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
        let id = self.id;
        let ids = [format!("--reuid={id}"), format!("--regid={id}")];
        let mut command = match &self.granted {
            None => {
                let mut command = Command::new(tool("setpriv"));
                command.args(ids).args([
                    "--clear-groups",
                    "--bounding-set=-all",
                    "--inh-caps=-all",
                    "--no-new-privs",
                ]);
                command
            }
            // newuidmap gains privilege, so it must be possible to.
            Some([names, uids, gids]) => {
                let mut command = Command::new(tool("unshare"));
                let script = "mount --bind \"$1\" /etc/passwd && mount --bind \"$2\" /etc/subuid && \
                    mount --bind \"$3\" /etc/subgid && shift 3 && exec \"$@\"";
                command.args(["--mount", "--", "sh", "-c", script, "sh"]);
                command.args([names, uids, gids]).arg(tool("setpriv"));
                command
                    .args(ids)
                    .args(["--clear-groups", "--inh-caps=-all"]);
                command
            }
        };
        command
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
