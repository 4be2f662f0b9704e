//! Limits that a process carries with it: setrlimit(2) and how soon the kernel kills it when memory runs out.

use std::io;

use rustix::process::{Resource, Rlimit};

use super::config::Resources;
use super::spec::Failure;

/// Applies them to this process, and so to all that come of it. While it may still raise them.
pub(super) fn apply(resources: &Resources) -> Result<(), Failure> {
    for (name, soft, hard) in &resources.ulimits {
        let limit = |value: u64| (value != u64::MAX).then_some(value);
        let wanted = Rlimit {
            current: limit(*soft),
            maximum: limit(*hard),
        };
        let resource = resource(name)
            .ok_or_else(|| Failure::new(format!("--ulimit {name}"), "it has no such limit"))?;
        rustix::process::setrlimit(resource, wanted).map_err(|error| {
            let why = match error {
                rustix::io::Errno::PERM => {
                    let most = rustix::process::getrlimit(resource).maximum;
                    let most = most.map_or("unlimited".to_owned(), |n| n.to_string());
                    format!("the hard limit here is {most}, and raising it needs CAP_SYS_RESOURCE")
                }
                error => io::Error::from(error).to_string(),
            };
            Failure::new(format!("--ulimit {name}"), why)
        })?;
    }
    Ok(())
}

/// Sets proc_pid_oom_score_adj(5), while the host's /proc is in sight.
pub(super) fn apply_oom_score(resources: &Resources) -> Result<(), Failure> {
    let Some(score) = resources.oom_score_adj else {
        return Ok(());
    };
    std::fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "lowering it needs CAP_SYS_RESOURCE of the machine's root".to_owned()
            }
            _ => error.to_string(),
        };
        Failure::new(format!("--oom-score-adj {score}"), why)
    })
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::options::ULIMITS;

    #[test]
    fn every_name_that_can_be_given_is_a_limit() {
        assert!(ULIMITS.iter().all(|name| resource(name).is_some()));
        assert!(resource("as").is_none());
    }
}
