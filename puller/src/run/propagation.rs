//! Which mounts pass between the host and a container (mount_namespaces(7), "SHARED SUBTREES"): only what the host's own
//! mount lets pass can, so what cannot be had is refused, as docker does.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::config::Propagation;

/// Whether the mount that a path is on lets mounts pass as is asked for.
///
/// # Errors
/// It does not, in docker's words; it cannot be looked at.
pub(super) fn check(path: &Path, wanted: Propagation, rootless: bool) -> io::Result<()> {
    if wanted == Propagation::Private {
        return Ok(());
    }
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let (point, tags) = mount_of(&table, found.stx_mnt_id)
        .ok_or_else(|| io::Error::other("its mount is not in /proc/self/mountinfo"))?;
    let needed = match wanted {
        Propagation::Slave if tags.shared || tags.slave => return Ok(()),
        Propagation::Shared if tags.shared => return Ok(()),
        Propagation::Slave => "shared or slave",
        _ => "shared",
    };
    let hint = match (wanted, rootless) {
        (Propagation::Shared, true) => " (without root, the host's mounts can only be slaves)",
        _ => "",
    };
    Err(io::Error::other(format!(
        "path {} is mounted on {point} but it is not a {needed} mount{hint}",
        path.display()
    )))
}

/// What a mount lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tags {
    shared: bool,
    slave: bool,
}

/// Where the mount of this id is, and its tags (proc_pid_mountinfo(5)).
fn mount_of(table: &str, id: u64) -> Option<(&str, Tags)> {
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let own = fields.next()?.parse::<u64>().ok()?;
        if own != id {
            return None;
        }
        let point = fields.nth(3)?;
        let tags: Vec<&str> = fields.skip(1).take_while(|field| *field != "-").collect();
        let has = |prefix: &str| tags.iter().any(|tag| tag.starts_with(prefix));
        let tags = Tags {
            shared: has("shared:"),
            slave: has("master:"),
        };
        Some((point, tags))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounts_tags_are_found_by_its_id() {
        let table = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/x rw\n\
            22 21 0:5 / /a\\040b rw master:3 propagate_from:2 - tmpfs shared:9 rw\n\
            23 21 0:6 / /c rw - tmpfs master:1 rw\ngarbage\n24\n";
        let tags = |id| mount_of(table, id).map(|(at, tags)| (at, tags.shared, tags.slave));
        assert_eq!(tags(21), Some(("/", true, false)));
        assert_eq!(tags(22), Some(("/a\\040b", false, true)));
        assert_eq!(tags(23), Some(("/c", false, false)));
        assert_eq!((tags(24), tags(25)), (None, None));
    }
}
