//! The life of containers: created, started, left alone, looked at, held still, stopped, removed.

use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use strata_tests::command::{Running, find_process, has_ended, wait_for_process};
use strata_tests::living::{Living, marker, until};
use strata_tests::scene::shell_image;

#[test]
fn a_detached_container_outlives_its_command_and_says_what_it_printed() {
    let s = Living::new();
    let id = s.detached(
        &["--name", "web"],
        "echo out; echo err >&2; exec sleep 1000",
    );
    assert_eq!(id.len(), 64, "the whole id: {id}");
    until("it prints", || {
        s.strata(&["logs", "web"]).ok().stderr == "err\n"
    });
    assert_eq!(s.strata(&["logs", "web"]).ok().out(), "out");
    let listed = s.strata(&["ps"]).ok().out();
    assert!(listed.contains("Up ") && listed.contains("web"), "{listed}");
    assert_eq!(s.strata(&["ps", "-q", "--no-trunc"]).ok().out(), id);
    assert_eq!(s.strata(&["stop", "-t", "0", "web"]).ok().out(), "web");
    let state = s.inspect("web")["State"].clone();
    assert_eq!(
        (&state["Status"], &state["ExitCode"]),
        (&"exited".into(), &137.into())
    );
    assert!(s.strata(&["ps"]).ok().out().lines().count() == 1);
    assert!(s.strata(&["ps", "-a"]).ok().out().contains("Exited (137)"));
    s.strata(&["rm", "web"]).ok();
    s.assert_tidy();
}

#[test]
fn what_was_created_starts_later_again_and_keeps_its_files() {
    let s = Living::new();
    let script = "echo run >> /data/runs; wc -l < /data/runs; exit 3";
    let args = [
        "create",
        "--name",
        "made",
        "-e",
        "A=b",
        &s.reference,
        "sh",
        "-c",
        script,
    ];
    let id = s.strata(&args).ok().out();
    assert_eq!((id.len(), s.status("made")), (64, "created".to_owned()));
    assert!(s.strata(&["ps", "-a"]).ok().out().contains("Created"));
    assert_eq!(s.strata(&["start", "made"]).ok().out(), "made");
    assert_eq!(s.strata(&["wait", "made"]).ok().out(), "3");
    let ran = s.strata(&["start", "-a", &id[..8]]);
    assert_eq!(
        (ran.code(), ran.out().as_str()),
        (3, "2"),
        "{}",
        ran.story()
    );
    assert_eq!(s.strata(&["logs", "made"]).ok().out(), "1\n2");
    assert_eq!(s.strata(&["logs", "-n", "1", "made"]).ok().out(), "2");
    s.strata(&["rm", "made"]).ok();
    s.assert_tidy();
}

#[test]
fn killing_the_command_leaves_the_container_running() {
    let s = Living::new();
    let marker = marker(1);
    let args = ["run", "--name", "alive", &s.reference, "sleep", &marker];
    let mut running = Running::start(&mut s.scene.strata.command(&args));
    wait_for_process(&["sleep", &marker]);
    until("it is recorded", || {
        s.strata(&["ps"]).ok().out().contains("alive")
    });
    running.child.kill().expect("kill");
    running.wait();
    std::thread::sleep(Duration::from_millis(200));
    assert!(find_process(&["sleep", &marker]).is_some(), "it goes on");
    s.strata(&["rm", "alive"]).refused().says("running");
    assert_eq!(s.strata(&["kill", "alive"]).ok().out(), "alive");
    assert_eq!(s.status("alive"), "exited");
    s.strata(&["rm", "alive"]).ok();
    s.assert_tidy();
}

#[test]
fn killing_the_monitor_ends_the_container_and_the_next_command_says_so() {
    let s = Living::new();
    let marker = marker(2);
    s.strata(&[
        "run",
        "-d",
        "--name",
        "kept",
        &s.reference,
        "sleep",
        &marker,
    ])
    .ok();
    s.strata(&[
        "run",
        "-d",
        "--rm",
        "--name",
        "passing",
        &s.reference,
        "sleep",
        &marker,
    ])
    .ok();
    for name in ["kept", "passing"] {
        kill_process(s.monitor(name), Signal::KILL).expect("kill");
    }
    until("both end", || find_process(&["sleep", &marker]).is_none());
    until("the locks are free", || s.status("kept") == "exited");
    assert_eq!(s.inspect("kept")["State"]["ExitCode"], 137);
    s.strata(&["inspect", "--type", "container", "passing"])
        .refused()
        .says("passing");
    assert_eq!(
        s.strata(&["start", "kept"]).ok().out(),
        "kept",
        "it can be started again"
    );
    s.strata(&["rm", "-f", "kept"]).ok();
    s.assert_tidy();
}

#[test]
fn killing_the_program_ends_the_container_with_its_signal() {
    let s = Living::new();
    let marker = marker(3);
    s.strata(&["run", "-d", "--name", "one", &s.reference, "sleep", &marker])
        .ok();
    kill_process(wait_for_process(&["sleep", &marker]), Signal::KILL).expect("kill");
    assert_eq!(s.strata(&["wait", "one"]).ok().out(), "137");
    let trap = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    s.detached(&["--name", "two", "--rm"], trap);
    until("it is ready", || {
        s.strata(&["logs", "two"]).out() == "ready"
    });
    assert_eq!(s.strata(&["kill", "-s", "TERM", "two"]).ok().out(), "two");
    // Its row goes first, then its directory.
    let containers = s.scene.strata.root().join("containers");
    until("it removes itself", || {
        std::fs::read_dir(&containers).expect("list").count() == 1
    });
    assert_eq!(s.strata(&["ps", "-aq"]).ok().out().lines().count(), 1);
    s.strata(&["kill", "one"]).refused().says("not running");
    s.strata(&["kill", "-s", "NONSENSE", "one"])
        .says("NONSENSE");
    s.strata(&["rm", "one"]).ok();
    s.assert_tidy();
}

#[test]
fn stop_asks_first_and_uses_the_containers_signal_and_time() {
    let s = Living::new();
    let script = "trap 'echo asked; exit 4' INT; echo ready; while :; do sleep 0.02; done";
    s.detached(&["--name", "polite", "--stop-signal", "INT"], script);
    until("it is ready", || {
        s.strata(&["logs", "polite"]).out() == "ready"
    });
    s.strata(&["stop", "polite"]).ok();
    assert_eq!(s.strata(&["logs", "polite"]).ok().out(), "ready\nasked");
    assert_eq!(s.inspect("polite")["State"]["ExitCode"], 4);
    assert_eq!(
        s.strata(&["stop", "polite"]).ok().out(),
        "polite",
        "stopped already"
    );
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    s.detached(&["--name", "deaf", "--stop-timeout", "1"], deaf);
    until("it is ready", || {
        s.strata(&["logs", "deaf"]).out() == "ready"
    });
    let stopped = s.strata(&["stop", "deaf"]).ok();
    assert!(
        stopped.took >= Duration::from_millis(900),
        "it had its second: {:?}",
        stopped.took
    );
    assert_eq!(s.inspect("deaf")["State"]["ExitCode"], 137);
    s.strata(&["restart", "-t", "0", "deaf"]).ok();
    assert_eq!(s.status("deaf"), "running");
    s.strata(&["stop", "nobody-here"])
        .refused()
        .says("nobody-here");
}

#[test]
fn a_paused_container_stands_still_until_it_goes_on() {
    let s = Living::new();
    let count = "n=0; while :; do n=$((n+1)); echo $n > /data/n; sleep 0.01; done";
    s.detached(&["--name", "clock"], count);
    let file = std::path::PathBuf::from(
        s.inspect("clock")["GraphDriver"]["Data"]["UpperDir"]
            .as_str()
            .expect("path"),
    );
    let read = || std::fs::read_to_string(file.join("data/n")).unwrap_or_default();
    until("it counts", || !read().is_empty());
    assert_eq!(s.strata(&["pause", "clock"]).ok().out(), "clock");
    let before = read();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(read(), before);
    assert_eq!(s.status("clock"), "paused");
    assert!(s.strata(&["ps"]).ok().out().contains("(Paused)"));
    s.strata(&["exec", "clock", "true"])
        .refused()
        .says("paused");
    s.strata(&["pause", "clock"])
        .refused()
        .says("already paused");
    assert_eq!(s.strata(&["unpause", "clock"]).ok().out(), "clock");
    until("it counts again", || read() != before);
    s.strata(&["unpause", "clock"]).refused().says("not paused");
    s.strata(&["pause", "clock"]).ok();
    s.strata(&["stop", "-t", "1", "clock"]).ok();
    assert_eq!(s.status("clock"), "exited");
    s.strata(&["start", "clock"]).ok();
    s.strata(&["pause", "clock"]).ok();
    s.strata(&["rm", "-f", "clock"]).ok();
    s.assert_tidy();
}

#[test]
fn names_change_and_lists_are_filtered() {
    let s = Living::new();
    s.detached(&["--name", "one", "--label", "tier=web"], "exec sleep 1000");
    s.strata(&[
        "create",
        "--name",
        "two",
        "--label",
        "tier=db",
        &s.reference,
    ])
    .ok();
    let _ = s.strata(&["run", "--name", "three", &s.reference, "sh", "-c", "exit 5"]);
    s.strata(&["rename", "two", "one"])
        .refused()
        .says("already in use");
    s.strata(&["rename", "two", "zwei"]).ok();
    let names = |filters: &[&str]| {
        let filters: Vec<&str> = filters.iter().flat_map(|f| ["--filter", f]).collect();
        let ran = s
            .strata(&[&["ps", "-a", "--format", "json"], &filters[..]].concat())
            .ok();
        let listed: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        let mut names: Vec<String> = listed
            .as_array()
            .expect("list")
            .iter()
            .map(|c| c["name"].as_str().expect("name").to_owned())
            .collect();
        names.sort();
        names.join(",")
    };
    assert_eq!(names(&[]), "one,three,zwei");
    assert_eq!(names(&["name=on"]), "one");
    assert_eq!(names(&["status=created"]), "zwei");
    assert_eq!(names(&["status=exited", "status=running"]), "one,three");
    assert_eq!(names(&["exited=5"]), "three");
    assert_eq!(names(&["label=tier"]), "one,zwei");
    assert_eq!(names(&["label=tier=db"]), "zwei");
    assert_eq!(
        names(&[&format!("ancestor={}", s.reference)]),
        "one,three,zwei"
    );
    assert_eq!(names(&["ancestor=other"]), "");
    assert_eq!(names(&["since=one"]), "three,zwei");
    assert_eq!(
        s.strata(&["ps", "-l", "-q", "--no-trunc"]).ok().out(),
        s.inspect("three")["Id"].as_str().expect("id")
    );
    s.strata(&["ps", "--filter", "colour=red"]).says("colour");
}

#[test]
fn processes_and_what_they_use_are_shown() {
    let s = Living::new();
    let marker = marker(4);
    let script = format!("sleep {marker} & while :; do :; done");
    s.detached(&["--name", "busy"], &script);
    wait_for_process(&["sleep", &marker]);
    let top = s.strata(&["top", "busy"]).ok().out();
    assert!(
        top.starts_with("UID") && top.contains(&format!("sleep {marker}")),
        "{top}"
    );
    assert_eq!(top.lines().count(), 3, "nobody else's: {top}");
    let top = s
        .strata(&["container", "top", "busy", "-o", "pid,comm"])
        .ok()
        .out();
    assert_eq!(top.lines().count(), 1 + 2, "{top}");
    let ran = s.strata(&["stats", "--no-stream", "--format", "json"]).ok();
    let stats: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    let stats = &stats[0];
    assert_eq!(
        (&stats["name"], &stats["pids"]),
        (&"busy".into(), &2.into())
    );
    assert!(
        stats["cpu_percent"].as_f64().expect("number") > 5.0,
        "{stats}"
    );
    assert!(
        stats["memory_usage"].as_u64().expect("number") > 100_000,
        "{stats}"
    );
    s.strata(&["stop", "-t", "0", "busy"]).ok();
    s.strata(&["top", "busy"]).refused().says("not running");
}

#[test]
fn inspect_tells_what_a_container_is_and_how_it_ended() {
    let s = Living::new();
    let args = [
        "create",
        "--name",
        "told",
        "-e",
        "A=b",
        "-w",
        "/etc",
        "--label",
        "x=y",
        "-t",
        &s.reference,
        "no-such",
    ];
    s.strata(&args).ok();
    let told = s.inspect("told");
    assert_eq!(told["Config"]["WorkingDir"], "/etc");
    assert_eq!(told["Config"]["Tty"], true);
    assert_eq!(told["Config"]["Labels"]["x"], "y");
    let env = told["Config"]["Env"].as_array().expect("list");
    assert!(
        env.contains(&"A=b".into()) && env.contains(&"FROM_IMAGE=yes".into()),
        "{env:?}"
    );
    assert_eq!(told["HostConfig"]["NetworkMode"], "host");
    assert_eq!(s.strata(&["start", "told"]).says("no-such").code(), 1);
    let state = &s.inspect("told")["State"];
    assert_eq!(
        (&state["Status"], &state["ExitCode"]),
        (&"created".into(), &127.into())
    );
    assert!(
        state["Error"].as_str().expect("text").contains("no-such"),
        "{state}"
    );
    s.strata(&["container", "prune", "-f"]).ok();
    s.assert_tidy();
}

#[test]
fn after_a_reboot_nothing_runs_and_everything_can_be_started() {
    let s = Living::new();
    let marker = marker(5);
    s.strata(&[
        "run",
        "-d",
        "--name",
        "before",
        &s.reference,
        "sh",
        "-c",
        &format!("echo x >> /data/boots; exec sleep {marker}"),
    ])
    .ok();
    wait_for_process(&["sleep", &marker]);
    // What a reboot leaves: no process, no mount, and a row that says otherwise.
    let monitor = s.monitor("before");
    kill_process(monitor, Signal::KILL).expect("kill");
    until("both end", || {
        has_ended(monitor) && find_process(&["sleep", &marker]).is_none()
    });
    let mut anew = std::process::Command::new(strata_tests::command::tool("unshare"));
    anew.args([
        "--mount",
        "sh",
        "-c",
        "$0 ps -a; $0 start before; $0 exec before cat /data/boots",
    ])
    .arg(s.scene.strata.program())
    .env("STRATA_ROOT", s.scene.strata.root());
    let ran = strata_tests::command::run(&mut anew).ok();
    assert!(
        ran.out().contains("Exited (137)") && ran.out().ends_with("before\nx\nx"),
        "{}",
        ran.story()
    );
    s.strata(&["rm", "-f", "before"]).ok();
    s.assert_tidy();
}

#[test]
fn who_starts_what_another_starts_at_the_same_time_finds_it_running() {
    let s = Living::new();
    let script = "echo x >> /data/boots; exec sleep 1000";
    s.strata(&["create", "--name", "many", &s.reference, "sh", "-c", script])
        .ok();
    let start = || Running::start(&mut s.scene.strata.command(&["start", "many"]));
    let all: Vec<Running> = (0..8).map(|_| start()).collect();
    for started in all {
        assert_eq!(started.wait().ok().out(), "many");
    }
    assert_eq!(s.status("many"), "running");
    let boots = s.strata(&["exec", "many", "cat", "/data/boots"]).ok();
    assert_eq!(boots.out(), "x", "it was started once");
    s.strata(&["rm", "-f", "many"]).ok();
    s.assert_tidy();
}

#[test]
fn an_image_for_another_kind_of_machine_says_what_it_needs() {
    let s = Living::new();
    let foreign = shell_image().made_for("s390x");
    let reference = s.scene.push(&foreign, "foreign");
    let ran = s
        .strata(&["create", "--platform", "linux/s390x", &reference])
        .ok();
    ran.says("s390x").says("qemu-user-static");
    s.strata(&["run", "--pull", "never", "ap:v1", "true"])
        .says("no such image");
}
