//! The life of containers: created, started, left alone, looked at, talked to, held still, stopped, removed.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use strata_tests::command::{Ran, Running, find_process, run_with_input, wait_for_process};
use strata_tests::image::{Image, Layer};
use strata_tests::machine::Collector;
use strata_tests::scene::{Scene, shell_image};
use strata_tests::terminal::Terminal;
use strata_tests::user::need_root;

struct Setup {
    scene: Scene,
    reference: String,
}

/// A store with an image of a shell and some files.
fn setup() -> Setup {
    need_root();
    let scene = Scene::new();
    let mut collector = Collector::default();
    collector.programs(&["stty", "tty"]).expect("programs");
    let layers = [
        shell_image().layers,
        vec![Layer::of(&collector.take().expect("files"))],
    ]
    .concat();
    let config = json!({
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FROM_IMAGE=yes"],
        "Cmd": ["/bin/sh"],
        "WorkingDir": "/data",
    });
    let reference = scene.push(&Image::with_config(&layers, config), "v1");
    scene.strata.pull(&reference);
    Setup { scene, reference }
}

/// A number that no other test's process has in its command line.
fn marker(n: u32) -> String {
    format!("{}{n:02}", 1_000_000 + std::process::id())
}

impl Setup {
    #[track_caller]
    fn strata(&self, args: &[&str]) -> Ran {
        self.scene.strata.run(args)
    }

    /// Starts a container in the background; its id.
    #[track_caller]
    fn detached(&self, options: &[&str], script: &str) -> String {
        let args = [
            &["run", "-d"],
            options,
            &[&self.reference, "sh", "-c", script],
        ]
        .concat();
        self.strata(&args).ok().out()
    }

    #[track_caller]
    fn inspect(&self, name: &str) -> Value {
        let ran = self.strata(&["inspect", "--type", "container", name]).ok();
        let all: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        all[0].clone()
    }

    fn status(&self, name: &str) -> String {
        self.inspect(name)["State"]["Status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The monitor of a running container.
    #[track_caller]
    fn monitor(&self, name: &str) -> Pid {
        let pid = self.inspect(name)["State"]["Pid"].as_i64().expect("a pid");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("runs");
        let (_, rest) = stat.rsplit_once(')').expect("stat");
        let parent = rest.split_whitespace().nth(1).expect("parent");
        Pid::from_raw(parent.parse().expect("number")).expect("pid")
    }

    fn assert_tidy(&self) {
        self.scene.assert_no_containers();
    }
}

impl Drop for Setup {
    /// What a failed test left running would run for ever.
    fn drop(&mut self) {
        let ids = self.strata(&["ps", "-aq"]).out();
        for id in ids.lines() {
            let _ = self.strata(&["rm", "-f", id]);
        }
    }
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_detached_container_outlives_its_command_and_says_what_it_printed() {
    let s = setup();
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
    let s = setup();
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
    let s = setup();
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
    let s = setup();
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
    let s = setup();
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
    until("it removes itself", || {
        s.strata(&["ps", "-aq"]).ok().out().lines().count() == 1
    });
    s.strata(&["kill", "one"]).refused().says("not running");
    s.strata(&["kill", "-s", "NONSENSE", "one"])
        .says("NONSENSE");
    s.strata(&["rm", "one"]).ok();
    s.assert_tidy();
}

#[test]
fn stop_asks_first_and_uses_the_containers_signal_and_time() {
    let s = setup();
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
fn a_further_command_has_the_containers_world_and_its_own_exit_code() {
    let s = setup();
    s.detached(
        &[
            "--name",
            "box",
            "-e",
            "FROM=container",
            "--hostname",
            "boxy",
        ],
        "exec sleep 1000",
    );
    let exec = |options: &[&str], command: &[&str]| {
        s.strata(&[&["exec"], options, &["box"], command].concat())
    };
    let look = "echo $FROM,$MORE; pwd; hostname 2>/dev/null || cat /proc/sys/kernel/hostname; id -u; cat one";
    let ran = exec(&["-e", "MORE=x"], &["sh", "-c", look]).ok();
    assert_eq!(ran.out(), "container,x\n/data\nboxy\n0\none");
    let ran = exec(
        &["-w", "/etc", "-u", "user"],
        &["sh", "-c", "pwd; id -u; exit 9"],
    );
    assert_eq!(
        (ran.out().as_str(), ran.code()),
        ("/etc\n1000", 9),
        "{}",
        ran.story()
    );
    assert_eq!(
        exec(&[], &["no-such-program"])
            .says("no-such-program")
            .code(),
        127
    );
    assert_eq!(exec(&[], &["/data/one"]).says("/data/one").code(), 126);
    assert_eq!(exec(&["-w", "/none"], &["true"]).says("/none").code(), 126);
    let mut echo = s.scene.strata.command(&["exec", "-i", "box", "cat"]);
    assert_eq!(run_with_input(&mut echo, b"typed").ok().out(), "typed");
    exec(&["-d"], &["sh", "-c", "echo left > /data/left"]).ok();
    until("it has run", || {
        exec(&[], &["cat", "/data/left"]).out() == "left"
    });
    assert_eq!(
        s.strata(&["logs", "box"]).ok().out(),
        "",
        "only the first one's words are kept"
    );
    s.strata(&["stop", "-t", "0", "box"]).ok();
    assert_eq!(exec(&[], &["true"]).says("not running").code(), 1);
}

#[test]
fn a_further_command_has_no_more_rights_than_the_container() {
    let s = setup();
    s.detached(&["--name", "box"], "exec sleep 1000");
    let script = "cat /proc/self/status /proc/self/cgroup /proc/self/oom_score_adj; ulimit -n; ls /proc/self/fd | wc -l";
    let rights = |ran: Ran| -> Vec<String> {
        let told = ran.ok().out();
        let mut lines = told.lines().map(str::to_owned);
        let of_process = |line: &String| {
            let words = [
                "Cap",
                "NoNewPrivs",
                "Seccomp:",
                "Groups",
                "Uid",
                "Gid",
                "Umask",
                "SigIgn",
                "SigBlk",
            ];
            words.iter().any(|word| line.starts_with(word)) || !line.contains(":\t")
        };
        let chosen: Vec<String> = lines.by_ref().filter(of_process).collect();
        assert!(chosen.len() > 12, "{told}");
        chosen
    };
    let in_box = |options: &[&str], command: &[&str]| {
        s.strata(&[&["exec"], options, &["box"], command].concat())
    };
    let first = "sleep 0; ".to_owned() + script;
    let first = s.strata(&["run", "--rm", &s.reference, "sh", "-c", &first]);
    assert_eq!(rights(in_box(&[], &["sh", "-c", script])), rights(first));
    for name in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let same = format!(
            "test $(stat -L -c %i /proc/1/ns/{name}) = $(stat -L -c %i /proc/self/ns/{name})"
        );
        in_box(&[], &["sh", "-c", &same]).ok();
    }
    let capabilities = |ran: Ran| {
        let told = ran.ok().out();
        let line = told
            .lines()
            .find(|line| line.starts_with("CapEff"))
            .expect("told")
            .to_owned();
        u64::from_str_radix(line.trim_start_matches("CapEff:").trim(), 16).expect("a number")
    };
    let own = capabilities(in_box(&[], &["cat", "/proc/self/status"]));
    let all = capabilities(in_box(&["--privileged"], &["cat", "/proc/self/status"]));
    assert!(all & own == own && all > own, "{own:x} {all:x}");
}

#[test]
fn a_paused_container_stands_still_until_it_goes_on() {
    let s = setup();
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
fn attach_shows_what_comes_and_passes_input() {
    let s = setup();
    let args = [
        "run",
        "-d",
        "-i",
        "--name",
        "echo",
        &s.reference,
        "sh",
        "-c",
        "while read l; do echo got $l; done; echo end",
    ];
    s.strata(&args).ok();
    let mut attach = s.scene.strata.command(&["attach", "echo"]);
    let running = {
        attach.stdin(std::process::Stdio::piped());
        Running::start(&mut attach)
    };
    let mut running = running;
    let mut input = running.child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, b"one\n").expect("write");
    until("it is echoed", || {
        s.strata(&["logs", "echo"]).out() == "got one"
    });
    drop(input);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        s.status("echo"),
        "running",
        "its input does not end with who is attached"
    );
    s.strata(&["kill", "echo"]).ok();
    let ran = running.wait();
    assert_eq!(
        (ran.out().as_str(), ran.code()),
        ("got one", 137),
        "{}",
        ran.story()
    );
    s.strata(&["attach", "echo"])
        .refused()
        .says("stopped container");
}

#[test]
fn a_terminal_is_left_by_keys_and_taken_again() {
    let s = setup();
    let program = s
        .scene
        .strata
        .command(&["run", "-it", "--name", "shell", &s.reference, "sh"]);
    let mut terminal = Terminal::start(&program);
    terminal.wait_for("# ");
    terminal.keys("stty size; echo te''xt\n");
    terminal.wait_for("24 80");
    terminal.wait_for("text");
    terminal.keys([16, 17]);
    assert_eq!(terminal.wait(), 0);
    assert_eq!(s.status("shell"), "running");
    let mut terminal = Terminal::start(&s.scene.strata.command(&["attach", "shell"]));
    terminal.keys("echo aga''in\n");
    terminal.wait_for("again");
    terminal.keys([16, 17]);
    terminal.wait_for("read escape sequence");
    assert_eq!(terminal.wait(), 1);
    let attach = s
        .scene
        .strata
        .command(&["attach", "--detach-keys", "ctrl-x", "shell"]);
    let mut terminal = Terminal::start(&attach);
    terminal.resize(30, 100);
    until("the size follows", || {
        terminal.keys("stty size\n");
        std::thread::sleep(Duration::from_millis(50));
        terminal.screen().contains("30 100")
    });
    terminal.keys("exit 5\n");
    assert_eq!(terminal.wait(), 5);
    s.strata(&["rm", "shell"]).ok();
}

#[test]
fn a_further_command_has_a_terminal_of_the_container() {
    let s = setup();
    s.detached(&["--name", "box"], "exec sleep 1000");
    let mut terminal = Terminal::start(&s.scene.strata.command(&["exec", "-it", "box", "sh"]));
    terminal.wait_for("# ");
    terminal.keys("tty; stty size; echo $TERM; exit 6\n");
    terminal.wait_for("/dev/pts/");
    terminal.wait_for("24 80");
    terminal.wait_for("xterm");
    assert_eq!(terminal.wait(), 6);
}

#[test]
fn ctrl_c_reaches_the_program_and_not_the_monitor() {
    let s = setup();
    let trap = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.02; done";
    let command = s
        .scene
        .strata
        .command(&["run", "-it", "--rm", &s.reference, "sh", "-c", trap]);
    let mut terminal = Terminal::start(&command);
    terminal.wait_for("ready");
    terminal.keys([3]);
    terminal.wait_for("caught");
    assert_eq!(terminal.wait(), 3);
    s.assert_tidy();
}

#[test]
fn logs_are_chosen_followed_and_dated() {
    let s = setup();
    let script =
        "for n in 1 2 3 4 5; do echo $n; done; sleep 0.5; echo later; sleep 0.3; printf unfinished";
    s.detached(&["--name", "talk"], script);
    let ran = s.strata(&["logs", "-f", "--tail", "2", "talk"]).ok();
    assert!(
        ran.out().ends_with("later\nunfinished"),
        "to the end: {}",
        ran.story()
    );
    let dated = s.strata(&["logs", "-t", "talk"]).ok().out();
    let first = dated.lines().next().expect("a line");
    assert!(first.ends_with("Z 1") && first.starts_with("20"), "{first}");
    let time = |text: &str| {
        let line = dated.lines().find(|l| l.ends_with(text)).expect("there");
        line.split(' ').next().expect("time").to_owned()
    };
    let since = s
        .strata(&["logs", "--since", &time("later"), "talk"])
        .ok()
        .out();
    assert_eq!(since, "later\nunfinished");
    let until = s
        .strata(&["logs", "--until", &time(" 3"), "talk"])
        .ok()
        .out();
    assert!(
        until.starts_with("1\n2\n3") && !until.contains("later"),
        "{until}"
    );
    assert_eq!(s.strata(&["logs", "--tail", "0", "talk"]).ok().out(), "");
    s.strata(&["logs", "talc"])
        .refused()
        .says("did you mean talk");
}

#[test]
fn names_change_and_lists_are_filtered() {
    let s = setup();
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
    let s = setup();
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
    let s = setup();
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
fn what_nobody_reads_any_more_ends_as_in_a_pipeline() {
    let s = setup();
    let line = format!(
        "{} run --rm {} sh -c 'while echo line; do :; done' | head -n 1",
        s.scene.strata.program().display(),
        s.reference
    );
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &line])
        .env("STRATA_ROOT", s.scene.strata.root());
    assert_eq!(strata_tests::command::run(&mut shell).ok().out(), "line");
    until("it ends", || s.strata(&["ps", "-aq"]).ok().out().is_empty());
    s.assert_tidy();
}

#[test]
fn a_reader_that_is_slow_loses_nothing() {
    let s = setup();
    let args = [
        "run",
        "--rm",
        "-i",
        &s.reference,
        "sh",
        "-c",
        "cat; cat one",
    ];
    let input = "0123456789abcde\n".repeat(400_000);
    let mut command = s.scene.strata.command(&args);
    let ran = run_with_input(&mut command, input.as_bytes()).ok();
    assert_eq!(ran.stdout.len(), input.len() + 4);
    s.assert_tidy();
}

#[test]
fn after_a_reboot_nothing_runs_and_everything_can_be_started() {
    let s = setup();
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
    kill_process(s.monitor("before"), Signal::KILL).expect("kill");
    until("it ends", || find_process(&["sleep", &marker]).is_none());
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
fn an_image_for_another_kind_of_machine_says_what_it_needs() {
    let s = setup();
    let foreign = shell_image().made_for("s390x");
    let reference = s.scene.push(&foreign, "foreign");
    let ran = s
        .strata(&["create", "--platform", "linux/s390x", &reference])
        .ok();
    ran.says("s390x").says("qemu-user-static");
    s.strata(&["run", "--pull", "never", "ap:v1", "true"])
        .says("no such image");
}
