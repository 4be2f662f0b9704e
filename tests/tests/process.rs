//! The process in a container gets and gives what was asked for: command, environment, user, input and
//! output, terminal, signals, exit status, namespaces.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use strata_tests::command::{Running, run, run_with_input, tool, wait_for_process};
use strata_tests::image::Image;
use strata_tests::scene::Shell;
use strata_tests::stratad::Stratad;

#[test]
fn the_command_environment_directory_and_user_are_as_asked() {
    let s = Shell::new();
    assert_eq!(
        s.strata(&["run", "--rm", &s.reference]).ok().out(),
        "default"
    );
    let out = s
        .sh(
            &["-e", "A=b c", "-e", "FROM_IMAGE=no"],
            "echo $A,$FROM_IMAGE,$PATH; pwd",
        )
        .ok()
        .out();
    assert_eq!(out, "b c,no,/usr/local/bin:/usr/bin:/bin\n/data");
    assert_eq!(s.sh(&["-w", "/etc"], "pwd").ok().out(), "/etc");
    let made = s.sh(&["-w", "/not/there/yet"], "pwd").ok().out();
    assert_eq!(made, "/not/there/yet");
    let host = std::env::vars().find(|(name, _)| name == "CARGO_MANIFEST_DIR");
    assert!(host.is_some());
    let inside = s
        .sh(
            &[],
            "echo \"[$CARGO_MANIFEST_DIR]\"; echo \"[$STRATA_ROOT]\"",
        )
        .ok()
        .out();
    assert_eq!(inside, "[]\n[]", "nothing of the caller's environment");
}

#[test]
fn users_by_name_and_number_get_their_groups_and_lose_roots_powers() {
    let s = Shell::new();
    let server = Stratad::start(&s.scene.place.join("users"));
    let cases = [
        ("user", "1000:1000", true),
        ("1000:2000", "1000:2000", true),
        ("user:extra", "1000:2000", true),
        ("4242:4243", "4242:4243", false),
        ("root", "0:0", true),
    ];
    for (n, (user, ids, reads_own)) in cases.into_iter().enumerate() {
        let config =
            json!({ "User": user, "Cmd": ["sh", "-c", "echo $(id -u):$(id -g); cat /data/mine"] });
        let image = Image::with_config(&s.image.layers, config);
        let reference = server.api().push(&image, "app", &format!("u{n}"));
        let ran = s.strata(&["run", "--rm", &reference]);
        assert_eq!(
            ran.out().lines().next(),
            Some(ids),
            "{user}: {}",
            ran.story()
        );
        assert_eq!(ran.status.success(), reads_own, "{user}: {}", ran.story());
    }
    let image = Image::with_config(
        &s.image.layers,
        json!({ "User": "user", "Cmd": ["id", "-G"] }),
    );
    let reference = server.api().push(&image, "app", "groups");
    assert_eq!(
        s.strata(&["run", "--rm", &reference]).ok().out(),
        "1000 2000"
    );
    let image = Image::with_config(
        &s.image.layers,
        json!({ "User": "nobody-here", "Cmd": ["id"] }),
    );
    let reference = server.api().push(&image, "app", "unknown");
    let ran = s.strata(&["run", "--rm", &reference]);
    assert!(
        !ran.status.success() && ran.stderr.contains("nobody-here"),
        "{}",
        ran.story()
    );
}

#[test]
fn entrypoints_take_the_command_as_arguments() {
    let s = Shell::new();
    let server = Stratad::start(&s.scene.place.join("entry"));
    let config = json!({ "Entrypoint": ["/bin/echo", "entry"], "Cmd": ["default"] });
    let image = Image::with_config(&s.image.layers, config);
    let reference = server.api().push(&image, "app", "v1");
    assert_eq!(
        s.strata(&["run", "--rm", &reference]).ok().out(),
        "entry default"
    );
    assert_eq!(
        s.strata(&["run", "--rm", &reference, "a", "-b"]).ok().out(),
        "entry a -b"
    );
}

#[test]
fn the_exit_status_is_the_containers() {
    let s = Shell::new();
    for code in [0, 1, 7, 125, 255] {
        assert_eq!(s.sh(&[], &format!("exit {code}")).code(), code);
    }
    // The first process of a container gets no signal from inside that it does not handle; this one comes from outside.
    let marker = (200_000 + std::process::id()).to_string();
    let args = ["run", "--rm", &s.reference, "sleep", &marker];
    let running = Running::start(&mut s.scene.strata.command(&args));
    let container = wait_for_process(&["sleep", &marker]);
    rustix::process::kill_process(container, Signal::KILL).expect("signal");
    assert_eq!(running.wait().code(), 137);
    let missing = s
        .scene
        .strata
        .run(&["run", "--rm", &s.reference, "no-such-program"]);
    assert_eq!(missing.code(), 127, "{}", missing.story());
    assert!(
        missing.stderr.contains("no-such-program"),
        "{}",
        missing.story()
    );
    let not_program = s.strata(&["run", "--rm", &s.reference, "/data/one"]);
    assert_eq!(not_program.code(), 126, "{}", not_program.story());
    s.assert_tidy();
}

#[test]
fn stdin_stdout_and_stderr_pass_through() {
    let s = Shell::new();
    let input = "line\n".repeat(50_000);
    let mut command = s
        .scene
        .strata
        .command(&["run", "--rm", "-i", &s.reference, "cat"]);
    let ran = run_with_input(&mut command, input.as_bytes()).ok();
    assert!(
        ran.stdout == input.as_bytes(),
        "{} bytes of {}",
        ran.stdout.len(),
        input.len()
    );
    let ran = s.sh(&[], "echo out; echo err >&2").ok();
    assert_eq!((ran.out().as_str(), ran.stderr.trim()), ("out", "err"));
}

#[test]
fn signals_reach_the_process() {
    let s = Shell::new();
    let script = "trap 'echo got TERM; exit 5' TERM; trap 'echo got INT; exit 6' INT; echo ready; while :; do sleep 0.05; done";
    for (signal, word, code) in [(Signal::TERM, "got TERM", 5), (Signal::INT, "got INT", 6)] {
        let ready = s.scene.place.join("ready");
        let _ = fs::remove_file(&ready);
        let args = ["run", "--rm", &s.reference, "sh", "-c", script];
        let running = Running::start(&mut s.scene.strata.command(&args));
        // "ready" is in a pipe that is read at the end: time enough for the trap to be set.
        std::thread::sleep(Duration::from_millis(700));
        running.signal(signal);
        let ran = running.wait();
        assert_eq!(ran.code(), code, "{}", ran.story());
        assert!(ran.out().contains(word), "{}", ran.story());
    }
    s.assert_tidy();
}

#[test]
fn the_container_has_namespaces_proc_sys_dev_and_the_hosts_network() {
    let s = Shell::new();
    let script = "echo $$; ls /proc/1/exe > /dev/null && echo proc; test -c /dev/null && echo x > /dev/null && echo dev; \
                  test -e /dev/pts/ptmx && test -d /dev/shm && echo pts; touch /sys/x 2>/dev/null || echo sys-ro; \
                  touch /proc/sys/kernel/hostname 2>/dev/null; ls /dev | wc -l";
    let out = s.sh(&[], script).ok().out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..5], ["1", "proc", "dev", "pts", "sys-ro"], "{out}");
    let devices: usize = lines[5].parse().expect("number");
    assert!(devices < 25, "only harmless devices: {devices}");
    for name in ["mnt", "pid", "uts", "ipc"] {
        let inside = s
            .sh(&[], &format!("stat -L -c %i /proc/self/ns/{name}"))
            .ok()
            .out();
        let outside = run(Command::new(tool("stat")).args([
            "-L",
            "-c",
            "%i",
            &format!("/proc/self/ns/{name}"),
        ]))
        .ok();
        assert_ne!(inside, outside.out(), "{name}");
    }
    let net = "stat -L -c %i /proc/self/ns/net";
    let outside = run(Command::new(tool("sh")).args(["-c", net])).ok().out();
    assert_eq!(s.sh(&[], net).ok().out(), outside, "the host's network");
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(
        s.sh(&[], "cat /etc/resolv.conf").ok().out(),
        resolv.trim_end()
    );
    assert!(s.sh(&[], "cat /etc/hosts").ok().out().contains("localhost"));
    let mounts = s.sh(&[], "cat /proc/self/mountinfo").ok().out();
    let host_paths = mounts
        .lines()
        .filter(|line| line.split(' ').nth(4).is_some_and(|p| p.contains("store")));
    assert_eq!(
        host_paths.count(),
        0,
        "the host's tree is not there:\n{mounts}"
    );
}

#[test]
fn a_terminal_is_given_when_asked_for() {
    let s = Shell::new();
    // script(1) gives strata itself a terminal.
    let line = format!(
        "{} run --rm -it {} sh -c 'test -t 0 && test -t 1 && echo is-a-terminal; exit 3'",
        s.scene.strata.program().display(),
        s.reference
    );
    let mut command = Command::new(tool("script"));
    command
        .args(["-qec", &line, "/dev/null"])
        .env("STRATA_ROOT", s.scene.strata.root());
    let ran = run(&mut command);
    assert!(ran.out().contains("is-a-terminal"), "{}", ran.story());
    assert_eq!(ran.code(), 3, "{}", ran.story());
    let without = s.sh(&[], "test -t 1 || echo none").ok();
    assert_eq!(without.out(), "none");
}
