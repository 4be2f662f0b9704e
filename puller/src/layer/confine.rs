//! The thread that writes a layer gives up what it does not need, before it reads the first byte of the archive.
//!
//! Names in an archive are already resolved so that none leads out of the layer ([`super::tree`]); should that
//! ever fail, the kernel says no: Landlock (landlock(7)) lets this one thread open, make, link and remove
//! files below the layer's directory alone, mount nothing, and connect to nothing. Of root's capabilities it
//! keeps those that owners, modes, devices and attributes need. Both hold for the thread until it ends.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// What extracting takes: chown, modes of others' files, set-id bits, devices, file capabilities, `trusted.*`
/// attributes.
const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);

/// Confines the calling thread to `layer`. `false` where the kernel has no Landlock that lets hard links be made
/// (before 5.19), or it is switched off; extraction is as careful without.
pub(super) fn to(layer: &Path) -> bool {
    let confined = restrict(layer);
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
    confined.is_ok()
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
    use std::fs;
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use super::*;

    /// Whether this kernel has what [`restrict`] asks for.
    fn available() -> bool {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::Refer);
        rules.is_ok_and(|rules| rules.create().is_ok())
    }

    #[test]
    fn nothing_outside_of_the_layer_can_be_opened_made_or_removed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let layer = dir.path().join("layer");
        fs::create_dir(&layer).expect("layer");
        fs::write(dir.path().join("outside"), "x").expect("outside");
        let outside = dir.path().join("outside");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(to(&layer), available());
                fs::write(layer.join("file"), "x").expect("inside");
                fs::create_dir(layer.join("sub")).expect("inside");
                fs::hard_link(layer.join("file"), layer.join("sub/link")).expect("a link");
                fs::rename(layer.join("sub/link"), layer.join("moved")).expect("a move");
                let capabilities = capabilities(None).expect("capabilities").effective;
                assert!(NEEDED.contains(capabilities));
                if !available() {
                    return;
                }
                let denied = |result: std::io::Result<()>| {
                    let error = result.expect_err("it should be denied");
                    let kinds = [ErrorKind::PermissionDenied, ErrorKind::CrossesDevices];
                    assert!(kinds.contains(&error.kind()), "{error}");
                };
                denied(fs::read(&outside).map(drop));
                denied(fs::write(&outside, "y"));
                denied(fs::remove_file(&outside));
                denied(fs::write(dir.path().join("new"), "y"));
                denied(fs::hard_link(&outside, layer.join("stolen")));
                denied(fs::rename(layer.join("file"), dir.path().join("out")));
                denied(TcpListener::bind("127.0.0.1:0").map(drop));
            });
        });
        // Only that thread is confined.
        assert_eq!(fs::read(&outside).expect("read"), b"x");
    }
}
