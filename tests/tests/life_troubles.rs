//! The life of containers when something is short: memory, room for the log, patience.

use std::fs;

use rustix::process::{Signal, kill_process};
use strata_tests::command::Ran;
use strata_tests::living::{Living, until};

fn numbers(ran: &Ran) -> Vec<u32> {
    let lines = ran.out();
    let numbers = lines.lines().map(|line| line.trim().parse());
    numbers.map(|number| number.expect("a number")).collect()
}

#[test]
fn a_log_is_bounded_where_that_is_asked_for() {
    let s = Living::new();
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done";
    let count = |options: &[&str], name: &str| {
        let args = [
            &["run", "--name", name],
            options,
            &[&s.reference, "sh", "-c", script],
        ]
        .concat();
        assert_eq!(numbers(&s.strata(&args).ok()).len(), 2000, "all is shown");
        numbers(&s.strata(&["logs", name]).ok())
    };
    assert_eq!(count(&[], "whole"), (0..2000).collect::<Vec<_>>());
    let bounded = [
        "--log-driver",
        "json-file",
        "--log-opt",
        "max-size=20k",
        "--log-opt",
        "max-file=2",
    ];
    let kept = count(&bounded, "bounded");
    assert!((100..1000).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last(), Some(&1999));
    let log = s.inspect("bounded")["HostConfig"]["LogConfig"].clone();
    assert_eq!(
        (&log["Type"], &log["Config"]["max-file"]),
        (&"json-file".into(), &"2".into())
    );
    let id = s.inspect("bounded")["Id"].as_str().expect("id").to_owned();
    let directory = s.scene.strata.root().join("containers").join(id);
    let logs = fs::read_dir(directory).expect("list").filter_map(|entry| {
        let entry = entry.expect("entry");
        let is_log = entry.file_name().to_string_lossy().starts_with("log.json");
        is_log.then(|| entry.metadata().expect("stat").len())
    });
    let logs: Vec<u64> = logs.collect();
    assert!(
        logs.len() == 2 && logs.iter().all(|size| *size <= 20 << 10),
        "{logs:?}"
    );
    let args = [
        "run",
        "--name",
        "none",
        "--log-driver",
        "none",
        &s.reference,
        "echo",
        "shown",
    ];
    assert_eq!(s.strata(&args).ok().out(), "shown");
    s.strata(&["logs", "none"])
        .refused()
        .says("does not support reading");
    for (option, value) in [("--log-driver", "syslog"), ("--log-opt", "max-file=3")] {
        let ran = s.strata(&["run", option, value, &s.reference, "true"]);
        assert_eq!(ran.code(), 125, "{}", ran.story());
    }
}

#[test]
fn who_follows_a_bounded_log_misses_nothing() {
    let s = Living::new();
    let script = "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.005; done";
    s.detached(
        &[
            "--name",
            "chatty",
            "--log-driver",
            "local",
            "--log-opt",
            "max-size=4k",
        ],
        script,
    );
    let followed = numbers(&s.strata(&["logs", "-f", "chatty"]).ok());
    assert_eq!(followed, (0..300).collect::<Vec<_>>());
}

#[test]
fn what_the_kernel_kills_for_want_of_memory_is_told() {
    let s = Living::new();
    let hungry = "x=0123456789abcdef; while :; do x=$x$x; done";
    let limits = ["--memory", "16m", "--memory-swap", "16m"];
    let run = |name: &str, limits: &[&str], script: &str| {
        let args = [
            &["run", "--name", name],
            limits,
            &[&s.reference, "sh", "-c", script],
        ]
        .concat();
        s.strata(&args).code()
    };
    assert_eq!(run("itself", &limits, hungry), 137);
    assert_eq!(run("child", &limits, &format!("({hungry}); exit 5")), 5);
    assert_eq!(run("modest", &limits, "exit 6"), 6);
    assert_eq!(run("killed", &[], "sh -c 'kill -9 $$'; exit 137"), 137);
    for (name, killed) in [
        ("itself", true),
        ("child", true),
        ("modest", false),
        ("killed", false),
    ] {
        let state = s.inspect(name)["State"].clone();
        assert_eq!(state["OOMKilled"], killed, "{name}: {state}");
    }
    assert_eq!(s.inspect("itself")["State"]["ExitCode"], 137);
    s.strata(&["start", "itself"]).ok();
    assert_eq!(s.strata(&["wait", "itself"]).ok().out(), "137");
    for name in ["itself", "child", "modest", "killed"] {
        s.strata(&["rm", name]).ok();
    }
    s.assert_tidy();
}

#[test]
fn a_paused_container_is_killed_all_the_same() {
    let s = Living::new();
    // Held still by the freezer of its control group, and without one by signals.
    for (name, options) in [("grouped", &["--memory", "64m"][..]), ("plain", &[])] {
        s.detached(
            &[&["--name", name], options].concat(),
            "echo up; exec sleep 1000",
        );
        until("it prints", || s.strata(&["logs", name]).out() == "up");
        s.strata(&["pause", name]).ok();
        assert_eq!(s.status(name), "paused");
        assert_eq!(s.strata(&["kill", name]).ok().out(), name);
        assert_eq!(s.status(name), "exited");
        s.strata(&["kill", name]).refused().says("not running");
    }
}

#[test]
fn the_disk_is_not_waited_for_when_a_container_is_made() {
    let s = Living::new();
    let trace = s.scene.place.join("trace");
    let mut syncs = 0;
    for _ in 0..32 {
        let mut command = std::process::Command::new(strata_tests::command::tool("strace"));
        command.args(["-f", "-e", "trace=fsync,fdatasync,syncfs,sync", "-o"]);
        command.arg(&trace).arg(s.scene.strata.program());
        command.env("STRATA_ROOT", s.scene.strata.root());
        command.args(["create", &s.reference, "true"]);
        strata_tests::command::run(&mut command).ok();
        let text = fs::read_to_string(&trace).expect("a trace");
        syncs += text.lines().filter(|line| line.contains("sync")).count();
    }
    // Now and then the index's log is emptied.
    assert!(syncs <= 16, "{syncs} for 32 containers");
}

#[test]
fn a_monitor_that_is_stopped_is_told_of_and_rm_f_ends_it() {
    let s = Living::new();
    s.detached(&["--name", "stuck"], "exec sleep 1000");
    let monitor = s.monitor("stuck");
    kill_process(monitor, Signal::STOP).expect("stop");
    s.strata(&["kill", "-s", "USR1", "stuck"])
        .refused()
        .says("does not answer");
    assert_eq!(s.status("stuck"), "running");
    s.strata(&["rm", "-f", "stuck"]).ok();
    s.assert_tidy();
}

#[test]
fn templates_show_what_somebody_wants_to_know() {
    let s = Living::new();
    s.detached(
        &["--name", "web", "-l", "tier=front", "-e", "A=b"],
        "exec sleep 1000",
    );
    let said = |args: &[&str]| s.strata(args).ok().out();
    assert_eq!(
        said(&["inspect", "-f", "{{.State.Status}} {{.Name}}", "web"]),
        "running web"
    );
    let variables = "{{range .Config.Env}}{{println .}}{{end}}";
    assert!(said(&["inspect", "--format", variables, "web"]).contains("A=b\n"));
    assert_eq!(
        said(&["ps", "--format", "{{.Names}}: {{.State}} {{.Labels}}"]),
        "web: running tier=front"
    );
    let table = said(&["ps", "--format", "table {{.Names}}\\t{{.Networks}}"]);
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words, ["NAMES", "NETWORKS", "web", "host"]);
    s.strata(&["inspect", "-f", "{{.Nope}}", "web"])
        .refused()
        .says("Nope");
}

#[test]
fn a_mistyped_option_of_run_is_125_and_not_the_programs_code() {
    let s = Living::new();
    for command in ["run", "create", "exec"] {
        let ran = s.strata(&[command, "--no-such-option", &s.reference, "true"]);
        assert_eq!(ran.code(), 125, "{}", ran.story());
        let _ = ran.says("--no-such-option");
    }
    assert_eq!(s.strata(&["run", "--help"]).code(), 0);
    assert_eq!(s.strata(&["ps", "--no-such-option"]).code(), 2);
}
