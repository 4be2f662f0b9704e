//! The thread that writes a layer gives up what it does not need, before it reads the first byte of the archive.
//!
//! Names in an archive are already resolved so that none leads out of the layer ([`super::tree`]); should that
//! ever fail, there is nothing else to lead to ([`own_root`]), and the kernel says no: Landlock (landlock(7)) lets
//! this one thread open, make, link and remove files below the layer's directory alone, mount nothing, and connect
//! to nothing. Of root's capabilities it keeps those that owners, modes, devices and attributes need. All of it
//! holds for the thread until it ends.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::own_root;

/// What extracting takes: chown, modes of others' files, set-id bits, devices, file capabilities, `trusted.*`
/// attributes.
const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);

/// What a thread is confined by; extraction is as careful without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Confined {
    /// It sees the layer as `/`.
    pub(super) own_root: bool,
    /// Not where the kernel has no Landlock that lets hard links be made (before 5.19), or it is switched off.
    pub(super) landlock: bool,
}

/// Confines the calling thread to `layer`.
pub(super) fn to(layer: &Path) -> Confined {
    let apart = own_root::enter(layer);
    if let Err(error) = apart {
        tracing::debug!(%error, "unpacking in the machine's own root");
    }
    let own_root = apart.is_ok();
    let confined = restrict(if own_root { Path::new("/") } else { layer });
    if let Err(error) = &confined {
        tracing::debug!(%error, "unpacking without Landlock");
    }
    let now = capabilities(None);
    let dropped = now.and_then(|now| {
        let kept = CapabilitySets {
            effective: now.effective & NEEDED,
            permitted: now.permitted & NEEDED,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, kept)
    });
    if let Err(error) = dropped {
        tracing::debug!(%error, "unpacking with all capabilities");
    }
    Confined {
        own_root,
        landlock: confined.is_ok(),
    }
}

fn restrict(layer: &Path) -> Result<(), RulesetError> {
    let all = AccessFs::from_all(ABI::V5);
    let rules = Ruleset::default()
        // The first version denies links between directories, whatever is allowed.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    match PathFd::new(layer) {
        Ok(layer) => {
            rules
                .add_rule(PathBeneath::new(layer, all))?
                .restrict_self()?;
        }
        // It cannot be opened to unpack into either: that says what is wrong.
        Err(error) => tracing::debug!(%error, "unpacking without Landlock"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, renameat, unlinkat};
    use rustix::io::Errno;

    use super::*;

    /// Whether this kernel has what [`restrict`] asks for.
    fn available() -> bool {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::Refer);
        rules.is_ok_and(|rules| rules.create().is_ok())
    }

    /// Runs `work` on a thread that is confined to a new directory, with the path that this has there; beside it lies
    /// `outside`, in the directory that `work` gets opened.
    fn confined(work: impl FnOnce(Confined, &Path, &File) + Send) {
        let dir = tempfile::tempdir().expect("tempdir");
        let layer = dir.path().join("layer");
        fs::create_dir(&layer).expect("layer");
        let outside = dir.path().join("outside");
        fs::write(&outside, "x").expect("outside");
        let opened_before = File::open(dir.path()).expect("open");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let confined = to(&layer);
                let seen = match confined.own_root {
                    true => Path::new("/"),
                    false => layer.as_path(),
                };
                work(confined, seen, &opened_before);
            });
        });
        // Only that thread was confined.
        assert_eq!(fs::read(&outside).expect("read"), b"x");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
    }

    #[test]
    fn the_layer_can_be_written_with_the_rights_that_takes() {
        confined(|confined, layer, _| {
            assert_eq!(confined.landlock, available());
            fs::write(layer.join("file"), "x").expect("inside");
            fs::create_dir(layer.join("sub")).expect("inside");
            fs::hard_link(layer.join("file"), layer.join("sub/link")).expect("a link");
            fs::rename(layer.join("sub/link"), layer.join("moved")).expect("a move");
            let capabilities = capabilities(None).expect("capabilities").effective;
            assert!(NEEDED.contains(capabilities));
        });
    }

    #[test]
    fn nothing_else_is_seen() {
        let root = rustix::process::geteuid().is_root();
        confined(|confined, layer, _| {
            assert_eq!(confined.own_root, root, "{confined:?}");
            if confined.own_root {
                let names = |path| fs::read_dir(path).expect("the layer").count();
                assert_eq!((names("/"), names("/.."), names(".")), (0, 0, 0));
                fs::write(layer.join("file"), "x").expect("inside");
                assert_eq!((names("/"), names("/.."), names(".")), (1, 1, 1));
            }
        });
    }

    #[test]
    fn nothing_outside_can_be_opened_made_or_removed_where_there_is_landlock() {
        confined(|confined, layer, outside| {
            if !confined.landlock {
                return;
            }
            let denied = |result: Result<(), Errno>| {
                let error = result.expect_err("it should be denied");
                assert!([Errno::ACCESS, Errno::XDEV].contains(&error), "{error}");
            };
            let open = |name, flags| openat(outside, name, flags, Mode::RWXU).map(drop);
            denied(open("outside", OFlags::RDONLY));
            denied(open("outside", OFlags::WRONLY));
            denied(open("new", OFlags::WRONLY | OFlags::CREATE));
            denied(unlinkat(outside, "outside", AtFlags::empty()));
            let (file, stolen) = (layer.join("file"), layer.join("stolen"));
            fs::write(&file, "x").expect("inside");
            denied(linkat(outside, "outside", CWD, &stolen, AtFlags::empty()));
            denied(renameat(CWD, &file, outside, "out"));
            let refused = TcpListener::bind("127.0.0.1:0").expect_err("no sockets");
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        });
    }
}
