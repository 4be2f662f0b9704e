//! Attacks that runtimes fell for: on files of accounts, on mount points, on masks and terminals, on what a process
//! inherits; and somebody who renames directories while a container starts.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use strata_tests::both::{Side, tools_image};
use strata_tests::command::{run, tool};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};

fn with_files(files: &[Entry]) -> Image {
    let tools = tools_image();
    let layers = [&tools.layers[..], &[Layer::of(files)]].concat();
    let config =
        json!({ "Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/" });
    Image::with_config(&layers, config)
}

#[test]
fn files_of_accounts_that_are_none_are_refused_at_once() {
    let huge = "x".repeat(17 * 1024 * 1024);
    for rootless in [false, true] {
        let passwd = "etc/passwd";
        let mut hostile = vec![
            (passwd, Entry::fifo(passwd)),
            (passwd, Entry::dir("etc/passwd/")),
            (passwd, Entry::symlink(passwd, "/proc/self/fd/0")),
            (passwd, Entry::file(passwd, &huge)),
            ("etc/group", Entry::fifo("etc/group")),
        ];
        if !rootless {
            // Opening it would be enough: some devices do something then.
            hostile.push((passwd, Entry::device(passwd, 1, 5)));
        }
        for (file, entry) in hostile {
            let s = Side::new(61_170, rootless, &with_files(&[Entry::dir("etc/"), entry]));
            s.refuses(&[], file);
            s.refuses(&["-u", "www"], file);
            let bundle = s.shared("out").join("bundle");
            let bundle = bundle.to_str().expect("text");
            let ran = s.strata.run(&["bundle", "-u", "www", &s.reference, bundle]);
            assert_ne!(ran.code(), 0, "{}", ran.story());
        }
        let files = [
            Entry::dir("etc/"),
            Entry::symlink("etc/passwd", "/../../../etc/shadow"),
        ];
        let s = Side::new(61_170, rootless, &with_files(&files));
        s.refuses(&["-u", "root-of-the-host"], "unable to find user");
    }
}

#[test]
fn links_in_place_of_proc_sys_and_dev_are_refused() {
    for name in ["proc", "sys", "dev"] {
        let image = with_files(&[Entry::symlink(name, "/data")]);
        for rootless in [false, true] {
            let s = Side::new(61_171, rootless, &image);
            s.refuses(&[], name);
        }
    }
}

#[test]
fn masks_and_the_console_are_not_redirected_by_an_image() {
    let files = [
        Entry::dir("dev/"),
        Entry::symlink("dev/null", "/proc/sys/kernel/core_pattern"),
        Entry::symlink("dev/console", "/proc/sysrq-trigger"),
        Entry::symlink("dev/ptmx", "/proc/sys/kernel/core_pattern"),
        Entry::symlink("dev/pts", "/proc"),
        Entry::symlink("dev/shm", "/proc/sys"),
        Entry::symlink("dev/mqueue", "/"),
    ];
    let image = with_files(&files);
    for rootless in [false, true] {
        let s = Side::new(61_172, rootless, &image);
        let script = "stat -c %t:%T /proc/interrupts /proc/keys /dev/null; test -c /dev/console && echo console; \
            test -d /dev/shm && test ! -e /dev/shm/kernel && echo shm; (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo written; echo end";
        let said = s.says(&["-t"], script).replace('\r', "");
        assert_eq!(said, "1:3\n1:3\n1:3\nconsole\nshm\nend");
    }
}

#[test]
fn nothing_that_steers_the_machine_can_be_written() {
    Side::each(61_173, |s| {
        let script = "for p in '' /proc/1/root /proc/self/root /proc/self/task/*/root /proc/thread-self/cwd/..; do for f in sys/kernel/core_pattern \
            sys/kernel/modprobe sys/kernel/randomize_va_space sys/vm/panic_on_oom sys/fs/binfmt_misc/register sysrq-trigger irq/default_smp_affinity; do \
            (echo x > $p/proc/$f) 2>/dev/null && echo $p/proc/$f; done; for f in kernel/uevent_helper power/state module/kernel/parameters/panic fs/cgroup/*/release_agent \
            fs/cgroup/*/cgroup.procs fs/cgroup/*/devices.allow fs/cgroup/cgroup.procs; do (echo 1 > $p/sys/$f) 2>/dev/null && echo $p/sys/$f; done; done; echo end";
        let limits: &[&str] = match s.rootless {
            true => &[],
            false => &["--memory", "64m", "--device", "/dev/zero:/dev/mine:r"],
        };
        assert_eq!(s.says(limits, script), "end");
        let bounded = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined"];
        let said = s.says(
            &bounded,
            "(echo '|/x' > /proc/sys/kernel/core_pattern) 2>/dev/null && echo written; echo end",
        );
        assert_eq!(said, "end");
    });
}

#[test]
fn nothing_is_inherited_from_whoever_starts_a_container() {
    Side::each(61_174, |s| {
        let look = "echo $(grep -E '^(CapInh|CapAmb|Groups)' /proc/self/status)";
        let plain = "CapInh: 0000000000000000 CapAmb: 0000000000000000";
        let said = s.says(&[], look);
        assert!(said.ends_with(plain), "{said}");
        s.strata
            .run(&["run", "-d", "--name", "box", &s.reference, "sleep", "1000"])
            .ok();
        let said = s.strata.run(&["exec", "box", "sh", "-c", look]).ok().out();
        assert!(said.ends_with(plain), "{said}");
        s.strata.run(&["rm", "-f", "box"]).ok();
        if s.rootless {
            return;
        }
        for (options, groups) in [
            (&[][..], "0"),
            (&["-u", "1000:50"], "50"),
            (&["-u", "1000:50", "--group-add", "7"], "7 50"),
        ] {
            let command = ["run", "--rm"].iter().chain(options);
            let command: Vec<&str> = command
                .copied()
                .chain([s.reference.as_str(), "sh", "-c", look])
                .collect();
            let inner = s.strata.command(&command);
            let mut command = Command::new(tool("setpriv"));
            command.args([
                "--inh-caps=+net_admin,+sys_admin",
                "--ambient-caps=+net_admin",
                "--groups=4,24,44",
            ]);
            command.arg(inner.get_program()).args(inner.get_args());
            command.env("STRATA_ROOT", s.strata.root());
            // The primary group among them: a program that changes it gets rid of nothing that is denied to the group.
            assert_eq!(
                run(&mut command).ok().out(),
                format!("Groups: {groups} {plain}")
            );
        }
    });
}

#[test]
fn files_without_an_end_are_not_read_for_ever() {
    Side::each(61_175, |s| {
        s.refuses(&["--env-file", "/dev/zero"], "larger");
        s.refuses(&["--label-file", "/dev/zero"], "larger");
        s.refuses(&["--security-opt", "seccomp=/dev/zero"], "larger");
    });
}

/// Exchanges two names as fast as it can until it is told to stop.
fn exchange(one: &std::path::Path, other: &std::path::Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let _ = renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
    }
}

#[test]
fn whoever_renames_directories_meanwhile_leads_no_mount_out() {
    Side::each(61_176, |s| {
        let (shared, outside) = (s.shared("shared"), s.shared("outside"));
        fs::write(outside.join("file"), "host\n").expect("write");
        let (directory, link) = (s.shared("shared/sub"), shared.join("link"));
        symlink(&outside, &link).expect("link");
        let options = [
            format!("{}:/a", shared.display()),
            "data:/a/sub/deep".to_owned(),
        ];
        let stop = AtomicBool::new(false);
        let mut succeeded = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| exchange(&directory, &link, &stop));
            for _ in 0..25 {
                let ran = s.sh(
                    &["-v", &options[0], "-v", &options[1], "--tmpfs", "/a/sub/memory"],
                    "touch /a/sub/deep/new /a/sub/memory/new 2>/dev/null; cat /a/sub/file 2>/dev/null; ls /a/sub/deep",
                );
                succeeded += usize::from(ran.status.success());
                assert!(!ran.out().contains("host"), "{}", ran.story());
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(succeeded > 0, "none of them was started at all");
        let left: Vec<_> = fs::read_dir(&outside).expect("list").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(
            !mounts.contains(outside.to_str().expect("text")),
            "{mounts}"
        );
    });
}
