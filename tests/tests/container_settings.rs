//! Options that set a name, a parameter or a share of the machine, and those of docker's that are refused.

use std::fs;

use strata_tests::both::{Side, tools_image};

#[test]
fn names_and_their_resolution_are_as_they_were_given() {
    Side::each(61_180, |s| {
        let options = [
            "-h",
            "box",
            "--domainname",
            "example.org",
            "--dns",
            "192.0.2.1",
            "--dns",
            "2001:db8::1",
            "--dns-search",
            "a.example",
            "--dns-opt",
            "ndots:2",
            "--add-host",
            "db:10.0.0.7",
        ];
        let said = s.says(
            &options,
            "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname /etc/hostname; grep -v '^#' /etc/resolv.conf; tail -n 2 /etc/hosts",
        );
        assert_eq!(
            said,
            "box\nexample.org\nbox\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.example\noptions ndots:2\n\
             127.0.1.1\tbox.example.org box\n10.0.0.7\tdb"
        );
        let none = s.says(
            &["--network", "none", "--dns", "192.0.2.1"],
            "cat /etc/resolv.conf",
        );
        assert_eq!(none, "nameserver 192.0.2.1");
        s.refuses(&["--dns", "dns.example"], "not an ip address");
        s.refuses(&["--dns-search", "a\nnameserver 1.1.1.1"], "no word");
        s.refuses(&["--domainname", "a b"], "--domainname");
        s.refuses(&["--expose", "http"], "--expose");
        assert_eq!(
            s.says(&["--expose", "80/tcp", "--expose", "90-99"], "echo fine"),
            "fine"
        );
    });
}

#[test]
fn what_is_shared_with_the_host_is_what_was_asked_for() {
    Side::each(61_181, |s| {
        let of_host = |name: &str| {
            fs::read_link(format!("/proc/self/ns/{name}"))
                .expect("there")
                .display()
                .to_string()
        };
        let look = "readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; cat /etc/hostname";
        let own = s.says(&[], look);
        assert!(
            !own.contains(&of_host("ipc")) && !own.contains(&of_host("uts")),
            "{own}"
        );
        let name = fs::read_to_string("/proc/sys/kernel/hostname").expect("there");
        let shared = s.says(&["--ipc", "host", "--uts=host"], look);
        assert_eq!(
            shared,
            format!("{}\n{}\n{}", of_host("ipc"), of_host("uts"), name.trim())
        );
        let mark = format!("strata-test-{}-{}", std::process::id(), s.rootless);
        let file = std::path::Path::new("/dev/shm").join(&mark);
        s.says(&["--ipc", "host"], &format!("echo x > /dev/shm/{mark}"));
        let there = file.exists();
        fs::remove_file(&file).expect("the container's own file");
        assert!(there);
        s.says(&[], &format!("echo x > /dev/shm/{mark}"));
        assert!(!file.exists());
        // A further program is where the first one is.
        s.strata
            .run(&[
                "run",
                "-d",
                "--name",
                "box",
                "--ipc",
                "host",
                &s.reference,
                "sleep",
                "1000",
            ])
            .ok();
        let said = s
            .strata
            .run(&["exec", "box", "readlink", "/proc/self/ns/ipc"])
            .ok()
            .out();
        assert_eq!(said, of_host("ipc"));
        s.strata.run(&["rm", "-f", "box"]).ok();
        for (options, why) in [
            (&["--uts", "host", "-h", "box"][..], "UTS mode"),
            (&["--ipc", "host", "--shm-size", "1m"], "--shm-size"),
            (&["--ipc", "container:x"], "--ipc"),
            (&["--pid", "host"], "--pid"),
            (&["--userns", "keep-id"], "--userns"),
            (&["--cgroupns", "host"], "--cgroupns"),
        ] {
            s.refuses(options, why);
        }
    });
}

#[test]
fn parameters_of_the_kernel_are_the_containers_own() {
    Side::each(61_182, |s| {
        let before = fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("there");
        let options = [
            "--network",
            "none",
            "--sysctl",
            "net.ipv4.ip_default_ttl=77",
        ];
        assert_eq!(
            s.says(&options, "cat /proc/sys/net/ipv4/ip_default_ttl"),
            "77"
        );
        let after = fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").expect("there");
        assert_eq!(before, after, "the host has its own");
        if !s.rootless {
            assert_eq!(
                s.says(
                    &["--sysctl", "kernel.msgmax=9999"],
                    "cat /proc/sys/kernel/msgmax"
                ),
                "9999"
            );
        }
        s.refuses(
            &["--network", "none", "--sysctl", "net.ipv4.no_such=1"],
            "net.ipv4.no_such",
        );
        for (option, why) in [
            ("kernel.core_pattern=|/x", "not allowed"),
            ("net.ipv4.ip_forward=1", "--network none"),
            ("net.../../../kernel/core_pattern=1", "not allowed"),
            ("kernel.msgmax", "needs a value"),
        ] {
            s.refuses(&["--sysctl", option], why);
        }
    });
}

#[test]
fn shares_of_processors_and_memory_are_set() {
    let s = Side::new(61_183, false, &tools_image());
    let options = [
        "--cpu-period",
        "50000",
        "--cpu-quota",
        "20000",
        "--cpuset-mems",
        "0",
        "-m",
        "32m",
        "--memory-reservation",
        "16m",
        "-c",
        "512",
    ];
    let said = s.says(
        &options,
        "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu*/cpu.cfs_quota_us; cat /sys/fs/cgroup/memory.low 2>/dev/null || \
         cat /sys/fs/cgroup/memory/memory.soft_limit_in_bytes; cat /sys/fs/cgroup/cpuset.mems 2>/dev/null || cat /sys/fs/cgroup/cpuset/cpuset.mems",
    );
    assert!(
        said.starts_with("20000") && said.contains("\n16777216\n") && said.ends_with('0'),
        "{said}"
    );
    // Nothing said of swap: as much as of memory.
    let both = "cat /sys/fs/cgroup/memory.swap.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes";
    assert_eq!(
        s.says(&["-m", "32m", "--memory-swap", "0"], both),
        s.says(&["-m", "32m"], both)
    );
    for (options, why) in [
        (&["--cpu-period", "10"][..], "1ms"),
        (&["--cpu-quota", "10"], "1ms"),
        (&["--cpuset-mems", "x"], "--cpuset-mems"),
        (&["--memory-reservation", "1m"], "6MB"),
        (
            &["-m", "10m", "--memory-reservation", "20m"],
            "reservation limit",
        ),
    ] {
        s.refuses(options, why);
    }
}

#[test]
fn files_of_variables_are_read_as_docker_reads_them() {
    Side::each(61_184, |s| {
        let shared = s.shared("shared");
        let file = shared.join("env");
        let text = "\u{feff}# note\n\n  QUOTED=\"as it is\"\r\nHASH=a # b\nEMPTY=\nNOT_SET_ANYWHERE\nPATH\nTWICE=1\nTWICE=2\n";
        fs::write(&file, text).expect("write");
        let option = format!("--env-file={}", file.display());
        let script =
            "echo \"$QUOTED|$HASH|${EMPTY-unset}|${NOT_SET_ANYWHERE-unset}|$TWICE|$GIVEN\"";
        let said = s.says(&[&option, "-e", "TWICE=3", "--env", "GIVEN=x=y"], script);
        assert_eq!(said, "\"as it is\"|a # b||unset|3|x=y");
        for (text, why) in [
            ("=x\n", "no variable name"),
            ("A B=1\n", "whitespaces"),
            ("export A=1\n", "whitespaces"),
        ] {
            fs::write(&file, text).expect("write");
            s.refuses(&[&option], why);
        }
        s.refuses(&["-e", "=x"], "invalid environment variable");
        s.refuses(&["-e", ""], "invalid environment variable");
    });
}

#[test]
fn what_docker_has_and_strata_has_not_is_refused_with_the_reason() {
    let s = Side::new(61_185, false, &tools_image());
    for (options, why) in [
        (&["--gpus", "all"][..], "--gpus is not supported"),
        (&["--health-cmd", "true"], "--health-cmd is not supported"),
        (&["--link", "db"], "localhost"),
        (&["--ip", "10.0.0.1"], "network"),
        (&["--mac-address", "02:00:00:00:00:01"], "network"),
        (&["--storage-opt", "size=1G"], "writable layer"),
        (&["--device-cgroup-rule", "c 1:* rwm"], "--device"),
        (&["--blkio-weight", "10"], "cannot be limited"),
        (&["--cgroup-parent", "x"], "control group"),
        (&["--oom-kill-disable"], "--oom-score-adj"),
        (&["--isolation", "hyperv"], "Windows"),
        (&["-w", "relative"], "absolute path"),
        (&["--annotation", "x"], "KEY=VALUE"),
    ] {
        s.refuses(options, why);
    }
    // What asks for nothing is taken.
    let said = s.says(
        &[
            "--isolation",
            "default",
            "--no-healthcheck",
            "--disable-content-trust",
            "--userns=host",
            "--pid=",
            "-q",
        ],
        "echo fine",
    );
    assert_eq!(said, "fine");
}

#[test]
fn what_another_container_has_mounted_is_mounted_again() {
    Side::each(61_186, |s| {
        let shared = s.shared("shared");
        let bound = format!("{}:/in", shared.display());
        let script = "echo kept > /vol/mine; echo host > /in/mine";
        let args = [
            "run",
            "--name",
            "first",
            "-v",
            &bound,
            "-v",
            "named:/n",
            "--tmpfs",
            "/t",
            &s.reference,
            "sh",
            "-c",
            script,
        ];
        s.strata.run(&args).ok();
        let look = "cat /vol/mine /vol/seed /in/mine; ls -d /n; ls -d /t 2>/dev/null; touch /vol/x 2>/dev/null && echo written; echo end";
        let said = s.says(&["--volumes-from", "first"], look);
        assert_eq!(said, "kept\nseed\nhost\n/n\nwritten\nend");
        let said = s.says(&["--volumes-from", "first:ro", "--tmpfs", "/n"], look);
        assert_eq!(
            said, "kept\nseed\nhost\n/n\nend",
            "and what was made for the first stays with it"
        );
        let own = s.says(&["--volumes-from", "first", "--tmpfs", "/in"], "ls -A /in");
        assert_eq!(own, "", "what is given goes before what is inherited");
        s.refuses(&["--volumes-from", "fist"], "did you mean first?");
        s.refuses(&["--volumes-from", "first:wild"], "invalid mode");
        s.strata.run(&["rm", "-v", "first"]).ok();
        s.strata.run(&["volume", "rm", "named"]).ok();
    });
}

#[test]
fn a_line_that_is_no_line_of_run_has_dockers_exit_code() {
    let s = Side::new(61_187, false, &tools_image());
    for args in [
        &["run", "--no-such-option", &s.reference, "true"][..],
        &["create", "--memory", &s.reference],
        &["container", "run"],
        &["exec", "--no-such-option", "box", "true"],
    ] {
        let ran = s.strata.run(args);
        assert_eq!(ran.code(), 125, "{}", ran.story());
    }
    let help = s.strata.run(&["run", "--help"]).ok();
    assert!(help.out().contains("-h, --hostname"), "{}", help.story());
}

#[test]
fn an_image_that_is_here_for_another_platform_is_not_run_instead() {
    let s = Side::new(61_188, false, &tools_image());
    s.refuses(
        &["--pull", "never", "--platform", "linux/s390x"],
        "does not match the specified platform",
    );
}
