//! What a container may ask of the kernel unless it is told otherwise: what programs need, in the spirit of docker's
//! list. What is missing acts on the whole machine, is new and rarely needed, or has a history of holes: keys,
//! io_uring, userfaultfd, loading modules and kernels, clocks, raw ports; and what makes namespaces and mounts.

use super::calls::{BY_CAPABILITY, FILES, MEMORY, PROCESSES, TALK, TIME, USERS, WAITING};
use super::profile::{Action, Circumstances, Condition, Profile, Rule, Test};

/// The flags of clone(2) that make namespaces: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: u64 = 0x7e02_0000;
/// personality(2): Linux as it is, 32 bits, their uname, both, and asking.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The list as a profile: what is not in it fails with EPERM.
pub(super) fn profile() -> Profile {
    let allowed = [FILES, WAITING, MEMORY, PROCESSES, USERS, TIME, TALK].concat();
    let mut rules = vec![rule(&allowed, Action::Allow, None)];
    for (capability, names) in BY_CAPABILITY {
        rules.push(Rule {
            includes: with_capability(capability),
            ..rule(names, Action::Allow, None)
        });
    }
    let on_first = |test, value| {
        Some(Condition {
            argument: 0,
            test,
            value,
        })
    };
    for value in PERSONALITIES {
        rules.push(rule(
            &["personality"],
            Action::Allow,
            on_first(Test::Equal, value),
        ));
    }
    // A socket of that family reaches the machine below this one.
    let vsock = on_first(Test::NotEqual, libc::AF_VSOCK as u64);
    rules.push(rule(&["socket"], Action::Allow, vsock));
    rules.push(Rule {
        excludes: with_capability("SYS_ADMIN"),
        ..rule(
            &["clone"],
            Action::Allow,
            on_first(Test::MaskedEqual(NAMESPACES), 0),
        )
    });
    // Its flags are behind a pointer, where no filter can look: libraries then fall back to clone(2).
    rules.push(Rule {
        excludes: with_capability("SYS_ADMIN"),
        ..rule(&["clone3"], Action::Errno(libc::ENOSYS as u16), None)
    });
    Profile {
        default: Action::Errno(libc::EPERM as u16),
        rules,
    }
}

fn with_capability(name: &str) -> Circumstances {
    Circumstances {
        caps: vec![name.to_owned()],
        ..Circumstances::default()
    }
}

fn rule(names: &[&str], action: Action, condition: Option<Condition>) -> Rule {
    Rule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action,
        conditions: condition.into_iter().collect(),
        includes: Circumstances::default(),
        excludes: Circumstances::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_written_twice_and_what_harms_the_machine_is_missing() {
        let mut names = [FILES, WAITING, MEMORY, PROCESSES, USERS, TIME, TALK].concat();
        for missing in [
            "mount",
            "unshare",
            "keyctl",
            "kexec_load",
            "init_module",
            "io_uring_setup",
            "reboot",
            "clone",
        ] {
            assert!(!names.contains(&missing), "{missing}");
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
