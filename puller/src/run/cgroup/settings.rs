//! Limits as the files of both versions have them (Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of Linux).

use crate::run::config::Resources;

/// One limit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    /// The option that asked for it.
    pub(super) option: &'static str,
    /// The controller that it needs.
    pub(super) controller: &'static str,
    /// File and value of version 1.
    pub(super) legacy: (&'static str, String),
    /// File and value of version 2.
    pub(super) unified: (&'static str, String),
    /// Whether it may be missing in the kernel: it only goes along with another.
    pub(super) optional: bool,
}

/// The period that shares of processors are of, in microseconds.
const PERIOD: u64 = 100_000;

/// The controllers that are asked for.
pub(super) fn controllers(resources: &Resources) -> Vec<&'static str> {
    settings(resources).iter().map(|s| s.controller).collect()
}

/// All limits in the order in which they are to be written.
pub(super) fn settings(resources: &Resources) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut add = |option, controller, legacy, unified| {
        settings.push(Setting {
            option,
            controller,
            legacy,
            unified,
            optional: false,
        });
    };
    if let Some(bytes) = resources.memory {
        let value = bytes.to_string();
        let legacy = ("memory.limit_in_bytes", value.clone());
        add("--memory", "memory", legacy, ("memory.max", value));
    }
    if let Some(bytes) = resources.memory_reservation {
        let value = bytes.to_string();
        let legacy = ("memory.soft_limit_in_bytes", value.clone());
        add(
            "--memory-reservation",
            "memory",
            legacy,
            ("memory.low", value),
        );
    }
    if let Some(cpus) = resources.cpus {
        let quota = (cpus * PERIOD as f64) as u64;
        let legacy = ("cpu.cfs_quota_us", quota.to_string());
        add(
            "--cpus",
            "cpu",
            legacy,
            ("cpu.max", format!("{quota} {PERIOD}")),
        );
    }
    if resources.cpu_period.is_some() || resources.cpu_quota.is_some() {
        let period = resources.cpu_period.unwrap_or(PERIOD).to_string();
        let quota = resources.cpu_quota.filter(|quota| *quota > 0);
        let quota = quota.map(|quota| quota.to_string());
        let unified = format!("{} {period}", quota.as_deref().unwrap_or("max"));
        let unified = ("cpu.max", unified);
        let legacy = ("cpu.cfs_period_us", period);
        add("--cpu-period", "cpu", legacy, unified.clone());
        let legacy = quota.unwrap_or_else(|| "-1".to_owned());
        let legacy = ("cpu.cfs_quota_us", legacy);
        add("--cpu-quota", "cpu", legacy, unified);
    }
    if let Some(shares) = resources.cpu_shares {
        // 2..262144 onto 1..10000.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        let legacy = ("cpu.shares", shares.to_string());
        add(
            "--cpu-shares",
            "cpu",
            legacy,
            ("cpu.weight", weight.to_string()),
        );
    }
    for (option, file, list) in [
        ("--cpuset-cpus", "cpuset.cpus", &resources.cpuset),
        ("--cpuset-mems", "cpuset.mems", &resources.cpuset_mems),
    ] {
        if let Some(list) = list {
            add(option, "cpuset", (file, list.clone()), (file, list.clone()));
        }
    }
    if let Some(most) = resources.pids {
        let value = if most > 0 {
            most.to_string()
        } else {
            "max".to_owned()
        };
        add(
            "--pids-limit",
            "pids",
            ("pids.max", value.clone()),
            ("pids.max", value),
        );
    }
    settings.extend(swap(resources));
    settings
}

/// Version 1 limits memory and swap together, version 2 swap alone. As much swap as memory when nothing is said.
fn swap(resources: &Resources) -> Option<Setting> {
    let memory = resources.memory?;
    let both = match resources.memory_swap {
        None => memory.checked_mul(2),
        Some(both) => u64::try_from(both).ok(),
    };
    let (legacy, unified) = match both {
        Some(both) => (both.to_string(), both.saturating_sub(memory).to_string()),
        None => ("-1".to_owned(), "max".to_owned()),
    };
    Some(Setting {
        option: "--memory-swap",
        controller: "memory",
        legacy: ("memory.memsw.limit_in_bytes", legacy),
        unified: ("memory.swap.max", unified),
        optional: resources.memory_swap.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files_of_both_versions() {
        let resources = Resources {
            memory: Some(100),
            memory_swap: Some(150),
            cpus: Some(1.5),
            cpu_shares: Some(1024),
            cpuset: Some("0-1".into()),
            pids: Some(9),
            ..Resources::default()
        };
        let find = |controller: &str, file: &str| {
            let all = settings(&resources);
            let found = all.iter().filter(|s| s.controller == controller);
            let files = found.flat_map(|s| [&s.legacy, &s.unified]);
            let mut files = files.filter(|(name, _)| *name == file);
            files.next().map(|(_, value)| value.clone()).expect("there")
        };
        assert_eq!(find("memory", "memory.limit_in_bytes"), "100");
        assert_eq!(find("memory", "memory.memsw.limit_in_bytes"), "150");
        assert_eq!(find("memory", "memory.swap.max"), "50");
        assert_eq!(find("cpu", "cpu.cfs_quota_us"), "150000");
        assert_eq!(find("cpu", "cpu.max"), "150000 100000");
        assert_eq!(find("cpu", "cpu.weight"), "39");
        assert_eq!(find("cpuset", "cpuset.cpus"), "0-1");
        assert_eq!(find("pids", "pids.max"), "9");
        assert!(settings(&Resources::default()).is_empty());
        let resources = Resources {
            memory_reservation: Some(7),
            cpu_quota: Some(50_000),
            cpuset_mems: Some("0".into()),
            ..Resources::default()
        };
        let all = settings(&resources);
        let legacy: Vec<(&str, &str)> = all
            .iter()
            .map(|s| (s.legacy.0, s.legacy.1.as_str()))
            .collect();
        let expected = [
            ("memory.soft_limit_in_bytes", "7"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpuset.mems", "0"),
        ];
        assert_eq!(legacy, expected);
        assert_eq!(all[0].unified, ("memory.low", "7".to_owned()));
        assert_eq!(all[2].unified, ("cpu.max", "50000 100000".to_owned()));
    }

    #[test]
    fn swap_goes_along_with_memory() {
        let of = |swap| {
            let resources = Resources {
                memory: Some(100),
                memory_swap: swap,
                ..Resources::default()
            };
            let swap = super::swap(&resources).expect("with memory");
            (swap.legacy.1, swap.unified.1, swap.optional)
        };
        assert_eq!(of(None), ("200".into(), "100".into(), true));
        assert_eq!(of(Some(-1)), ("-1".into(), "max".into(), false));
        assert_eq!(super::swap(&Resources::default()), None);
    }
}
