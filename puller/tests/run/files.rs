//! What containers write, and what their images may not make them do.

use std::fs;
use std::os::fd::AsRawFd as _;

use serde_json::json;

use crate::support::{Machine, Tar, base_layer};

/// All files of all layers with their content.
fn layers(machine: &Machine) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![machine.root().join("layers")];
    while let Some(path) = todo.pop() {
        let stat = path.symlink_metadata().expect("stat");
        if stat.is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .expect("list")
                    .map(|e| e.expect("entry").path()),
            );
        }
        let content = if stat.is_file() {
            fs::read(&path).expect("read")
        } else {
            Vec::new()
        };
        found.push((
            format!("{} {:?}", path.display(), stat.permissions()),
            content,
        ));
    }
    found.sort();
    found
}

#[test]
fn writes_stay_in_the_container() {
    for m in Machine::both() {
        let before = layers(&m);
        let change = "echo changed > /data/one; rm /data/two; rm -r /data/sub; mkdir /data/sub; echo a > /data/added; \
                      touch /bin/cat; cat /data/one; ls /data /data/sub";
        let out = m
            .strata(&["run", "--name", "first", "base", "sh", "-c", change])
            .ok();
        assert_eq!(out, "changed\n/data:\nadded\none\nsub\n\n/data/sub:");
        let look = "cat /data/one /data/two /data/sub/three; ls /data";
        assert_eq!(m.sh(&[], look).ok(), "one\ntwo\nthree\none\nsub\ntwo");
        assert!(layers(&m) == before, "layers are never written to");
        m.strata(&["rm", "first"]).ok();
        assert!(layers(&m) == before, "nor removed with a container");
        m.assert_tidy();
    }
}

#[test]
fn a_link_in_place_of_resolv_conf_leads_nowhere() {
    for m in Machine::both() {
        let victim = m.outside("host-file");
        fs::write(&victim, "the host's").expect("write");
        let victim = victim.to_str().expect("text");
        let traps = Tar::new()
            .dir("etc/")
            .link("etc/resolv.conf", victim)
            .link("etc/hostname", "/run/none/hostname")
            .done();
        m.image("trap", &[base_layer(), traps], json!({}));
        let script = format!(
            "echo mine > {victim}; cat /etc/hostname; stat -c %F /etc/resolv.conf; echo x > /etc/resolv.conf"
        );
        let out = m
            .strata(&[
                "run",
                "--rm",
                "--hostname",
                "box",
                "trap",
                "sh",
                "-c",
                &script,
            ])
            .ok();
        assert_eq!(out, "box\nsymbolic link");
        assert_eq!(fs::read_to_string(victim).expect("there"), "the host's");
        let kept = m
            .strata(&["run", "--rm", "trap", "cat", "/etc/resolv.conf"])
            .ok();
        let of_host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        assert_eq!(kept, of_host.trim_end());
        // What leads to wherever the process has something open is not followed at all.
        let magic = Tar::new().dir("etc/");
        let magic = magic.link("etc/hosts", "../../../../proc/self/fd/3").done();
        m.image("magic", &[base_layer(), magic], json!({}));
        m.strata(&["run", "--rm", "magic", "true"])
            .fails(125, "/etc/hosts");
        m.assert_tidy();
    }
}

#[test]
fn kernel_file_systems_are_not_mounted_through_links() {
    for m in Machine::both() {
        for name in ["proc", "dev", "sys"] {
            m.image(
                name,
                &[base_layer(), Tar::new().link(name, "tmp").done()],
                json!({}),
            );
            m.strata(&["run", "--rm", name, "true"]).fails(125, name);
        }
        m.assert_tidy();
    }
}

#[test]
fn a_working_directory_cannot_lie_outside() {
    for m in Machine::both() {
        // As in CVE-2024-21626: a descriptor of the host, reached through /proc.
        let open = fs::File::open("/").expect("open");
        let mut attempts: Vec<String> = (3..20).map(|n| format!("/proc/self/fd/{n}")).collect();
        attempts.push(format!("/proc/self/fd/{}/tmp", open.as_raw_fd()));
        attempts.push("/proc/1/root".to_owned());
        attempts.push("/proc/self/cwd".to_owned());
        for directory in attempts {
            let ran = m.strata(&["run", "--rm", "-w", &directory, "base", "pwd"]);
            assert_eq!(ran.code, 125, "{directory}: {}{}", ran.out, ran.err);
        }
        m.image(
            "link",
            &[base_layer(), Tar::new().link("up", "../../..").done()],
            json!({ "WorkingDir": "/up/tmp" }),
        );
        assert_eq!(m.strata(&["run", "--rm", "link", "pwd"]).ok(), "/tmp");
        assert_eq!(
            m.sh(&["-w", "/not/there/yet"], "pwd").ok(),
            "/not/there/yet"
        );
        m.sh(&["-w", "data"], "pwd").fails(125, "absolute path");
        m.strata(&["run", "--rm", "-w", "/data/one", "base", "pwd"])
            .fails(125, "/data/one");
        m.assert_tidy();
    }
}

#[test]
fn no_descriptor_of_the_host_is_in_the_container() {
    for m in Machine::both() {
        // A shell that hands descriptors on, as a careless caller does.
        let line = format!(
            "exec 7</; exec {} run --rm base ls /proc/self/fd",
            m.program().display()
        );
        let mut shell = m.prepare(std::process::Command::new("sh"));
        shell.args(["-c", &line]);
        let out = String::from_utf8(shell.output().expect("sh").stdout).expect("text");
        let numbers: Vec<&str> = out.lines().collect();
        // Its own descriptor for the listing is ls's, the fourth.
        assert_eq!(numbers, ["0", "1", "2", "3"], "{out}");
        m.assert_tidy();
    }
}

#[test]
fn the_program_itself_cannot_be_reached_for_writing() {
    for m in Machine::both() {
        // As in CVE-2019-5736: the entry point is the runtime. There is no loader for it in the image, so
        // it ends there; what it was started from is read-only whatever happens (see the unit tests).
        let before = fs::metadata(m.program())
            .expect("there")
            .modified()
            .expect("time");
        m.strata(&["run", "--rm", "base", "/proc/self/exe", "--version"])
            .fails(127, "/proc/self/exe");
        let after = fs::metadata(m.program())
            .expect("there")
            .modified()
            .expect("time");
        assert_eq!(before, after);
        m.assert_tidy();
    }
}
