//! Access to devices that is limited, and control groups of version 2: in a mount namespace of the test's own where no
//! others can be seen, whatever the machine has.

use std::fs;
use std::process::Command;

use serde_json::Value;
use strata_tests::both::{Side, tools_image};
use strata_tests::command::{Ran, run, tool};

/// Only version 2 is mounted then.
const SECOND_VERSION: &str =
    "umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";

/// Runs a command of strata's where only control groups of version 2 are mounted.
#[track_caller]
fn on_second_version(s: &Side, args: &[&str]) -> Ran {
    let inner = s.strata.command(args);
    let mut command = Command::new(tool("unshare"));
    command.args(["-m", "sh", "-c", SECOND_VERSION, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    for (key, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    run(&mut command)
}

const TRY: &str = "head -c 3 /dev/mine 2>/dev/null | wc -c; (echo x > /dev/mine) 2>/dev/null && echo written; \
    mknod /dev/other c 1 5 2>/dev/null && (echo x > /dev/other) 2>/dev/null && echo other; echo end";

#[test]
fn a_device_is_read_or_written_only_as_far_as_it_was_given() {
    let s = Side::new(61_150, false, &tools_image());
    let given = |letters: &str| {
        s.says(
            &["--device", &format!("/dev/zero:/dev/mine:{letters}")],
            TRY,
        )
    };
    assert_eq!(given("r"), "3\nend");
    assert_eq!(given("w"), "0\nwritten\nend");
    assert_eq!(given("m"), "0\nend");
    assert_eq!(given("rw"), "3\nwritten\nend");
    // What is privileged has all of every device.
    let options = ["--privileged", "--device", "/dev/zero:/dev/mine:r"];
    assert!(s.says(&options, TRY).contains("written"));
    // Programs that come later are limited as well.
    let options = [
        "run",
        "-d",
        "--name",
        "box",
        "--device",
        "/dev/zero:/dev/mine:r",
        &s.reference,
        "sleep",
        "100",
    ];
    s.strata.run(&options).ok();
    let said = s.strata.run(&["exec", "box", "sh", "-c", TRY]).ok().out();
    assert_eq!(said, "3\nend");
    s.strata.run(&["rm", "-f", "box"]).ok();
}

#[test]
fn a_user_cannot_limit_a_device_and_is_told_so() {
    let s = Side::new(61_151, true, &tools_image());
    s.refuses(&["--device", "/dev/zero:/dev/mine:r"], "without root");
    let whole = ["--device", "/dev/zero:/dev/mine:rw"];
    assert_eq!(s.says(&whole, "head -c 3 /dev/mine | wc -c"), "3");
}

#[test]
fn version_2_limits_devices_freezes_and_is_left_tidy() {
    let s = Side::new(61_152, false, &tools_image());
    let limited = ["--device", "/dev/zero:/dev/mine:r"];
    let sh = |script: &str| {
        let command = [&s.reference, "sh", "-c", script];
        on_second_version(&s, &[&["run", "--rm"], &limited[..], &command].concat())
    };
    let look = format!(
        "{TRY}; grep ^0: /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.freeze; (echo 0 > /sys/fs/cgroup/cgroup.procs) 2>/dev/null || echo read-only"
    );
    assert_eq!(sh(&look).ok().out(), "3\nend\n0::/\n0\nread-only");

    let start = [
        &["run", "-d", "--name", "box"],
        &limited[..],
        &[&s.reference, "sleep", "1000"],
    ]
    .concat();
    let id = on_second_version(&s, &start).ok().out();
    let inspected = s
        .strata
        .run(&["inspect", "--type", "container", "box"])
        .ok();
    let inspected: Value = serde_json::from_slice(&inspected.stdout).expect("JSON");
    let pid = &inspected[0]["State"]["Pid"];
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    assert!(group.contains(&format!("0::/strata/{id}")), "{group}");
    let in_group = |file: &str| format!("/sys/fs/cgroup/strata/{id}/{file}");
    let read = |file: &str| {
        let mut command = Command::new(tool("unshare"));
        command.args([
            "-m",
            "sh",
            "-c",
            SECOND_VERSION,
            "sh",
            "cat",
            &in_group(file),
        ]);
        run(&mut command)
    };
    on_second_version(&s, &["pause", "box"]).ok();
    assert_eq!(read("cgroup.freeze").ok().out(), "1");
    assert!(read("cgroup.events").ok().out().contains("frozen 1"));
    on_second_version(&s, &["unpause", "box"]).ok();
    assert_eq!(read("cgroup.freeze").ok().out(), "0");
    let said = on_second_version(&s, &["exec", "box", "sh", "-c", &look])
        .ok()
        .out();
    assert_eq!(said, "3\nend\n0::/\n0\nread-only");
    on_second_version(&s, &["rm", "-f", "box"]).ok();
    assert!(
        !read("cgroup.procs").status.success(),
        "the group goes with the container"
    );
}

#[test]
fn a_controller_that_version_2_has_not_got_is_named() {
    for rootless in [false, true] {
        let s = Side::new(61_153, rootless, &tools_image());
        let mut there = Command::new(tool("unshare"));
        there.args([
            "-m",
            "sh",
            "-c",
            SECOND_VERSION,
            "sh",
            "cat",
            "/sys/fs/cgroup/cgroup.controllers",
        ]);
        let there = run(&mut there).ok().out();
        for (option, value, controller) in [
            ("--memory", "64m", "memory"),
            ("--pids-limit", "9", "pids"),
            ("--cpus", "0.5", "cpu"),
            ("--cpuset-cpus", "0", "cpuset"),
        ] {
            let ran = on_second_version(&s, &["run", "--rm", option, value, &s.reference, "true"]);
            match !rootless && there.split_whitespace().any(|known| known == controller) {
                true => drop(ran.ok()),
                false => {
                    assert_eq!(ran.code(), 125, "{}", ran.story());
                    let _ = ran.says(option);
                }
            }
        }
        // Without a limit none is needed.
        on_second_version(&s, &["run", "--rm", &s.reference, "true"]).ok();
    }
}
