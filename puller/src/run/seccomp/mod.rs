//! The filter of system calls (seccomp(2)): our own list of what is allowed, or a profile in docker's format, made
//! into a program for the kernel and installed.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::io;

use super::config::{Seccomp, Security};
use super::options::{OptionError, effective_capabilities};

mod architecture;
mod calls;
mod compile;
mod default;
mod profile;

use compile::Instruction;
use profile::Profile;

/// A program that can be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter(Vec<Instruction>);

/// Whether a text is a profile that can be applied here.
///
/// # Errors
/// It is not, and why.
pub fn check_profile(text: &str) -> Result<(), OptionError> {
    let all: BTreeSet<&str> = BTreeSet::new();
    let profile = Profile::parse(text).map_err(OptionError::new)?;
    compile::compile(&profile, &all).map_err(OptionError::new)?;
    Ok(())
}

fn profile_of(security: &Security) -> Result<Option<Profile>, String> {
    Ok(match &security.seccomp {
        Seccomp::Unconfined => None,
        Seccomp::Default if security.privileged => None,
        Seccomp::Default => Some(default::profile()),
        Seccomp::Profile(text) => Some(Profile::parse(text)?),
    })
}

/// The same for another runtime: the `seccomp` of a `config.json` (runtime-spec, config-linux.md).
pub(crate) fn runtime_seccomp(security: &Security) -> Result<Option<serde_json::Value>, String> {
    let capabilities = effective_capabilities(security);
    let profile = profile_of(security)?;
    Ok(
        profile
            .map(|profile| profile.to_runtime(|rule| compile::applies_here(rule, &capabilities))),
    )
}

impl Filter {
    /// The filter of a container; `None` when it has none.
    ///
    /// # Errors
    /// A profile that cannot be applied here.
    pub(super) fn of(security: &Security) -> Result<Option<Self>, String> {
        let Some(profile) = profile_of(security)? else {
            return Ok(None);
        };
        let capabilities = effective_capabilities(security);
        Ok(Some(Self(compile::compile(&profile, &capabilities)?)))
    }

    /// Installs it for this thread and all that come of it, for good. Needs CAP_SYS_ADMIN in the user namespace, or
    /// no_new_privs.
    pub(super) fn install(&self) -> io::Result<()> {
        let instructions: Vec<libc::sock_filter> = self
            .0
            .iter()
            .map(|one| libc::sock_filter {
                code: one.code,
                jt: one.jump_true,
                jf: one.jump_false,
                k: one.value,
            })
            .collect();
        let program = libc::sock_fprog {
            len: instructions.len().try_into().map_err(io::Error::other)?,
            filter: instructions.as_ptr().cast_mut(),
        };
        // SAFETY: the program points to as many instructions as it says, which outlive the call; the kernel only
        // reads them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a call gives in a thread under the filter: its number and arguments.
    fn under(security: &Security, call: [libc::c_long; 3]) -> (libc::c_long, Option<i32>) {
        let filter = Filter::of(security).expect("compiles");
        std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).expect("no new privileges");
            if let Some(filter) = filter {
                filter.install().expect("installs");
            }
            // SAFETY: the tests make calls that take numbers only.
            let result = unsafe { libc::syscall(call[0], call[1], call[2], 0) };
            (result, io::Error::last_os_error().raw_os_error())
        })
        .join()
        .expect("ends")
    }

    #[test]
    fn the_kernel_takes_our_filter_and_holds_to_it() {
        let usual = Security::default();
        let error = |call| match under(&usual, call) {
            (-1, error) => error,
            other => panic!("{other:?}"),
        };
        assert!(under(&usual, [libc::SYS_getppid, 0, 0]).0 > 0);
        for denied in [
            libc::SYS_keyctl,
            libc::SYS_bpf,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
        ] {
            assert_eq!(error([denied, 0, 0]), Some(libc::EPERM), "{denied}");
        }
        let namespace = libc::c_long::from(libc::CLONE_NEWUSER);
        assert_eq!(error([libc::SYS_unshare, namespace, 0]), Some(libc::EPERM));
        assert_eq!(error([libc::SYS_clone, namespace, 0]), Some(libc::EPERM));
        assert_eq!(error([libc::SYS_clone3, 0, 0]), Some(libc::ENOSYS));
        assert_eq!(
            error([100_000, 0, 0]),
            Some(libc::ENOSYS),
            "newer than the list"
        );
        let vsock = libc::c_long::from(libc::AF_VSOCK);
        assert_eq!(error([libc::SYS_socket, vsock, 1]), Some(libc::EPERM));
    }

    #[test]
    fn what_a_capability_allows_is_not_filtered() {
        let admin = Security {
            added: vec!["SYS_ADMIN".into()],
            ..Security::default()
        };
        // The kernel itself answers.
        assert_eq!(under(&admin, [libc::SYS_unshare, 0, 0]), (0, Some(0)));
        assert_ne!(
            under(&admin, [libc::SYS_clone3, 0, 0]).1,
            Some(libc::ENOSYS)
        );
        let privileged = Security {
            privileged: true,
            ..Security::default()
        };
        assert_eq!(Filter::of(&privileged), Ok(None));
    }

    #[test]
    fn a_profile_of_ones_own_is_installed() {
        let text = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 },
            { "names": ["dup2"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 1, "value": 9, "op": "SCMP_CMP_GE" }] } ] }"#;
        let security = Security {
            seccomp: Seccomp::Profile(text.into()),
            ..Security::default()
        };
        assert_eq!(under(&security, [libc::SYS_getppid, 0, 0]), (-1, Some(77)));
        #[cfg(target_arch = "x86_64")]
        {
            assert_eq!(
                under(&security, [libc::SYS_dup2, 100_000, 9]),
                (-1, Some(libc::EPERM))
            );
            assert_eq!(
                under(&security, [libc::SYS_dup2, 100_000, 8]),
                (-1, Some(libc::EBADF))
            );
        }
        for bad in [
            "",
            "{}",
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"x"}"#,
        ] {
            assert!(check_profile(bad).is_err(), "{bad}");
        }
    }
}
