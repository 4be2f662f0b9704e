//! The container's process: how it starts, what it may do, what reaches it, how it ends.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Machine, Tar, base_layer, until, with_input};

#[test]
fn exit_codes_are_those_of_docker() {
    for m in Machine::both() {
        for code in [0, 3, 125, 255] {
            assert_eq!(m.sh(&[], &format!("exit {code}")).code, code);
        }
        // pid 1 is out of its own reach, so a child is killed.
        assert_eq!(m.sh(&[], "sh -c 'kill -9 $$'; exit $?").code, 137);
        m.strata(&["run", "--rm", "base", "no-such"])
            .fails(127, "\"no-such\": executable file not found in $PATH");
        m.strata(&["run", "--rm", "base", "/no/such"])
            .fails(127, "no such file");
        m.strata(&["run", "--rm", "base", "/data/one"])
            .fails(126, "permission denied");
        m.strata(&["run", "--rm", "base", "/data"])
            .fails(126, "/data");
        m.strata(&["run", "--rm", "no-such-image", "true"])
            .fails(125, "no-such-image");
        m.strata(&["run", "--rm", "-u", "nobody-here", "base", "true"])
            .fails(125, "nobody-here");
        let odd = Tar::new()
            .file("odd", 0o755, "not a program")
            .file("script", 0o755, "#!/no/shell\n")
            .done();
        m.image("odd", &[base_layer(), odd], json!({}));
        m.strata(&["run", "--rm", "odd", "/odd"])
            .fails(126, "exec format error");
        m.strata(&["run", "--rm", "odd", "/script"])
            .fails(127, "interpreter");
        m.strata(&["run", "--rm", "odd"]).fails(125, "no command");
        m.assert_tidy();
    }
}

#[test]
fn the_environment_is_the_images_and_the_given_one() {
    for m in Machine::both() {
        m.image(
            "entry",
            &[base_layer()],
            json!({ "Entrypoint": ["/bin/echo", "entry"], "Cmd": ["default"] }),
        );
        assert_eq!(m.strata(&["run", "--rm", "entry"]).ok(), "entry default");
        assert_eq!(
            m.strata(&["run", "--rm", "entry", "--rm", "-t"]).ok(),
            "entry --rm -t"
        );
        assert_eq!(
            m.strata(&["run", "--rm", "--entrypoint", "/bin/echo", "entry", "x"])
                .ok(),
            "x"
        );
        let file = m.outside("variables");
        std::fs::write(&file, "FILE=f\nBOTH=file\n").expect("write");
        let file = file.to_str().expect("text");
        let options = [
            "--env-file",
            file,
            "-e",
            "BOTH=line",
            "-e",
            "STRATA_ROOT",
            "--hostname",
            "box",
        ];
        let out = m.sh(&options, "echo $FILE $BOTH $FROM_IMAGE $HOSTNAME $HOME; hostname; echo ${STRATA_ROOT##*/}; umask").ok();
        assert_eq!(out, "f line yes box /root\nbox\nstore\n0022");
        assert_eq!(m.sh(&[], "echo [$STRATA_ROOT]").ok(), "[]");
        assert!(
            m.sh(&["--hostname", "box"], "cat /etc/hosts")
                .ok()
                .contains("127.0.1.1\tbox")
        );
    }
}

#[test]
fn the_process_is_confined() {
    for m in Machine::both() {
        let out = m
            .sh(
                &[],
                "echo $$; grep -h -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status",
            )
            .ok();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "1");
        let docker = 0xa804_25fb_u64;
        for line in &lines[1..] {
            let (name, bits) = line.split_once(':').expect("field");
            let bits = u64::from_str_radix(bits.trim(), 16).expect("bits");
            let allowed = if name.ends_with("Inh") || name.ends_with("Amb") {
                0
            } else {
                docker
            };
            assert_eq!(bits & !allowed, 0, "{line}");
        }
        for forbidden in [
            "echo x > /sys/kernel/x",
            "echo x > /proc/sys/kernel/hostname",
            "mount -t tmpfs none /tmp",
            "hostname other",
        ] {
            assert_ne!(m.sh(&[], forbidden).code, 0, "{forbidden}");
        }
        assert_eq!(m.sh(&[], "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware | wc -l").ok(), "0\n0");
        let devices = "echo x > /dev/null; test -c /dev/urandom && test -d /dev/shm && test -e /dev/pts/ptmx && ls /dev | wc -l";
        assert!(m.sh(&[], devices).ok().parse::<u32>().expect("number") < 20);
        let processes: u32 = m.sh(&[], "ps | wc -l").ok().parse().expect("number");
        assert!((2..=4).contains(&processes), "only its own: {processes}");
    }
}

#[test]
fn users_are_looked_up_in_the_container() {
    for m in Machine::both() {
        if m.rootless() {
            m.strata(&["run", "--rm", "-u", "www", "base", "id"])
                .fails(125, "run as root");
            assert_eq!(m.sh(&["-u", "0:0"], "id -u").ok(), "0");
            continue;
        }
        let ids = |user: &str| {
            m.sh(&["-u", user], "echo $(id -u):$(id -g):$(id -G) $HOME")
                .ok()
        };
        assert_eq!(ids("www"), "33:33:33 44 /data");
        assert_eq!(ids("33:7"), "33:7:7 /data");
        assert_eq!(ids("4242"), "4242:0:0 /");
        let caps = m
            .sh(&["-u", "www"], "grep -E 'Cap(Prm|Eff)' /proc/self/status")
            .ok();
        assert!(
            caps.lines().all(|l| l.ends_with("\t0000000000000000")),
            "{caps}"
        );
        // A pipe can be opened again by its name, though root made it.
        assert_eq!(
            m.sh(&["-u", "www"], "echo again > /dev/stdout").ok(),
            "again"
        );
    }
}

#[test]
fn input_is_passed_on_only_if_asked_for() {
    for m in Machine::both() {
        let input = b"line\n".repeat(100_000);
        let ran = with_input(
            &mut m.command(&["run", "--rm", "-i", "base", "cat"]),
            &input,
        );
        assert!(ran.ok().len() == input.len() - 1);
        let ran = with_input(&mut m.command(&["run", "--rm", "base", "cat"]), b"unheard");
        assert_eq!(ran.ok(), "");
    }
}

fn pid(child: &std::process::Child) -> Pid {
    Pid::from_child(child)
}

#[test]
fn signals_reach_the_process() {
    for m in Machine::both() {
        let signals = [
            (Signal::TERM, "TERM"),
            (Signal::INT, "INT"),
            (Signal::HUP, "HUP"),
            (Signal::USR1, "USR1"),
        ];
        for (signal, name) in signals {
            let script = format!(
                "trap 'echo got; exit 7' {name}; touch /ready; while :; do sleep 0.02; done"
            );
            let mut command =
                m.command(&["run", "--name", "signalled", "base", "sh", "-c", &script]);
            let child = command.stdout(Stdio::piped()).spawn().expect("start");
            until("it is ready", || {
                let dirs = std::fs::read_dir(m.root().join("containers"))
                    .into_iter()
                    .flatten()
                    .flatten();
                dirs.map(|d| d.path().join("upper/ready"))
                    .any(|p| p.exists())
            });
            kill_process(pid(&child), signal).expect("kill");
            let output = child.wait_with_output().expect("wait");
            assert_eq!(
                (output.status.code(), output.stdout.as_slice()),
                (Some(7), b"got\n".as_slice()),
                "{name}"
            );
            m.strata(&["rm", "signalled"]).ok();
        }
        m.assert_tidy();
    }
}

#[test]
fn a_container_outlives_its_command_and_dies_with_its_monitor_and_the_store_is_put_right() {
    for m in Machine::both() {
        let mark = format!("{}", 1_000_000 + std::process::id());
        let running = || {
            let wanted = format!("sleep\0{mark}\0").into_bytes();
            let lines = std::fs::read_dir("/proc").expect("list").flatten();
            lines
                .map(|e| e.path())
                .find(|p| std::fs::read(p.join("cmdline")).is_ok_and(|l| l == wanted))
        };
        let alive = || running().is_some();
        let mut child = m
            .command(&["run", "--name", "victim", "base", "sleep", &mark])
            .spawn()
            .expect("start");
        until("it runs", || m.state_of("victim") == "running" && alive());
        m.strata(&["rm", "victim"]).fails(1, "running");
        m.strata(&["run", "--name", "victim", "base", "true"])
            .fails(125, "already in use");
        child.kill().expect("kill");
        child.wait().expect("wait");
        let stat = std::fs::read_to_string(running().expect("it goes on").join("stat"));
        let stat = stat.expect("its state");
        let parent = stat.rsplit(") ").next().expect("fields").split(' ').nth(1);
        let monitor = parent.and_then(|p| Pid::from_raw(p.parse().ok()?));
        kill_process(monitor.expect("its monitor"), Signal::KILL).expect("kill");
        until("it is dead", || !alive());
        // Its last work in the kernel, the unmounting, may take a moment.
        until("it has ended", || m.state_of("victim") == "exited");
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(
            !mounts.contains(&m.root().display().to_string()),
            "{mounts}"
        );
        m.strata(&["rm", "victim"]).ok();
        m.assert_tidy();
    }
}

#[test]
fn rm_f_ends_what_runs() {
    for m in Machine::both() {
        for rm in [true, false] {
            let options: &[&str] = if rm { &["run", "--rm"] } else { &["run"] };
            let args = [options, &["--name", "long", "base", "sleep", "1000"]].concat();
            let mut child = m.command(&args).spawn().expect("start");
            until("it runs", || m.state_of("long") == "running");
            assert_eq!(m.strata(&["rm", "-f", "long"]).ok(), "long");
            assert_eq!(child.wait().expect("wait").code(), Some(137));
            m.assert_tidy();
        }
        m.strata(&["rm", "none"])
            .fails(1, "no such container: none");
        m.strata(&["rm", "-f", "none"]).ok();
    }
}

#[test]
fn ps_tells_what_there_is() {
    for m in Machine::both() {
        m.strata(&["run", "--name", "done", "base", "sh", "-c", "exit 4"]);
        assert_eq!(m.strata(&["ps", "-q"]).ok(), "");
        let listed = m.ps();
        assert_eq!(
            (&listed[0]["state"], &listed[0]["exit_code"]),
            (&json!("exited"), &json!(4))
        );
        assert_eq!(listed[0]["command"], json!(["sh", "-c", "exit 4"]));
        let table = m.strata(&["ps", "-a"]).ok();
        let header: Vec<&str> = table
            .lines()
            .next()
            .expect("header")
            .split("  ")
            .map(str::trim)
            .filter(|w| !w.is_empty())
            .collect();
        assert_eq!(
            header,
            [
                "CONTAINER ID",
                "IMAGE",
                "COMMAND",
                "CREATED",
                "STATUS",
                "NAMES"
            ]
        );
        assert!(
            table.contains("Exited (4)") && table.contains("\"sh -c exit 4\""),
            "{table}"
        );
        let id = m.strata(&["ps", "-aq", "--no-trunc"]).ok();
        assert_eq!(id.len(), 64);
        m.strata(&["rm", &id[..6]]).ok();
        m.assert_tidy();
    }
}

#[test]
fn many_run_at_once_under_names_of_their_own() {
    for m in Machine::both() {
        std::thread::scope(|scope| {
            for n in 0..8 {
                let m = &m;
                scope.spawn(move || {
                    let script = format!("echo {n} > /data/one; sleep 0.1; cat /data/one");
                    assert_eq!(
                        m.strata(&["run", "base", "sh", "-c", &script]).ok(),
                        n.to_string()
                    );
                });
            }
        });
        let listed = m.ps();
        let names: std::collections::HashSet<&str> = listed
            .as_array()
            .expect("list")
            .iter()
            .map(|c| c["name"].as_str().expect("text"))
            .collect();
        assert_eq!(names.len(), 8);
        let args: Vec<&str> = ["rm"].into_iter().chain(names).collect();
        m.strata(&args).ok();
        m.assert_tidy();
        std::thread::sleep(Duration::from_millis(1));
    }
}
