//! What the options of `run` make of a container, for root and for an ordinary user.

use std::fs;
use std::time::{Duration, Instant};

use strata_tests::both::Side;
use strata_tests::command::Running;

#[test]
fn files_and_directories_of_the_host_are_mounted() {
    Side::each(61_100, |s| {
        let shared = s.shared("shared");
        fs::write(shared.join("file"), "mine\n").expect("write");
        let dir = shared.to_str().expect("text");
        let bound = format!("{dir}:/in/there");
        assert_eq!(
            s.says(
                &["-v", &bound],
                "cat /in/there/file; echo new > /in/there/new"
            ),
            "mine"
        );
        assert_eq!(
            fs::read_to_string(shared.join("new")).expect("there"),
            "new\n"
        );
        let read_only = format!("{dir}:/in:ro");
        assert_eq!(
            s.says(
                &["-v", &read_only],
                "cat /in/file; echo x > /in/file || echo refused"
            ),
            "mine\nrefused"
        );
        let file = format!("type=bind,source={dir}/file,target=/etc/one/of/mine,readonly");
        assert_eq!(s.says(&["--mount", &file], "cat /etc/one/of/mine"), "mine");
        let nested = format!("{dir}/file:/in/deep/file");
        assert_eq!(
            s.says(
                &[
                    "-v",
                    &nested,
                    "-v",
                    &bound.replace("there", ""),
                    "--read-only"
                ],
                "cat /in/deep/file; ls /in"
            ),
            "mine\ndeep\nfile\nnew"
        );
        s.refuses(
            &["-v", &format!("{dir}:/data/one")],
            "directory onto a file",
        );
        s.refuses(
            &["-v", &format!("{dir}/file:/vol")],
            "directory onto a file",
        );
        s.refuses(&["-v", "/no/such:/x"], "bind source path does not exist");
    });
}

#[test]
fn volumes_keep_what_the_image_had_and_what_was_written() {
    Side::each(61_101, |s| {
        let look = "cat /v/seed; stat -c %a /v /v/seed; readlink /v/deep/link; echo mine > /v/mine";
        let seed = "cat /vol/seed; stat -c %a /vol /vol/seed; readlink /vol/deep/link; echo mine > /vol/mine";
        assert_eq!(
            s.says(&["-v", "named:/vol"], seed),
            "seed\n751\n640\n../seed"
        );
        // Not filled a second time, and seen wherever it is mounted.
        assert_eq!(
            s.says(&["-v", "named:/v"], &format!("{look}; rm /v/seed")),
            "seed\n751\n640\n../seed"
        );
        assert_eq!(
            s.says(
                &["-v", "named:/vol:ro"],
                "ls /vol; touch /vol/x 2>/dev/null || echo refused"
            ),
            "deep\nmine\nrefused"
        );
        assert_eq!(s.says(&["-v", "empty:/vol:nocopy"], "ls /vol"), "");
        let names = s.strata.run(&["volume", "ls", "-q"]).ok().out();
        assert_eq!(
            names, "empty\nnamed",
            "a container that goes takes its own volume with it, and leaves those with names"
        );
        s.strata
            .run(&[
                "run",
                "--name",
                "holder",
                "-v",
                "named:/x",
                &s.reference,
                "true",
            ])
            .ok();
        s.strata
            .run(&["volume", "rm", "named"])
            .refused()
            .says("in use");
        let inspected = s.strata.run(&["volume", "inspect", "named"]).ok().out();
        let place = s.strata.root().join("volumes/named/_data");
        assert!(
            inspected.contains(place.to_str().expect("text")),
            "{inspected}"
        );
        assert_eq!(
            s.strata
                .run(&["volume", "ls", "-q", "-f", "dangling=true"])
                .ok()
                .out(),
            "empty"
        );
        s.strata.run(&["volume", "prune", "-f"]).ok();
        assert_eq!(
            s.strata.run(&["volume", "prune", "--all", "-f"]).ok().out(),
            "empty"
        );
        s.strata.run(&["rm", "holder"]).ok();
        s.strata.run(&["volume", "rm", "named"]).ok();
        s.strata
            .run(&["volume", "rm", "named"])
            .refused()
            .says("no such volume");
        s.strata.run(&["volume", "rm", "-f", "named"]).ok();
    });
}

#[test]
fn file_systems_in_memory_have_size_and_mode() {
    Side::each(61_102, |s| {
        let look = "stat -c %a /t; echo x > /t/x; df -k /t | tail -n 1; cp /bin/true /t/; /t/true 2>/dev/null || echo noexec";
        let said = s.says(&["--tmpfs", "/t:size=1m,mode=700"], look);
        assert!(
            said.starts_with("700\n") && said.contains(" 1024 ") && said.ends_with("noexec"),
            "{said}"
        );
        assert_eq!(
            s.says(
                &["--tmpfs", "/t:exec"],
                "cp /bin/true /t/; /t/true && stat -c %a /t"
            ),
            "1777"
        );
        assert!(
            s.says(
                &["--mount", "type=tmpfs,target=/t,tmpfs-size=2m"],
                "df -k /t"
            )
            .contains(" 2048 ")
        );
        assert!(
            s.says(&["--shm-size", "3m"], "df -k /dev/shm")
                .contains(" 3072 ")
        );
    });
}

#[test]
fn a_read_only_root_cannot_be_written_but_its_volumes_can() {
    Side::each(61_103, |s| {
        let script = "touch /x /data/x /etc/x 2>/dev/null && echo written; touch /vol/x /tmp/x && echo volumes";
        assert_eq!(
            s.says(&["--read-only", "--tmpfs", "/tmp"], script),
            "volumes"
        );
    });
}

#[test]
fn no_network_is_a_loopback_device_that_is_up() {
    Side::each(61_104, |s| {
        let devices = "ls /sys/class/net; cat /sys/class/net/lo/flags; cat /etc/resolv.conf; grep -c . /etc/hosts";
        let said = s.says(&["--network", "none", "--hostname", "box"], devices);
        assert_eq!(said, "lo\n0x9\n3", "localhost twice, and its own name");
        let ours = fs::read_to_string("/etc/hosts")
            .expect("hosts")
            .lines()
            .count();
        let theirs: usize = s
            .says(&[], "grep -c '' /etc/hosts")
            .parse()
            .expect("a number");
        assert!(
            theirs >= ours,
            "the network is the host's, and so are its names"
        );
        assert_eq!(
            s.says(&["--add-host", "db:10.0.0.7"], "grep -w db /etc/hosts"),
            "10.0.0.7\tdb"
        );
        s.refuses(&["-p", "80:80"], "host's network");
    });
}

#[test]
fn users_groups_and_limits_are_those_that_were_asked_for() {
    Side::each(61_105, |s| {
        assert_eq!(
            s.says(&["--ulimit", "nofile=64:128"], "ulimit -Sn; ulimit -Hn"),
            "64\n128"
        );
        assert_eq!(
            s.says(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"),
            "500"
        );
        s.refuses(&["--ulimit", "nofile=99999999"], "hard limit");
        s.refuses(&["-u", "nobody-here"], "unable to find user");
        s.refuses(&["--group-add", "nobody-here"], "unable to find group");
        if !s.rootless {
            assert_eq!(
                s.says(
                    &["-u", "1000:50", "--group-add", "7", "--group-add", "8"],
                    "id -u; id -g; id -G"
                ),
                "1000\n50\n50 7 8"
            );
        }
    });
}

#[test]
fn the_small_first_process_reaps_and_passes_signals_and_status_on() {
    Side::each(61_106, |s| {
        let script = "echo $$; (sleep 0.05 & ); sleep 0.4; cat /proc/[0-9]*/stat | grep -c ') Z '";
        let with = s.sh(&["--init"], script);
        let (first, zombies) = with
            .out()
            .split_once('\n')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("two lines");
        assert_ne!(first, "1");
        assert_eq!(zombies, "0");
        assert_eq!(s.sh(&["--init"], "exit 42").code(), 42);
        assert_eq!(s.sh(&["--init"], "kill -9 $$").code(), 137);
        let missing = s
            .strata
            .run(&["run", "--rm", "--init", &s.reference, "no-such-program"]);
        assert_eq!(missing.code(), 127, "{}", missing.story());
        let shared = s.shared("signal");
        let bound = format!("{}:/out", shared.display());
        let script = "trap 'echo got > /out/got; exit 7' TERM; touch /out/ready; while :; do sleep 0.02; done";
        let args = [
            "run",
            "--rm",
            "--init",
            "-v",
            &bound,
            &s.reference,
            "sh",
            "-c",
            script,
        ];
        let running = Running::start(&mut s.strata.command(&args));
        let limit = Instant::now() + Duration::from_secs(20);
        while !shared.join("ready").exists() {
            assert!(Instant::now() < limit, "it does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        rustix::process::kill_process(running.pid(), rustix::process::Signal::TERM)
            .expect("signal");
        let ended = running.wait();
        assert_eq!(ended.code(), 7, "{}", ended.story());
        assert!(shared.join("got").exists());
    });
}

#[test]
fn devices_are_those_that_were_given() {
    Side::each(61_107, |s| {
        assert_eq!(s.says(&[], "head -c 3 /dev/zero | wc -c; echo x > /dev/null; ls -d /dev/loop0 /dev/kmsg 2>/dev/null | wc -l"), "3\n0");
        let options = [
            "--device",
            "/dev/zero:/dev/mine/nought",
            "--device",
            "/dev/full:/opt/full:rw",
        ];
        assert_eq!(s.says(&options, "head -c 2 /dev/mine/nought | wc -c; echo x > /opt/full 2>/dev/null || echo full; ls -A /dev/mine"), "2\nfull\nnought");
        s.refuses(&["--device", "/etc/passwd"], "no device node");
        s.refuses(&["--device", "/dev/no-such"], "no-such");
    });
}

#[test]
fn control_groups_limit_what_root_may_limit_and_say_so_to_others() {
    Side::each(61_108, |s| {
        let limits = [
            "--memory",
            "64m",
            "--pids-limit",
            "9",
            "--cpus",
            "0.5",
            "--cpuset-cpus",
            "0",
        ];
        let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait";
        let ran = s.sh(&limits, script);
        if s.rootless {
            assert_eq!(ran.code(), 125, "{}", ran.story());
            let _ = ran.says("--memory");
            return;
        }
        let _ = ran.says("fork");
        // A program can find out, in either version's words.
        let seen = s.says(&limits, "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; grep -c / /proc/self/cgroup");
        assert!(seen.starts_with("67108864\n"), "{seen}");
        // More than it may have: the kernel ends it.
        let hungry = s.sh(
            &["--memory", "16m", "--memory-swap", "16m"],
            "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null && echo done; exit 5",
        );
        assert_eq!(
            (hungry.out().as_str(), hungry.code()),
            ("", 5),
            "{}",
            hungry.story()
        );
        let ran = s.strata.run(&[
            "run",
            "--name",
            "kept",
            "--memory",
            "64m",
            &s.reference,
            "true",
        ]);
        ran.ok();
        let kept = fs::read_dir(s.strata.root().join("containers"))
            .expect("list")
            .next();
        let id = kept.expect("one").expect("entry").file_name();
        let group = std::path::Path::new("/sys/fs/cgroup/memory/strata").join(id);
        assert!(!group.exists(), "the group goes when the program has ended");
    });
}

#[test]
fn an_image_for_another_machine_says_what_it_would_need() {
    let other = strata_tests::both::tools_image().made_for("s390x");
    let s = Side::new(61_109, false, &other);
    let ran = s.sh(&[], "true");
    assert!(
        ran.stderr.contains("s390x") && ran.stderr.contains("binfmt"),
        "{}",
        ran.story()
    );
    let ran = s.sh(
        &["--pull", "never", "--platform", "linux/amd64/v1/x"],
        "true",
    );
    assert_ne!(ran.code(), 0);
}

#[test]
fn what_is_wrong_with_an_option_is_said_before_anything_is_fetched() {
    let s = Side::new(61_110, false, &strata_tests::both::tools_image());
    for (options, why) in [
        (&["--restart", "always"][..], "systemd"),
        (&["--network", "bridge"], "host"),
        (&["--cap-add", "SUPER"], "unknown capability"),
        (&["--security-opt", "apparmor=x"], "AppArmor"),
        (&["--memory", "1k"], "6MB"),
        (&["-v", "aa:/x", "-v", "bb:/x"], "Duplicate mount point"),
        (&["--stop-signal", "NONE"], "signal"),
        (&["--env-file", "/no/such"], "/no/such"),
    ] {
        let args = [
            &["run", "--rm"],
            options,
            &["127.0.0.1:1/no/such:image", "true"],
        ]
        .concat();
        let ran = s.strata.run(&args);
        assert_eq!(ran.code(), 125, "{}", ran.story());
        let _ = ran.says(why);
    }
}
