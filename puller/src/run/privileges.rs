//! What the container's process may do: its capabilities and no others (capabilities(7)), the user's ids, a keyring
//! of its own.

use std::io;

use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::config::Security;
use super::options;
use super::seccomp::Filter;
use super::spec::{Failure, Spec};
use super::sys;
use super::user::User;
use crate::userns::Ids;

/// Takes away what the container must not have and becomes its user. Afterwards nothing can be mounted.
pub(super) fn drop(security: &Security, rootless: bool, user: &User) -> Result<(), Failure> {
    let kept_set = capabilities(security);
    let bounding = || -> io::Result<()> {
        rustix::thread::clear_ambient_capability_set()?;
        for bit in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if kept_set.contains(capability) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Beyond the last capability of this kernel.
                Err(rustix::io::Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    };
    let filter = Filter::of(security).map_err(|e| Failure::new("system calls", e))?;
    let install = || match &filter {
        None => Ok(()),
        Some(filter) => filter
            .install()
            .map_err(|e| Failure::new("installing the filter of system calls", e)),
    };
    bounding().map_err(|e| Failure::new("giving up capabilities", e))?;
    sys::new_session_keyring();
    // Without no_new_privs the filter takes a capability that is about to go; with it, it can come last.
    if !security.no_new_privileges {
        install()?;
    }
    become_user(rootless, user)
        .map_err(|e| Failure::new(format!("becoming user {}", user.uid), e))?;
    let sets = || -> io::Result<()> {
        let now = rustix::thread::capabilities(None)?;
        let kept = CapabilitySets {
            effective: now.effective & kept_set,
            permitted: now.permitted & kept_set,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, kept)?;
        // Forgotten by the kernel when the user changes (PR_SET_PDEATHSIG(2const)).
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    sets().map_err(|e| Failure::new("giving up capabilities", e))?;
    if security.no_new_privileges {
        rustix::thread::set_no_new_privs(true)
            .map_err(|e| Failure::new("no-new-privileges", io::Error::from(e)))?;
        install()?;
    }
    Ok(())
}

/// The capabilities that a container has.
fn capabilities(security: &Security) -> CapabilitySet {
    let wanted = options::effective_capabilities(security);
    let numbered = options::CAPABILITIES.iter().enumerate();
    numbered
        .filter(|(_, name)| wanted.contains(*name))
        .map(|(bit, _)| CapabilitySet::from_bits_retain(1 << bit))
        .fold(CapabilitySet::empty(), CapabilitySet::union)
}

/// Refuses ids that do not exist in a user namespace, in words; the kernel's answer would be EINVAL.
pub(super) fn check(spec: &Spec, user: &User) -> Result<(), Failure> {
    if !spec.rootless {
        return Ok(());
    }
    let ids = Ids::here().map_err(|error| Failure::new("user", error))?;
    if ids.has_user(user.uid) && ids.has_group(user.gid) {
        return Ok(());
    }
    let (User { uid, gid, .. }, more) = (user, ids.is_single());
    let message = match more {
        true => format!(
            "the container is to run as user {uid}:{gid}, but without root there is only one user, 0 (you): try \
             -u 0, have ids given to you in /etc/subuid and /etc/subgid (and newuidmap installed), or run as root"
        ),
        false => format!(
            "the container is to run as user {uid}:{gid}, and that id is not among those that /etc/subuid and \
             /etc/subgid give you: try -u 0, have more ids given to you, or run as root"
        ),
    };
    Err(Failure { code: 125, message })
}

fn become_user(rootless: bool, user: &User) -> io::Result<()> {
    let groups: Vec<Gid> = user.all_groups().into_iter().map(Gid::from_raw).collect();
    // In a namespace that an ordinary user made, setgroups is denied and the groups stay what they are.
    match rustix::thread::set_thread_groups(&groups) {
        Err(rustix::io::Errno::PERM) if rootless => {}
        result => result?,
    }
    let gid = Gid::from_raw(user.gid);
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        let all = Security {
            privileged: true,
            ..Security::default()
        };
        let all = capabilities(&all);
        for known in [
            CapabilitySet::CHOWN,
            CapabilitySet::SYS_ADMIN,
            CapabilitySet::CHECKPOINT_RESTORE,
        ] {
            assert!(all.contains(known));
        }
        let usual = capabilities(&Security::default());
        assert!(
            usual.contains(
                CapabilitySet::MKNOD | CapabilitySet::SETFCAP | CapabilitySet::AUDIT_WRITE
            )
        );
        assert!(!usual.intersects(
            CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE | CapabilitySet::NET_ADMIN
        ));
    }
}
