//! `--cap-add`, `--cap-drop` and `--security-opt`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{OptionError, shown, truth};
use crate::run::config::Security;

/// capabilities(7), in the order of their numbers.
pub(in crate::run) const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The set that docker gives.
const DEFAULT: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// A capability's name without CAP_, or `ALL`.
///
/// # Errors
/// No such capability.
pub fn capability(text: &str) -> Result<String, OptionError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name != "ALL" && !CAPABILITIES.contains(&name) {
        return Err(OptionError::new(format!(
            "unknown capability: {}",
            shown(text)
        )));
    }
    Ok(name.to_owned())
}

/// The capabilities that a container has: all of a privileged one's, else docker's default set with what was added and
/// without what was dropped. `ALL` that is dropped empties the default set, `ALL` that is added fills it; single
/// names hold against that.
pub fn effective_capabilities(security: &Security) -> BTreeSet<&str> {
    let all = |names: &[String]| names.iter().any(|n| n == "ALL");
    let named = |names: &[String], name: &str| names.iter().any(|n| n == name);
    let known = CAPABILITIES.iter().copied();
    if security.privileged {
        return known.collect();
    }
    known
        .filter(|name| {
            let (added, dropped) = (named(&security.added, name), named(&security.dropped, name));
            match (all(&security.added), all(&security.dropped)) {
                (true, _) => !dropped,
                (false, true) => added,
                (false, false) => added || (DEFAULT.contains(name) && !dropped),
            }
        })
        .collect()
}

/// One value of `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption {
    /// No program gains rights by being executed, or it may.
    NoNewPrivileges(bool),
    /// No filter of system calls.
    SeccompUnconfined,
    /// Our own filter.
    SeccompDefault,
    /// The filter in this file.
    SeccompProfile(PathBuf),
    /// Nothing masked below /proc and /sys.
    Unmasked,
    /// It asks for no more than there is without it.
    Nothing,
}

/// What a value of `--security-opt` says.
///
/// # Errors
/// Another option, or one that needs AppArmor or SELinux profiles, which are not applied here.
pub fn security_option(text: &str) -> Result<SecurityOption, OptionError> {
    let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    Ok(match (key, value) {
        ("no-new-privileges", value) => SecurityOption::NoNewPrivileges(truth(value)?),
        ("seccomp", "unconfined") => SecurityOption::SeccompUnconfined,
        ("seccomp", "builtin") => SecurityOption::SeccompDefault,
        ("seccomp", path) if !path.is_empty() => SecurityOption::SeccompProfile(path.into()),
        ("systempaths", "unconfined") => SecurityOption::Unmasked,
        ("apparmor", "unconfined") | ("label", "disable") => SecurityOption::Nothing,
        ("apparmor" | "label", _) => {
            return Err(OptionError::new(format!(
                "{}: AppArmor profiles and SELinux labels are not applied; leave it out, or say {key}={}",
                shown(text),
                if key == "label" {
                    "disable"
                } else {
                    "unconfined"
                }
            )));
        }
        _ => {
            return Err(OptionError::new(format!(
                "invalid --security-opt {}: it is no-new-privileges, seccomp=unconfined|FILE, systempaths=unconfined",
                shown(text)
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn has(added: &[&str], dropped: &[&str]) -> Vec<String> {
        let security = Security {
            added: names(added),
            dropped: names(dropped),
            ..Security::default()
        };
        effective_capabilities(&security)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        assert_eq!(has(&[], &[]), DEFAULT);
        assert_eq!(has(&["NET_ADMIN"], &["ALL"]), ["NET_ADMIN"]);
        assert!(has(&[], &["ALL"]).is_empty());
        assert_eq!(has(&["ALL"], &["SYS_ADMIN"]).len(), CAPABILITIES.len() - 1);
        assert!(!has(&[], &["CHOWN"]).contains(&"CHOWN".to_owned()));
        assert!(has(&["SYS_PTRACE"], &[]).contains(&"SYS_PTRACE".to_owned()));
        let privileged = Security {
            privileged: true,
            dropped: names(&["ALL"]),
            ..Security::default()
        };
        assert_eq!(
            effective_capabilities(&privileged).len(),
            CAPABILITIES.len()
        );
    }

    #[test]
    fn names_have_a_prefix_or_not() {
        assert_eq!(capability("cap_net_admin"), Ok("NET_ADMIN".into()));
        assert_eq!(capability("all"), Ok("ALL".into()));
        for bad in ["", "CAP_", "NET ADMIN", "SUPER"] {
            assert!(capability(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn security_options_are_docker_s() {
        let read = |text: &str| security_option(text).expect("reads");
        assert_eq!(
            read("no-new-privileges"),
            SecurityOption::NoNewPrivileges(true)
        );
        assert_eq!(
            read("no-new-privileges:false"),
            SecurityOption::NoNewPrivileges(false)
        );
        assert_eq!(
            read("seccomp=unconfined"),
            SecurityOption::SeccompUnconfined
        );
        assert_eq!(
            read("seccomp=/a.json"),
            SecurityOption::SeccompProfile("/a.json".into())
        );
        assert_eq!(read("systempaths=unconfined"), SecurityOption::Unmasked);
        assert_eq!(read("label=disable"), SecurityOption::Nothing);
        for bad in [
            "",
            "seccomp=",
            "seccomp",
            "apparmor=strict",
            "label=type:x",
            "no-new-privileges=so",
            "magic=1",
        ] {
            assert!(security_option(bad).is_err(), "{bad}");
        }
    }
}
