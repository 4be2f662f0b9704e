//! Containers: what is written, deleted and replaced in one is seen in no other and never below, and
//! the process gets and gives what was asked for.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use strata_tests::command::{Ran, Running, run, run_with_input, tool};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::machine::{self, Collector};
use strata_tests::place::{Place, mounts_under};
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::tree::Tree;
use strata_tests::user::need_root;

struct Setup {
    place: Place,
    strata: Strata,
    image: Image,
    reference: String,
}

/// A store with one image of two layers: programs and accounts, and some files.
fn setup() -> Setup {
    need_root();
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let mut collector = Collector::default();
    collector.programs(&["sh"]).expect("a shell");
    collector.programs(&machine::COREUTILS).expect("coreutils");
    let mut base = collector.take().expect("files");
    base.extend(machine::accounts());
    let files = [
        Entry::dir("data/"),
        Entry::file("data/one", "one\n"),
        Entry::file("data/two", "two\n"),
        Entry::dir("data/sub/"),
        Entry::file("data/sub/three", "three\n"),
        Entry::file("data/mine", "mine\n").owner(1000, 1000).mode(0o600),
    ];
    let config = json!({
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FROM_IMAGE=yes"],
        "Cmd": ["/bin/sh", "-c", "echo default"],
        "WorkingDir": "/data",
    });
    let image = Image::with_config(&[Layer::of(&base), Layer::of(&files)], config);
    let reference = server.api().push(&image, "app", "v1");
    let strata = Strata::new(&place);
    strata.pull(&reference);
    Setup { place, strata, image, reference }
}

impl Setup {
    /// Runs a shell script in a new container that goes when it ends.
    fn sh(&self, options: &[&str], script: &str) -> Ran {
        let args = [&["run", "--rm"], options, &[&self.reference, "sh", "-c", script]].concat();
        self.strata.run(&args)
    }

    fn layer_trees(&self) -> Vec<Tree> {
        let layers = self.image.layers.iter();
        layers.map(|l| Tree::read(&self.strata.layer(&l.diff_id).join("fs"))).collect()
    }

    fn assert_tidy(&self) {
        assert_eq!(mounts_under(self.place.path()), [PathBuf::new(); 0]);
        let left = fs::read_dir(self.strata.root().join("containers"));
        let left: Vec<_> = left.into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
        let listed = self.strata.run(&["ps", "-a"]).ok().out();
        assert!(listed.lines().count() <= 1, "{listed}");
    }
}

#[test]
fn containers_do_not_see_each_others_writes_and_layers_stay() {
    let s = setup();
    let before = s.layer_trees();
    let change = "echo changed > /data/one; rm /data/two; rm -r /data/sub; mkdir /data/sub; echo new > /data/sub/new; \
                  echo added > /data/added; chmod 600 /etc/passwd; mv /data/mine /data/moved; cat /data/one";
    let args = ["run", "--name", "first", &s.reference, "sh", "-c", change];
    assert_eq!(s.strata.run(&args).ok().out(), "changed");
    let look = "cat one two sub/three mine; ls /data /data/sub; stat -c %a /etc/passwd";
    let unchanged = "one\ntwo\nthree\nmine\n/data:\nmine\none\nsub\ntwo\n\n/data/sub:\nthree\n644";
    assert_eq!(s.sh(&[], look).ok().out(), unchanged);
    let args = ["run", "--name", "second", &s.reference, "sh", "-c", "echo other > added; cat added one"];
    assert_eq!(s.strata.run(&args).ok().out(), "other\none");
    // The first one's own view is what it made of it.
    let path = PathBuf::from(s.strata.run(&["mount", "first"]).ok().out());
    assert_eq!(fs::read_to_string(path.join("data/added")).expect("there"), "added\n");
    let names = |dir: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path.join(dir))
            .expect("list")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("data"), ["added", "moved", "one", "sub"]);
    assert_eq!(names("data/sub"), ["new"], "a directory made anew hides what was below");
    s.strata.run(&["umount", "first"]).ok();
    for (one, two) in before.iter().zip(s.layer_trees()) {
        one.assert_same(&two);
    }
    let listed = s.strata.run(&["ps", "-a"]).ok().out();
    assert!(listed.contains("first") && listed.contains("second"), "{listed}");
    s.strata.run(&["rm", "first", "second"]).ok();
    s.assert_tidy();
}

#[test]
fn only_what_is_written_is_copied_up() {
    let s = setup();
    let args = ["run", "--name", "small", &s.reference, "sh", "-c", "echo x >> /data/one; cat /bin/sh > /dev/null"];
    s.strata.run(&args).ok();
    let containers = s.strata.root().join("containers");
    let container = fs::read_dir(&containers).expect("list").next().expect("one").expect("entry").path();
    let mut files: Vec<String> = Vec::new();
    for (path, node) in &Tree::read(&container).0 {
        if node.size > 0 && path.to_string_lossy().contains("data/") {
            files.push(path.file_name().expect("named").to_string_lossy().into_owned());
        }
    }
    assert_eq!(files, ["one"]);
    let bytes: u64 = Tree::read(&container).0.values().map(|n| n.size).sum();
    assert!(bytes < 100_000, "a container of one small change takes {bytes} bytes");
    s.strata.run(&["rm", "small"]).ok();
    s.assert_tidy();
}

#[test]
fn the_command_environment_directory_and_user_are_as_asked() {
    let s = setup();
    assert_eq!(s.strata.run(&["run", "--rm", &s.reference]).ok().out(), "default");
    let out = s.sh(&["-e", "A=b c", "-e", "FROM_IMAGE=no"], "echo $A,$FROM_IMAGE,$PATH; pwd").ok().out();
    assert_eq!(out, "b c,no,/usr/local/bin:/usr/bin:/bin\n/data");
    assert_eq!(s.sh(&["-w", "/etc"], "pwd").ok().out(), "/etc");
    let made = s.sh(&["-w", "/not/there/yet"], "pwd").ok().out();
    assert_eq!(made, "/not/there/yet");
    let host = std::env::vars().find(|(name, _)| name == "CARGO_MANIFEST_DIR");
    assert!(host.is_some());
    let inside = s.sh(&[], "echo \"[$CARGO_MANIFEST_DIR]\"; echo \"[$STRATA_ROOT]\"").ok().out();
    assert_eq!(inside, "[]\n[]", "nothing of the caller's environment");
}

#[test]
fn users_by_name_and_number_get_their_groups_and_lose_roots_powers() {
    let s = setup();
    let server = Stratad::start(&s.place.join("users"));
    let cases = [
        ("user", "1000:1000", true),
        ("1000:2000", "1000:2000", true),
        ("user:extra", "1000:2000", true),
        ("4242:4243", "4242:4243", false),
        ("root", "0:0", true),
    ];
    for (n, (user, ids, reads_own)) in cases.into_iter().enumerate() {
        let config = json!({ "User": user, "Cmd": ["sh", "-c", "echo $(id -u):$(id -g); cat /data/mine"] });
        let image = Image::with_config(&s.image.layers, config);
        let reference = server.api().push(&image, "app", &format!("u{n}"));
        let ran = s.strata.run(&["run", "--rm", &reference]);
        assert_eq!(ran.out().lines().next(), Some(ids), "{user}: {}", ran.story());
        assert_eq!(ran.status.success(), reads_own, "{user}: {}", ran.story());
    }
    let image = Image::with_config(&s.image.layers, json!({ "User": "user", "Cmd": ["id", "-G"] }));
    let reference = server.api().push(&image, "app", "groups");
    assert_eq!(s.strata.run(&["run", "--rm", &reference]).ok().out(), "1000 2000");
    let image = Image::with_config(&s.image.layers, json!({ "User": "nobody-here", "Cmd": ["id"] }));
    let reference = server.api().push(&image, "app", "unknown");
    let ran = s.strata.run(&["run", "--rm", &reference]);
    assert!(!ran.status.success() && ran.stderr.contains("nobody-here"), "{}", ran.story());
}

#[test]
fn entrypoints_take_the_command_as_arguments() {
    let s = setup();
    let server = Stratad::start(&s.place.join("entry"));
    let config = json!({ "Entrypoint": ["/bin/echo", "entry"], "Cmd": ["default"] });
    let image = Image::with_config(&s.image.layers, config);
    let reference = server.api().push(&image, "app", "v1");
    assert_eq!(s.strata.run(&["run", "--rm", &reference]).ok().out(), "entry default");
    assert_eq!(s.strata.run(&["run", "--rm", &reference, "a", "-b"]).ok().out(), "entry a -b");
}

#[test]
fn the_exit_status_is_the_containers() {
    let s = setup();
    for code in [0, 1, 7, 125, 255] {
        assert_eq!(s.sh(&[], &format!("exit {code}")).code(), code);
    }
    assert_eq!(s.sh(&[], "kill -9 $$; sleep 9").code(), 137);
    assert_eq!(s.sh(&[], "kill -TERM $$; sleep 9").code(), 143);
    let missing = s.strata.run(&["run", "--rm", &s.reference, "no-such-program"]);
    assert_eq!(missing.code(), 127, "{}", missing.story());
    assert!(missing.stderr.contains("no-such-program"), "{}", missing.story());
    let not_program = s.strata.run(&["run", "--rm", &s.reference, "/data/one"]);
    assert_eq!(not_program.code(), 126, "{}", not_program.story());
    s.assert_tidy();
}

#[test]
fn stdin_stdout_and_stderr_pass_through() {
    let s = setup();
    let input = "line\n".repeat(50_000);
    let mut command = s.strata.command(&["run", "--rm", "-i", &s.reference, "cat"]);
    let ran = run_with_input(&mut command, input.as_bytes()).ok();
    assert!(ran.stdout == input.as_bytes(), "{} bytes of {}", ran.stdout.len(), input.len());
    let ran = s.sh(&[], "echo out; echo err >&2").ok();
    assert_eq!((ran.out().as_str(), ran.stderr.trim()), ("out", "err"));
}

#[test]
fn signals_reach_the_process() {
    let s = setup();
    let script = "trap 'echo got TERM; exit 5' TERM; trap 'echo got INT; exit 6' INT; echo ready; while :; do sleep 0.05; done";
    for (signal, word, code) in [(Signal::TERM, "got TERM", 5), (Signal::INT, "got INT", 6)] {
        let ready = s.place.join("ready");
        let _ = fs::remove_file(&ready);
        let args = ["run", "--rm", &s.reference, "sh", "-c", script];
        let running = Running::start(&mut s.strata.command(&args));
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
fn a_container_whose_runner_is_killed_does_not_live_on() {
    let s = setup();
    let marker = format!("{}", 100_000 + std::process::id());
    let args = ["run", "--name", "victim", &s.reference, "sleep", &marker];
    let mut running = Running::start(&mut s.strata.command(&args));
    let limit = Instant::now() + Duration::from_secs(10);
    while !alive(&marker) {
        assert!(Instant::now() < limit, "the container did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let busy = s.strata.run(&["rm", "victim"]);
    assert!(!busy.status.success(), "a running container is not removed: {}", busy.story());
    running.child.kill().expect("kill");
    running.wait();
    let limit = Instant::now() + Duration::from_secs(10);
    while alive(&marker) {
        assert!(Instant::now() < limit, "the container's process lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
    s.strata.run(&["rm", "-f", "victim"]).ok();
    s.assert_tidy();
}

/// Whether a process `sleep MARKER` is there.
fn alive(marker: &str) -> bool {
    let wanted = format!("sleep\0{marker}\0");
    fs::read_dir("/proc").expect("list").flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline"));
        line.is_ok_and(|line| line == wanted.as_bytes())
    })
}

#[test]
fn rm_f_ends_a_running_container() {
    let s = setup();
    let args = ["run", "--name", "long", &s.reference, "sleep", "1000"];
    let running = Running::start(&mut s.strata.command(&args));
    let limit = Instant::now() + Duration::from_secs(10);
    while !s.strata.run(&["ps"]).ok().out().contains("long") {
        assert!(Instant::now() < limit, "ps does not show it");
        std::thread::sleep(Duration::from_millis(50));
    }
    s.strata.run(&["rm", "-f", "long"]).ok();
    assert!(!running.wait().status.success());
    s.assert_tidy();
}

#[test]
fn the_container_has_namespaces_proc_sys_dev_and_the_hosts_network() {
    let s = setup();
    let script = "echo $$; ls /proc/1/exe > /dev/null && echo proc; test -c /dev/null && echo x > /dev/null && echo dev; \
                  test -e /dev/pts/ptmx && test -d /dev/shm && echo pts; touch /sys/x 2>/dev/null || echo sys-ro; \
                  touch /proc/sys/kernel/hostname 2>/dev/null; ls /dev | wc -l";
    let out = s.sh(&[], script).ok().out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..5], ["1", "proc", "dev", "pts", "sys-ro"], "{out}");
    let devices: usize = lines[5].parse().expect("number");
    assert!(devices < 25, "only harmless devices: {devices}");
    for name in ["mnt", "pid", "uts", "ipc"] {
        let inside = s.sh(&[], &format!("stat -L -c %i /proc/self/ns/{name}")).ok().out();
        let outside = run(std::process::Command::new(tool("stat")).args(["-L", "-c", "%i", &format!("/proc/self/ns/{name}")])).ok();
        assert_ne!(inside, outside.out(), "{name}");
    }
    let net = "stat -L -c %i /proc/self/ns/net";
    let outside = run(std::process::Command::new(tool("sh")).args(["-c", net])).ok().out();
    assert_eq!(s.sh(&[], net).ok().out(), outside, "the host's network");
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(s.sh(&[], "cat /etc/resolv.conf").ok().out(), resolv.trim_end());
    assert!(s.sh(&[], "cat /etc/hosts").ok().out().contains("localhost"));
    let mounts = s.sh(&[], "cat /proc/self/mountinfo").ok().out();
    let host_paths = mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|p| p.contains("store")));
    assert_eq!(host_paths.count(), 0, "the host's tree is not there:\n{mounts}");
}

#[test]
fn a_terminal_is_given_when_asked_for() {
    let s = setup();
    // script(1) gives strata itself a terminal.
    let line = format!(
        "{} run --rm -it {} sh -c 'test -t 0 && test -t 1 && echo is-a-terminal; exit 3'",
        s.strata.program().display(),
        s.reference
    );
    let mut command = std::process::Command::new(tool("script"));
    command.args(["-qec", &line, "/dev/null"]).env("STRATA_ROOT", s.strata.root());
    let ran = run(&mut command);
    assert!(ran.out().contains("is-a-terminal"), "{}", ran.story());
    assert_eq!(ran.code(), 3, "{}", ran.story());
    let without = s.sh(&[], "test -t 1 || echo none").ok();
    assert_eq!(without.out(), "none");
}

#[test]
fn names_are_unique_and_unknown_ones_are_refused() {
    let s = setup();
    s.strata.run(&["run", "--name", "one", &s.reference, "true"]).ok();
    s.strata.run(&["run", "--name", "one", &s.reference, "true"]).refused_by_run("one");
    s.strata.run(&["rm", "two"]).refused().says("two");
    s.strata.run(&["run", "--rm", "127.0.0.1:1/no/such:image", "true"]).refused_by_run("127.0.0.1:1");
    s.strata.run(&["rm", "one"]).ok();
    s.assert_tidy();
}

/// `run` refuses with 125, so that it is not taken for the container's own status.
trait Refused {
    fn refused_by_run(self, word: &str);
}

impl Refused for Ran {
    #[track_caller]
    fn refused_by_run(self, word: &str) {
        assert!([1, 125].contains(&self.code()), "{}", self.story());
        assert!(!self.stderr.contains("panicked"), "{}", self.story());
        self.says(word);
    }
}

#[test]
fn an_image_that_a_container_uses_keeps_its_layers() {
    let s = setup();
    s.strata.run(&["run", "--name", "user", &s.reference, "sh", "-c", "echo kept > /data/own"]).ok();
    let _ = s.strata.run(&["rmi", &s.reference]);
    assert_eq!(s.strata.layers().len(), 2, "a container stands on them");
    let path = PathBuf::from(s.strata.run(&["mount", "user"]).ok().out());
    assert_eq!(fs::read_to_string(path.join("data/one")).expect("there"), "one\n");
    s.strata.run(&["umount", "user"]).ok();
    s.strata.run(&["rm", "user"]).ok();
}

#[test]
fn a_mounted_image_has_a_writable_layer_of_its_own() {
    let s = setup();
    let before = s.layer_trees();
    let path = PathBuf::from(s.strata.run(&["mount", &s.reference]).ok().out());
    assert_eq!(fs::read_to_string(path.join("data/one")).expect("there"), "one\n");
    fs::write(path.join("data/one"), "changed").expect("writable");
    fs::remove_file(path.join("data/two")).expect("writable");
    s.strata.run(&["umount", path.to_str().expect("text")]).ok();
    assert_eq!(mounts_under(s.place.path()), [PathBuf::new(); 0]);
    for (one, two) in before.iter().zip(s.layer_trees()) {
        one.assert_same(&two);
    }
    assert_eq!(s.sh(&[], "cat one two").ok().out(), "one\ntwo");
}

#[test]
fn many_containers_run_at_once() {
    let s = setup();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let s = &s;
            scope.spawn(move || {
                let script = format!("echo {n} > /data/one; sleep 0.2; cat /data/one");
                assert_eq!(s.sh(&[], &script).ok().out(), n.to_string());
            });
        }
    });
    s.assert_tidy();
}
