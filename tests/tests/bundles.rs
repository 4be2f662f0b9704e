//! Bundles run unchanged under the runtimes that others have made, by root and by an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rustix::fs::{FileType, Mode};
use serde_json::Value;
use strata_tests::both::{Side, tools_image};
use strata_tests::command::{Ran, run, run_with_input, tool};
use strata_tests::living::until;
use strata_tests::user::User;

const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// Runs a bundle to its end.
fn run_bundle(side: &Side, id: u32, runtime: &str, bundle: &Path) -> Ran {
    let state = side.shared(&format!(
        "state-{runtime}-{}",
        bundle.display().to_string().len()
    ));
    let program = tool(runtime);
    let inner = match side.rootless {
        false => Command::new(&program),
        true => User::new(&side.place, id).command(&program),
    };
    // Older runtimes refuse a machine that has both versions of control groups.
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let mut command = Command::new(tool("unshare"));
    command.args(["-m", "sh", "-c", script, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    if side.rootless {
        command.current_dir("/");
    }
    command.arg("--root").arg(&state);
    if side.rootless && runtime == "crun" {
        command.arg("--cgroup-manager=disabled");
    }
    let name = format!("strata-test-{}-{id}-{runtime}", std::process::id());
    run(command.args(["run", "--bundle"]).arg(bundle).arg(name))
}

#[test]
fn crun_and_runc_run_what_an_image_says() {
    Side::each(61_140, |s| {
        let bundle = s.shared("out").join("bundle");
        let at = bundle.to_str().expect("text");
        let script = "id -u; pwd; cat one; cat /proc/self/attr/current 2>/dev/null; grep -E '^(CapBnd|Seccomp|NoNewPrivs):' /proc/self/status; cat /in/file; cat /vol/seed; hostname 2>/dev/null; exit 7";
        let shared = s.shared("shared");
        fs::write(shared.join("file"), "shared\n").expect("write");
        let volume = format!("{}:/in:ro", shared.display());
        let args = [
            "bundle",
            "-v",
            &volume,
            "--security-opt",
            "no-new-privileges",
            "--tmpfs",
            "/t",
            "--cap-drop",
            "MKNOD",
            "--hostname",
            "box",
            &s.reference,
            at,
            "sh",
            "-c",
            script,
        ];
        s.strata.run(&args).ok();
        for runtime in RUNTIMES {
            let ran = run_bundle(s, 61_140, runtime, &bundle);
            assert_eq!(ran.code(), 7, "{}", ran.story());
            let out = ran.out();
            assert!(out.starts_with("0\n/data\none\n"), "{}", ran.story());
            assert!(
                out.contains("CapBnd:\t00000000a00425fb")
                    && out.contains("Seccomp:\t2")
                    && out.contains("NoNewPrivs:\t1"),
                "{}",
                ran.story()
            );
            assert!(out.contains("shared\nseed"), "{}", ran.story());
        }
        // A bundle is not written over something.
        s.strata
            .run(&["bundle", &s.reference, at])
            .refused()
            .says("not an empty directory");
    });
}

#[test]
fn a_bundle_filters_system_calls_and_hides_the_host() {
    let s = Side::new(61_141, false, &tools_image());
    let bundle = s.shared("out").join("bundle");
    let script = "unshare -U true 2>/dev/null || echo refused; rm -f /n /m; mknod /n c 1 5 && head -c 1 /n | wc -c; \
        mknod /m b 7 0; head -c 1 /m 2>/dev/null | wc -c; cat /proc/kcore 2>/dev/null | head -c 1 | wc -c; (echo x > /proc/sys/kernel/hostname) 2>/dev/null || echo read-only";
    let args = [
        "bundle",
        "--network",
        "none",
        &s.reference,
        bundle.to_str().expect("text"),
        "sh",
        "-c",
        script,
    ];
    s.strata.run(&args).ok();
    let config: Value =
        serde_json::from_slice(&fs::read(bundle.join("config.json")).expect("read")).expect("JSON");
    assert_eq!(config["ociVersion"], "1.0.2");
    assert_eq!(config["hostname"], "bundle");
    for runtime in RUNTIMES {
        let ran = run_bundle(&s, 61_141, runtime, &bundle);
        assert_eq!(ran.out(), "refused\n1\n0\n0\nread-only", "{}", ran.story());
    }
}

#[test]
fn crun_and_runc_hold_to_every_option() {
    let s = Side::new(61_143, false, &tools_image());
    let bundle = s.shared("out").join("bundle");
    // FUSE's: not one that every container may open, and nothing happens when it is opened.
    let node = s.place.join("fuse");
    let number = rustix::fs::makedev(10, 229);
    let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
    rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, number).expect("mknod");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).expect("chmod");
    let device = format!("{}:/dev/mine:r", node.display());
    let script = "echo $(grep Groups: /proc/self/status); id -u; cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname; grep db /etc/hosts; \
        grep nameserver /etc/resolv.conf; cat /proc/sys/net/ipv4/ip_default_ttl /proc/self/oom_score_adj; ulimit -n; echo $(grep CapInh /proc/self/status); \
        (: < /dev/mine) 2>/dev/null && echo read; (: > /dev/mine) 2>/dev/null && echo written; touch /new 2>/dev/null && echo root; \
        touch /t/new && echo memory; pwd";
    let args = [
        "bundle",
        "-h",
        "box",
        "--domainname",
        "example.org",
        "--add-host",
        "db:10.0.0.7",
        "--dns",
        "192.0.2.1",
        "--network",
        "none",
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
        "--oom-score-adj",
        "500",
        "--ulimit",
        "nofile=100:200",
        "-u",
        "7:8",
        "--group-add",
        "9",
        "--device",
        &device,
        "--read-only",
        "--tmpfs",
        "/t:uid=7",
        "-w",
        "/data/made/here",
        "--memory",
        "64m",
        "--annotation",
        "mine=yes",
        "--label",
        "also=this",
        &s.reference,
        bundle.to_str().expect("text"),
        "sh",
        "-c",
        script,
    ];
    s.strata.run(&args).ok();
    let config: Value =
        serde_json::from_slice(&fs::read(bundle.join("config.json")).expect("read")).expect("JSON");
    let annotations = &config["annotations"];
    assert_eq!(
        (&annotations["mine"], &annotations["also"]),
        (&Value::from("yes"), &Value::from("this"))
    );
    assert_eq!(annotations["org.opencontainers.image.os"], "linux");
    for runtime in RUNTIMES {
        let ran = run_bundle(&s, 61_143, runtime, &bundle);
        let expected = "Groups: 8 9\n7\nbox\nexample.org\n10.0.0.7\tdb\nnameserver 192.0.2.1\n77\n500\n100\nCapInh: 0000000000000000\n\
            read\nmemory\n/data/made/here";
        assert_eq!(ran.out(), expected, "{}", ran.story());
    }
}

#[test]
fn without_root_runtimes_give_what_was_asked_for() {
    let s = Side::new(61_144, true, &tools_image());
    let write = |name: &str, options: &[&str], script: &str| {
        let bundle = s.shared(name).join("bundle");
        let at = bundle.to_str().expect("text").to_owned();
        let args = [
            &["bundle"],
            options,
            &[&s.reference, &at, "sh", "-c", script],
        ]
        .concat();
        s.strata.run(&args).ok();
        bundle
    };
    let options = [
        "-h",
        "box",
        "--domainname",
        "example.org",
        "--network",
        "none",
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
        "--device",
        "/dev/zero:/dev/mine",
        "--read-only",
        "--tmpfs",
        "/t",
        "--cap-drop",
        "ALL",
        "--ulimit",
        "nofile=100:200",
    ];
    let script = "cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_default_ttl; head -c 2 /dev/mine | wc -c; \
        touch /new 2>/dev/null && echo root; touch /t/new && ulimit -n; grep -c 'box.example.org box' /etc/hosts";
    let own = write("own", &options, script);
    let look = "readlink /proc/self/ns/ipc /proc/self/ns/uts";
    let shared = write("shared-names", &["--ipc", "host", "--uts", "host"], look);
    let of_host = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).expect("there");
    for runtime in RUNTIMES {
        let ran = run_bundle(&s, 61_144, runtime, &own);
        assert_eq!(ran.out(), "box\n77\n2\n100\n1", "{}", ran.story());
        let ran = run_bundle(&s, 61_144, runtime, &shared);
        let expected = format!("{}\n{}", of_host("ipc").display(), of_host("uts").display());
        assert_eq!(ran.out(), expected, "{}", ran.story());
    }
}

#[test]
fn a_container_may_be_run_by_another_runtime() {
    let s = Side::new(61_142, false, &tools_image());
    for runtime in RUNTIMES {
        let script = "id -u; pwd; cat one; cat /vol/seed; hostname 2>/dev/null; echo said >&2; grep -c . /etc/hosts > /dev/null; \
                echo kept > /data/kept; exit 7";
        let ran = s.sh(&["--runtime", runtime], script);
        assert_eq!(
            (ran.code(), ran.out().as_str()),
            (7, "0\n/data\none\nseed"),
            "{}",
            ran.story()
        );
        assert!(ran.stderr.contains("said"), "{}", ran.story());
        let with_mounts = [
            "--runtime",
            runtime,
            "--network",
            "none",
            "--cap-drop",
            "ALL",
            "-v",
            "named:/n",
            "--tmpfs",
            "/t",
        ];
        let said = s.says(
            &with_mounts,
            "ls /sys/class/net; grep CapBnd /proc/self/status; touch /n/x /t/x; ls /n",
        );
        assert!(said.ends_with("lo\nCapBnd:\t0000000000000000\nx"), "{said}");
        // It goes with the one that watches over it, and leaves its changes behind.
        s.strata
            .run(&[
                "run",
                "-d",
                "--name",
                runtime,
                "--runtime",
                runtime,
                &s.reference,
                "sh",
                "-c",
                "echo x > new; sleep 1000",
            ])
            .ok();
        let id = id_of(&s, runtime);
        let groups = || {
            let mounted = std::fs::read_dir("/sys/fs/cgroup").expect("control groups");
            let mut groups = mounted.map(|m| m.expect("entry").path().join("strata").join(&id));
            groups.any(|group| group.exists())
        };
        // As soon as `run` has said the id, further programs can be started.
        s.strata.run(&["exec", runtime, "true"]).ok();
        assert!(groups(), "{runtime} makes control groups");
        until("the program has begun", || {
            let ran = s.strata.run(&["exec", runtime, "cat", "/data/new"]);
            ran.status.success()
        });
        let args = ["exec", "-e", "A=b", "-w", "/", runtime, "sh", "-c"];
        let script = "echo $A; pwd; cat /data/new; read line; echo $line; exit 9";
        let args = [&args[..1], &["-i"], &args[1..], &[script]].concat();
        let ran = run_with_input(&mut s.strata.command(&args), b"typed\n");
        assert_eq!(
            (ran.code(), ran.out().as_str()),
            (9, "b\n/\nx\ntyped"),
            "{}",
            ran.story()
        );
        let ran = s.strata.run(&["exec", runtime, "no-such-program"]);
        assert_eq!(ran.code(), 127, "{}", ran.story());
        let left = s.strata.root().join("containers").join(&id);
        let left = std::fs::read_dir(left).expect("list").filter(|entry| {
            let name = entry.as_ref().expect("entry").file_name();
            name.to_string_lossy().starts_with("exec-")
        });
        assert_eq!(left.count(), 0, "what was said to the runtime is gone");
        s.strata.run(&["kill", runtime]).ok();
        assert!(!groups(), "{runtime} was killed and could not remove them");
        s.strata.run(&["start", runtime]).ok();
        kill_monitor(&s, runtime);
        until("the next command puts it right", || {
            s.strata.run(&["ps", "-q"]).ok().out().is_empty()
        });
        assert!(!groups(), "nor were they left by the monitor's death");
        s.strata.run(&["rm", "-f", runtime]).ok();
        let ran = s.sh(&["--runtime", runtime, "--entrypoint", "no-such"], "");
        assert_eq!(ran.code(), 127, "{}", ran.story());
    }
    s.strata.run(&["volume", "rm", "named"]).ok();
    s.refuses(&["--runtime", "no-such-runtime"], "no-such-runtime");
    s.refuses(&["--runtime", "crun", "--init"], "--init");
}

fn state(s: &Side, name: &str) -> serde_json::Value {
    let ran = s.strata.run(&["inspect", "--type", "container", name]).ok();
    let all: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    all[0].clone()
}

fn id_of(s: &Side, name: &str) -> String {
    state(s, name)["Id"].as_str().expect("an id").to_owned()
}

/// The monitor is the parent of the container's first process.
fn kill_monitor(s: &Side, name: &str) {
    let pid = state(s, name)["State"]["Pid"].as_i64().expect("a pid");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("runs");
    let (_, rest) = stat.rsplit_once(')').expect("stat");
    let parent = rest.split_whitespace().nth(1).expect("parent");
    let parent = rustix::process::Pid::from_raw(parent.parse().expect("number")).expect("pid");
    rustix::process::kill_process(parent, rustix::process::Signal::KILL).expect("kill");
}
