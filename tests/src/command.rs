//! Running a program to its end, with a limit on time and its output kept.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// No program that a test starts takes longer; one that does hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// What a program that has ended left.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// The standard output without the last line's end.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// The exit code; 128 + n for a program that signal n ended.
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let signal = self.status.signal().map(|n| 128 + n);
        self.status.code().or(signal).unwrap_or(-1)
    }

    /// Passes a success on; panics with all that the program said otherwise.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "should succeed: {}", self.story());
        self
    }

    /// Passes exit code 1 on: refused, with a message on standard error and no panic behind it.
    #[track_caller]
    pub fn refused(self) -> Self {
        assert_eq!(self.code(), 1, "should be refused: {}", self.story());
        assert!(
            !self.stderr.trim().is_empty(),
            "no reason: {}",
            self.story()
        );
        assert!(!self.stderr.contains("panicked"), "{}", self.story());
        self
    }

    /// Asserts that standard error has `word`, in any case.
    #[track_caller]
    pub fn says(self, word: &str) -> Self {
        let found = self.stderr.to_lowercase().contains(&word.to_lowercase());
        assert!(
            found,
            "standard error should name {word:?}: {}",
            self.story()
        );
        self
    }

    /// Everything, for a message.
    pub fn story(&self) -> String {
        format!(
            "{}\n  {}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.status,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        )
    }
}

/// Runs `command` to its end with nothing on standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    run_with_input(command, b"")
}

/// Runs `command` to its end with `input` on standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    command.stdin(stdin);
    let mut running = Running::start(command);
    if let Some(mut stdin) = running.child.stdin.take() {
        let input = input.to_vec();
        // A program that does not read its input to the end is not at fault for that.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    running.wait()
}

/// A program under way, its output being collected. Killed when dropped.
pub struct Running {
    /// The process.
    pub child: Child,
    what: String,
    started: Instant,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

impl Running {
    /// Starts `command`; its standard input is as the caller set it.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => panic!("cannot start {what}: {error}"),
        };
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let started = Instant::now();
        Self {
            child,
            what,
            started,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to the process. It has not been waited for, so the id is still its own.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("signal");
    }

    /// [`Running::wait`], and the most memory that the process was seen to have resident, in bytes.
    #[track_caller]
    pub fn wait_for_peak(mut self) -> (Ran, u64) {
        let mut peak = 0;
        while self.child.try_wait().expect("wait").is_none() && self.started.elapsed() < LIMIT {
            // It only grows: the last look tells all but what the last milliseconds brought.
            peak = peak_memory(self.child.id()).unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(5));
        }
        (self.wait(), peak)
    }

    /// Waits for the end; a program that takes too long is killed and fails the test.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if self.started.elapsed() > LIMIT {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let stderr = text(&self.stderr);
                panic!("took more than {LIMIT:?}: {}\n{stderr}", self.what);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.started.elapsed();
        let limit = Duration::from_secs(10);
        let stdout = self.stdout.recv_timeout(limit);
        let Ok(stdout) = stdout else {
            panic!(
                "ended, but something that it started holds its output open: {}",
                self.what
            );
        };
        Ran {
            what: std::mem::take(&mut self.what),
            status,
            stdout,
            stderr: text(&self.stderr),
            took,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(output: &Receiver<Vec<u8>>) -> String {
    let bytes = output.recv_timeout(Duration::from_secs(10));
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// The most memory that a process has had resident, in bytes (proc(5), VmHWM); `None` when it has ended.
pub fn peak_memory(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The full path of a program on PATH (sbin included); fails the test with its name when it is missing.
#[track_caller]
pub fn tool(name: &str) -> PathBuf {
    match find(name) {
        Some(path) => path,
        None => panic!("{name} is missing: run tests/run, which installs what the tests need"),
    }
}

/// The full path of a program on PATH, or in the directories of system programs.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    std::env::split_paths(&path)
        .chain(system.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The process with exactly this command line, if there is one (proc_pid_cmdline(5)).
pub fn find_process(words: &[&str]) -> Option<Pid> {
    let wanted: String = words.iter().map(|word| format!("{word}\0")).collect();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline"));
            line.is_ok_and(|line| line == wanted.as_bytes())
        })
        .find_map(|entry| entry.file_name().to_str()?.parse().ok())
        .and_then(Pid::from_raw)
}

/// Whether a process has ended and closed its files: it is gone, or waits for its parent to ask (proc_pid_stat(5)).
pub fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = |stat: &str| {
        stat.rsplit_once(')')
            .map(|(_, rest)| rest.trim_start().chars().next())
    };
    stat.map_or(true, |stat| matches!(state(&stat), Some(Some('Z' | 'X'))))
}

/// Waits until there is a process with exactly this command line.
#[track_caller]
pub fn wait_for_process(words: &[&str]) -> Pid {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(pid) = find_process(words) {
            return pid;
        }
        assert!(Instant::now() < limit, "{words:?} did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}
