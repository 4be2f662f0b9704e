//! What a container may not do, and what it does when it tries: for root's containers and for an ordinary user's.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use strata_tests::both::{Side, tools_image};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::shell_layer;

/// The default set as /proc shows it: what docker's containers have.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

fn with_files(files: &[Entry], config: serde_json::Value) -> Image {
    let tools = tools_image();
    let layers = [&tools.layers[..], &[Layer::of(files)]].concat();
    Image::with_config(&layers, config)
}

fn plain() -> serde_json::Value {
    json!({ "Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/" })
}

#[test]
fn capabilities_are_dockers_and_change_by_name() {
    Side::each(61_120, |s| {
        let set = |options: &[&str], name: &str| {
            s.says(options, &format!("grep {name} /proc/self/status"))
                .split_whitespace()
                .last()
                .map(str::to_owned)
                .expect("a set")
        };
        assert_eq!(set(&[], "CapEff"), DEFAULT_CAPABILITIES);
        assert_eq!(set(&[], "CapBnd"), DEFAULT_CAPABILITIES);
        assert_eq!(set(&[], "CapInh"), "0000000000000000");
        assert_eq!(set(&["--cap-drop", "ALL"], "CapBnd"), "0000000000000000");
        assert_eq!(
            set(
                &["--cap-drop", "all", "--cap-add", "cap_chown,KILL"],
                "CapEff"
            ),
            "0000000000000021"
        );
        assert_eq!(set(&["--cap-drop=CHOWN"], "CapEff"), "00000000a80425fa");
        let all = u64::from_str_radix(&set(&["--privileged"], "CapEff"), 16).expect("hexadecimal");
        assert!(all & (1 << 21) != 0 && all.count_ones() > 30, "{all:x}");
        if !s.rootless {
            assert_eq!(set(&["-u", "1000"], "CapEff"), "0000000000000000");
            assert_eq!(set(&["-u", "1000"], "CapBnd"), DEFAULT_CAPABILITIES);
        }
    });
}

#[test]
fn system_calls_are_filtered_unless_asked_otherwise() {
    Side::each(61_121, |s| {
        assert_eq!(
            s.says(&[], "grep -E '^Seccomp:' /proc/self/status"),
            "Seccomp:\t2"
        );
        assert_eq!(
            s.says(&[], "unshare -U true 2>/dev/null || echo refused"),
            "refused"
        );
        assert_eq!(
            s.says(
                &["--security-opt", "seccomp=unconfined"],
                "grep -E '^Seccomp:' /proc/self/status; unshare -U true && echo done"
            ),
            "Seccomp:\t0\ndone"
        );
        assert_eq!(
            s.says(
                &["--privileged"],
                "grep -E '^Seccomp:' /proc/self/status; unshare -m true && echo done"
            ),
            "Seccomp:\t0\ndone"
        );
        let shared = s.shared("profiles");
        let file = shared.join("profile.json");
        let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":122}]}"#;
        fs::write(&file, profile).expect("write");
        let option = format!("seccomp={}", file.display());
        let said = s.says(
            &["--security-opt", &option],
            "mkdir /tmp/x 2>&1 || echo refused",
        );
        assert!(
            said.contains("quota") && said.ends_with("refused"),
            "{said}"
        );
        fs::write(&file, "{}").expect("write");
        s.refuses(&["--security-opt", &option], "seccomp");
    });
}

#[test]
fn no_new_privileges_holds_with_the_filter() {
    Side::each(61_122, |s| {
        let look = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
        assert_eq!(
            s.says(&["--security-opt", "no-new-privileges"], look),
            "NoNewPrivs:\t1\nSeccomp:\t2"
        );
        assert_eq!(
            s.says(&["--security-opt", "no-new-privileges", "-u", "0"], "id -u"),
            "0"
        );
    });
}

#[test]
fn a_device_node_that_a_container_makes_opens_nothing() {
    Side::each(61_123, |s| {
        // Where it may be made at all: /dev/zero again, in every place that can be written.
        let script = "for d in /data /dev /dev/shm /vol /tmp; do mkdir -p $d; mknod $d/n c 1 5 2>/dev/null && head -c 1 $d/n 2>/dev/null | wc -c; done; echo end";
        let said = s.says(&["--tmpfs", "/tmp:dev"], script);
        assert!(!said.contains('1'), "{said}");
        assert!(said.ends_with("end"));
        if !s.rootless {
            let image = with_files(
                &[Entry::device("zero", 1, 5), Entry::device("disk", 7, 0)],
                plain(),
            );
            let s = Side::new(61_123, false, &image);
            assert_eq!(
                s.says(&[], "head -c 1 /zero 2>/dev/null | wc -c"),
                "0",
                "nor does one that an image brings"
            );
            assert_eq!(
                s.says(&["--privileged"], "head -c 1 /zero | wc -c; ls /dev/loop0"),
                "1\n/dev/loop0"
            );
        }
    });
}

#[test]
fn what_steers_the_host_is_hidden_or_read_only() {
    Side::each(61_124, |s| {
        let script = "cat /proc/timer_list /proc/kcore /proc/keys 2>/dev/null | head -c 1 | wc -c; \
            for f in /proc/sys/kernel/hostname /proc/sysrq-trigger; do echo x 2>/dev/null > $f && echo \"$f written\"; done; \
            ls /sys/firmware | wc -l; touch /sys/x 2>/dev/null && echo sys; mount -t tmpfs x /tmp 2>/dev/null && echo mounted; echo end";
        assert_eq!(s.says(&[], script), "0\n0\nend");
        let unmasked = s.says(
            &["--security-opt", "systempaths=unconfined"],
            "grep -c /proc/ /proc/self/mounts; echo",
        );
        assert!(unmasked.starts_with('0'), "{unmasked}");
    });
}

#[test]
fn nothing_of_the_host_is_open_in_a_container() {
    Side::each(61_125, |s| {
        // The shell's own listing opens one more.
        let said = s.says(&[], "for f in /proc/self/fd/*; do readlink $f; done | grep -v -E 'pipe:|/dev/null|/proc/[0-9]+/fd$'; ls /proc/1/fd | wc -l");
        let (extra, count) = said.rsplit_once('\n').unwrap_or(("", &said));
        assert_eq!(extra, "", "{said}");
        assert!(count.parse::<u32>().expect("a number") <= 4, "{said}");
        for cwd in [
            "/proc/self/fd/3",
            "/proc/self/fd/7",
            "/proc/self/fd/8/../../..",
            "/proc/1/cwd",
            "/proc/self/root",
        ] {
            let ran = s.sh(
                &["-w", cwd],
                "ls /proc/self/cwd/../../../../etc; cat ../../../etc/hostname",
            );
            assert_ne!(ran.code(), 0, "{cwd}: {}", ran.story());
        }
    });
}

#[test]
fn a_working_directory_that_is_a_link_stays_inside() {
    Side::each(61_126, |s| {
        let files = [
            Entry::symlink("out", "/../../../../../../tmp"),
            Entry::symlink("fd", "/proc/self/fd/9"),
        ];
        let image = with_files(&files, plain());
        let s = Side::new(61_126, s.rootless, &image);
        let marker = s.place.join("marker");
        fs::write(&marker, "host").expect("write");
        assert_eq!(
            s.says(&["-w", "/out"], "pwd -P; touch here; ls /tmp"),
            "/tmp\nhere"
        );
        assert_ne!(s.sh(&["-w", "/fd"], "true").code(), 0);
    });
}

#[test]
fn our_own_program_cannot_be_written_from_inside() {
    Side::each(61_127, |s| {
        let before = fs::read(s.strata.program()).expect("read");
        // The first process is our program as long as it reaps, and becomes it again when it is its own entry point.
        let script = "id -u > /dev/null; (echo x > /proc/1/exe) 2>/dev/null && echo written; \
            (exec 9<>/proc/1/exe) 2>/dev/null && echo open; dd if=/bin/sh of=/proc/1/exe conv=notrunc 2>/dev/null && echo written; echo end";
        assert_eq!(s.says(&["--init"], script), "end");
        assert_eq!(
            s.says(
                &[
                    "--init",
                    "--cap-add",
                    "ALL",
                    "--security-opt",
                    "seccomp=unconfined"
                ],
                script
            ),
            "end"
        );
        let ran = s.strata.run(&[
            "run",
            "--rm",
            "--entrypoint",
            "/proc/self/exe",
            &s.reference,
        ]);
        assert!(!ran.status.success(), "{}", ran.story());
        assert_eq!(fs::read(s.strata.program()).expect("read"), before);
    });
}

#[test]
fn links_of_an_image_lead_no_mount_out_of_it() {
    for rootless in [false, true] {
        let outside = strata_tests::place::Place::new();
        let victim = outside.join("victim");
        fs::write(&victim, "host\n").expect("write");
        let away = victim.to_str().expect("text");
        let files = [
            Entry::dir("etc/"),
            Entry::symlink("etc/resolv.conf", away),
            Entry::symlink("etc/hosts", "/proc/self/fd/4"),
            Entry::symlink(
                "etc/hostname",
                "../../../../../../../../etc/hostname-of-mine",
            ),
            Entry::symlink("link", outside.path().to_str().expect("text")),
            Entry::symlink("process", "/proc"),
            Entry::symlink("top", "/"),
            Entry::symlink("self", "/proc/self/root"),
        ];
        let image = with_files(&files, plain());
        let s = Side::new(61_128, rootless, &image);
        let shared = s.shared("shared");
        fs::write(shared.join("file"), "shared\n").expect("write");
        let dir = shared.display();
        // /etc/hosts leads to a link of /proc, which is refused: nothing runs.
        s.refuses(&[], "/etc/hosts");
        let own = format!("{dir}/file:/etc/hosts");
        let _ = s.sh(&["-v", &own], "true");
        let files = [Entry::symlink("etc/hosts", away), Entry::dir("etc/")];
        let image =
            Image::with_config(&[&image.layers[..], &[Layer::of(&files)]].concat(), plain());
        let s = Side::new(61_128, rootless, &image);
        let seen = s.says(
            &["-v", &format!("{dir}:/link/in"), "--tmpfs", "/link/tmp"],
            "cat /link/in/file; ls -A /link; readlink /link",
        );
        assert_eq!(
            seen,
            format!("shared\nin\ntmp\nvictim\n{}", outside.path().display())
        );
        assert_eq!(fs::read_to_string(&victim).expect("there"), "host\n");
        assert_eq!(
            fs::read_dir(outside.path()).expect("list").count(),
            1,
            "nothing was made on the host"
        );
        for (target, why) in [
            ("/process/x", "/proc"),
            ("/process", "/proc"),
            ("/proc/sys", "/proc"),
            ("/proc/self/attr", "/proc"),
            ("/top", "root"),
            ("/self/x", "mounting at"),
        ] {
            s.refuses(&["-v", &format!("{dir}:{target}")], why);
        }
        let info = format!("{dir}/file:/proc/cpuinfo");
        assert_eq!(s.says(&["-v", &info], "cat /proc/cpuinfo"), "shared");
    }
}

#[test]
fn a_link_in_a_shared_directory_leads_no_mount_out() {
    Side::each(61_129, |s| {
        let shared = s.shared("shared");
        let outside = s.shared("outside");
        fs::write(outside.join("file"), "host\n").expect("write");
        symlink(&outside, shared.join("sub")).expect("link");
        let options = [format!("{}:/a", shared.display()), "data:/a/sub".to_owned()];
        let ran = s.sh(
            &["-v", &options[0], "-v", &options[1]],
            "ls -A /a/sub/; touch /a/sub/new",
        );
        assert!(!outside.join("new").exists(), "{}", ran.story());
        assert!(!ran.out().contains("file"), "{}", ran.story());
        assert_eq!(fs::read_dir(&outside).expect("list").count(), 1);
    });
}

#[test]
fn an_image_cannot_name_places_of_the_host_as_its_volumes() {
    let config = json!({
        "Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"],
        "Volumes": { "/etc:/host": {}, "../../x": {}, "/": {}, "/ok": {}, "/../up": {}, "": {} },
    });
    let image = Image::with_config(&[shell_layer()], config);
    let s = Side::new(61_130, false, &image);
    let said = s.says(&[], "ls -d /host /x 2>/dev/null; cat /proc/self/mounts");
    assert!(
        !said.contains(" /host ")
            && !said.starts_with("/host")
            && said.contains(" /ok ")
            && said.contains(" /up "),
        "{said}"
    );
}
