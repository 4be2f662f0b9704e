//! A container with a terminal, at a real pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Child;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{Machine, until};

/// A person at a terminal.
struct Seat {
    master: File,
    slave: OwnedFd,
    seen: String,
}

impl Seat {
    fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("slave");
        rustix::io::ioctl_fionbio(&master, true).expect("nonblocking");
        let seat = Self {
            master: master.into(),
            slave,
            seen: String::new(),
        };
        seat.resize(40, 100);
        seat
    }

    fn resize(&self, ws_row: u16, ws_col: u16) {
        tcsetwinsize(
            &self.slave,
            Winsize {
                ws_row,
                ws_col,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .expect("resize");
    }

    fn start(&self, m: &Machine, args: &[&str]) -> Child {
        let stream = || self.slave.try_clone().expect("clone");
        m.command(args)
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .expect("start")
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.master.read(&mut buffer) {
            self.seen
                .push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    /// Waits for a text after what was seen before.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        until(&format!("{text:?} appears"), || {
            self.read();
            self.seen.contains(text)
        });
        let end = self.seen.find(text).expect("just seen") + text.len();
        self.seen.drain(..end);
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("type");
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave)
            .expect("attributes")
            .local_modes
            .contains(LocalModes::ICANON)
    }
}

#[test]
fn a_shell_at_a_terminal() {
    for m in Machine::both() {
        let mut seat = Seat::new();
        let mut child = seat.start(&m, &["run", "--rm", "-it", "base", "sh"]);
        seat.sees("# ");
        assert!(seat.is_raw(), "every key goes to the container");
        seat.types("tty; stty size; echo $TERM\r");
        seat.sees("/dev/pts/0\r\n40 100\r\nxterm\r\n");
        seat.resize(50, 120);
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::WINCH,
        )
        .expect("kill");
        std::thread::sleep(std::time::Duration::from_millis(100));
        seat.types("stty size; ls /dev/console\r");
        seat.sees("50 120\r\n/dev/console\r\n");
        seat.types("sleep 1000\r");
        seat.sees("sleep 1000");
        std::thread::sleep(std::time::Duration::from_millis(200));
        seat.types("\x03");
        seat.sees("# ");
        seat.types("exit 5\r");
        assert_eq!(child.wait().expect("wait").code(), Some(5));
        assert!(!seat.is_raw(), "the terminal is as before");
        m.assert_tidy();
    }
}

#[test]
fn everything_printed_at_the_end_arrives() {
    for m in Machine::both() {
        let mut seat = Seat::new();
        let mut child = seat.start(
            &m,
            &[
                "run",
                "--rm",
                "-t",
                "base",
                "sh",
                "-c",
                "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done",
            ],
        );
        until("it ends", || {
            seat.read();
            child.try_wait().expect("wait").is_some()
        });
        seat.read();
        let last = &seat.seen[seat.seen.len().saturating_sub(80)..];
        assert!(last.trim_end().ends_with("line 1999"), "{last:?}");
        assert_eq!(seat.seen.lines().count(), 2000);
    }
}

#[test]
fn the_terminal_is_put_back_when_the_runner_is_told_to_end() {
    for m in Machine::both() {
        let mut seat = Seat::new();
        let script = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.02; done";
        let mut child = seat.start(&m, &["run", "--rm", "-it", "base", "sh", "-c", script]);
        seat.sees("ready");
        assert!(seat.is_raw());
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )
        .expect("kill");
        seat.sees("bye");
        assert_eq!(child.wait().expect("wait").code(), Some(9));
        assert!(!seat.is_raw());
        m.assert_tidy();
    }
}

#[test]
fn a_terminal_for_a_pipe_is_refused() {
    let m = Machine::new(true);
    m.strata(&["run", "--rm", "-it", "base", "sh"])
        .fails(125, "not a TTY");
    assert_eq!(m.sh(&["-t"], "tty").ok(), "/dev/pts/0");
    m.assert_tidy();
}
