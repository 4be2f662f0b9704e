//! A further program in the container: what it shares with the first one, and what it was given.

use std::io;

use super::super::command;
use super::super::protocol::Exec;
use super::super::spec::Spec;

/// The container with another program in it.
pub(super) fn of_exec(spec: &Spec, exec: &Exec) -> Spec {
    let mut spec = spec.clone();
    let config = &mut spec.config;
    config.arguments.clone_from(&exec.arguments);
    let mut defaults = Vec::new();
    if exec.terminal.is_some() {
        defaults.push("TERM=xterm".into());
    }
    let container: Vec<_> = std::mem::take(&mut config.environment);
    let given: Vec<_> = container
        .into_iter()
        .chain(exec.environment.iter().cloned())
        .collect();
    config.environment = command::environment(defaults, &[], &given, |_| None);
    if !exec.working_directory.is_empty() {
        config.working_directory.clone_from(&exec.working_directory);
    }
    if let Some(user) = &exec.user {
        config.user.clone_from(user);
    }
    config.security.privileged |= exec.privileged;
    config.init = false;
    config.terminal = exec.terminal.is_some();
    spec.terminal = exec.terminal;
    spec
}

/// The namespaces in which process `pid` is and this one is not, but for that of processes.
pub(super) fn other_namespaces(pid: i32) -> io::Result<i32> {
    let mut others = 0;
    for (name, flag) in [
        ("mnt", libc::CLONE_NEWNS),
        ("uts", libc::CLONE_NEWUTS),
        ("ipc", libc::CLONE_NEWIPC),
        ("net", libc::CLONE_NEWNET),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ] {
        let link = |whose: &str| std::fs::read_link(format!("/proc/{whose}/ns/{name}"));
        if link("self")? != link(&pid.to_string())? {
            others |= flag;
        }
    }
    Ok(others)
}
