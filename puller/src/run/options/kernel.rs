//! What of the host's kernel a container shares or sets: `--ipc`, `--uts`, `--pid`, `--userns`, `--cgroupns`, `--sysctl`.

use super::{OptionError, shown};
use crate::run::config::Network;

/// Parameters that belong to a namespace of System V objects and message queues.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Name (with dots) and value of a `--sysctl`.
///
/// # Errors
/// Another form; a parameter that belongs to no namespace of the container's, and so would be the host's.
pub fn sysctl(
    text: &str,
    network: Network,
    shares_ipc: bool,
) -> Result<(String, String), OptionError> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| OptionError::new(format!("sysctl {} needs a value", shown(text))))?;
    let name = match name.contains('/') {
        true => name.replace('/', "."),
        false => name.to_owned(),
    };
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let plain = name.bytes().all(letter) && name.split('.').all(|part| !part.is_empty());
    let refused = |why: &str| {
        Err(OptionError::new(format!(
            "sysctl {} is not allowed{why}",
            shown(&name)
        )))
    };
    if !plain {
        return refused("");
    }
    match (
        OF_IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue."),
        name.starts_with("net."),
    ) {
        (true, _) if shares_ipc => refused(": with --ipc host it is the host's"),
        (_, true) if network == Network::Host => {
            refused(": the container is in the host's network; --network none has its own")
        }
        (true, _) | (_, true) => Ok((name, value.to_owned())),
        _ => refused(": it is one of the whole machine's"),
    }
}

/// Whether a value of `--ipc` or `--uts` asks for the host's.
///
/// # Errors
/// A value that stands for something that cannot be had.
pub fn is_host(option: &str, text: &str) -> Result<bool, OptionError> {
    match text {
        "host" => Ok(true),
        "" | "private" => Ok(false),
        // Others could join it, if there were others who can.
        "shareable" if option == "--ipc" => Ok(false),
        text => Err(OptionError::new(format!(
            "{option} {}: it is private or host; containers do not share with each other",
            shown(text)
        ))),
    }
}

/// Refuses what cannot be had of namespaces of processes, users and control groups.
///
/// # Errors
/// Anything but a container's own, and for users also `host`, which is how it is anyway.
pub fn own_namespace(option: &str, text: &str) -> Result<(), OptionError> {
    match (option, text) {
        (_, "" | "private") | ("--userns", "host") => Ok(()),
        ("--pid", _) => Err(OptionError::new(format!(
            "--pid {}: a container has its processes to itself: they end with its first one by that",
            shown(text)
        ))),
        ("--userns", _) => Err(OptionError::new(format!(
            "--userns {}: a container's users are those of whoever runs strata: root's are the machine's, an ordinary \
             user's are mapped (/etc/subuid)",
            shown(text)
        ))),
        _ => Err(OptionError::new(format!(
            "{option} {}: a container sees its own control groups and no others",
            shown(text)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_the_container_can_be_set() {
        let read = |text: &str| sysctl(text, Network::None, false);
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(
            read("net.ipv4.ip_forward=1"),
            pair("net.ipv4.ip_forward", "1")
        );
        assert_eq!(read("kernel/sem=1 2 3"), pair("kernel.sem", "1 2 3"));
        assert_eq!(read("fs.mqueue.msg_max="), pair("fs.mqueue.msg_max", ""));
        for bad in [
            "",
            "net.x",
            "kernel.core_pattern=|/x",
            "net..x=1",
            "net.../kernel.core_pattern=1",
            "net.x/../../kernel/core_pattern=1",
            "kernel.semi=1",
            "vm.swappiness=1",
            "net.a\n=1",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(sysctl("net.x=1", Network::Host, false).is_err());
        assert!(sysctl("kernel.sem=1", Network::None, true).is_err());
    }

    #[test]
    fn namespaces_are_the_containers_or_the_hosts() {
        assert_eq!(is_host("--ipc", "host"), Ok(true));
        assert_eq!(is_host("--ipc", "shareable"), Ok(false));
        assert_eq!(is_host("--uts", ""), Ok(false));
        assert!(is_host("--uts", "shareable").is_err() && is_host("--ipc", "container:x").is_err());
        assert!(
            own_namespace("--pid", "private").is_ok() && own_namespace("--pid", "host").is_err()
        );
        assert!(own_namespace("--userns", "host").is_ok());
        assert!(own_namespace("--userns", "keep-id").is_err());
        assert!(own_namespace("--cgroupns", "host").is_err());
    }
}
