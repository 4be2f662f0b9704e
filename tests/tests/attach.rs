//! Who talks to a container that runs: further commands, attached terminals and pipes, readers of its log.

use std::time::Duration;

use strata_tests::command::{Ran, Running, run_with_input};
use strata_tests::living::{Living, until};
use strata_tests::terminal::Terminal;

#[test]
fn a_further_command_has_the_containers_world_and_its_own_exit_code() {
    let s = Living::new();
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
    let s = Living::new();
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
fn attach_shows_what_comes_and_passes_input() {
    let s = Living::new();
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
    let s = Living::new();
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
    let s = Living::new();
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
    let s = Living::new();
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
    let s = Living::new();
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
fn what_nobody_reads_any_more_ends_as_in_a_pipeline() {
    let s = Living::new();
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
    let s = Living::new();
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
