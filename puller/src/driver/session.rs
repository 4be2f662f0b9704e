//! Where a mount can be seen: in one mount namespace, and until it or the machine ends. A record of a mount that is
//! not to be seen here may be of one that lives elsewhere (`strata unshare`), or of none.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::userns::{self, Privilege};

/// Beside a container's layers: the boot in which it was mounted.
const RECORD: &str = "mounted";

/// Records in a container's directory that it is mounted now; before it is.
pub fn record(container: &Path) -> io::Result<()> {
    fs::write(container.join(RECORD), super::choice::boot_id()?)
}

/// Whether a mount in a container's directory that is not to be seen in this namespace can be seen in another.
///
/// # Errors
/// /proc cannot be read.
pub fn is_elsewhere(container: &Path) -> io::Result<bool> {
    // One that cannot be read may be of a mount that is alive.
    let boot = match fs::read_to_string(container.join(RECORD)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        boot => boot?,
    };
    if boot != super::choice::boot_id()? {
        return Ok(false);
    }
    let Some(id) = container.file_name() else {
        return Ok(false);
    };
    is_in_some_table(id.as_encoded_bytes())
}

/// Looks for a word in the mount tables of all processes. Without root, one of our own that does not let itself be
/// looked at is in another user namespace, and may be the one. (What root may not look at has more rights than we.)
/// Namespaces have no lasting names: their inodes are used again at once.
fn is_in_some_table(word: &[u8]) -> io::Result<bool> {
    let own = rustix::process::geteuid().as_raw();
    let root = matches!(userns::current(), Ok(Some(Privilege::Root)));
    let mut seen = HashSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let path = entry.path();
        let table = match fs::metadata(path.join("ns/mnt")) {
            Ok(namespace) if !seen.insert(namespace.ino()) => continue,
            Ok(_) => fs::read(path.join("mountinfo")),
            Err(error) => Err(error),
        };
        match table {
            Ok(table) if table.windows(word.len()).any(|part| part == word) => return Ok(true),
            // The process's own user, not what it pretends to be in a namespace.
            Err(error)
                if !root
                    && error.kind() == io::ErrorKind::PermissionDenied
                    && fs::metadata(&path).is_ok_and(|process| process.uid() == own) =>
            {
                return Ok(true);
            }
            // It is not there, or the process has ended.
            _ => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_elsewhere_while_a_table_has_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        record(dir.path()).expect("recorded");
        if rustix::process::geteuid().is_root() {
            assert!(
                !is_elsewhere(dir.path()).expect("proc"),
                "nothing is mounted there"
            );
        }
        assert!(is_in_some_table(b" /proc ").expect("proc"));
        let container = Path::new("/proc");
        assert!(
            !is_elsewhere(container).expect("proc"),
            "nothing is recorded"
        );
        fs::write(dir.path().join(RECORD), "another boot").expect("write");
        assert!(!is_elsewhere(dir.path()).expect("proc"));
    }
}
