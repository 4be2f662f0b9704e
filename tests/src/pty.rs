//! A program at a pseudo-terminal, with somebody who types and reads: script(1) makes the terminal.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::command::tool;

/// A program that runs at a terminal of its own. Killed when dropped.
pub struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    shown: Arc<Mutex<String>>,
    /// Up to where the reader has read.
    read: usize,
}

impl Terminal {
    /// Starts a command, with the environment that it sets.
    #[track_caller]
    pub fn start(command: &Command) -> Self {
        let mut words = vec!["exec".to_owned(), "env".to_owned()];
        for (name, value) in command.get_envs() {
            let name = name.to_string_lossy();
            words.push(match value {
                Some(value) => quoted(OsStr::new(&format!("{name}={}", value.to_string_lossy()))),
                None => format!("-u {name}"),
            });
        }
        words.push(quoted(command.get_program()));
        words.extend(command.get_args().map(quoted));
        let mut script = Command::new(tool("script"));
        script.args(["-q", "-e", "-f", "-c", &words.join(" "), "/dev/null"]);
        if let Some(directory) = command.get_current_dir() {
            script.current_dir(directory);
        }
        let pipes = script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = pipes.spawn().expect("start script");
        let shown = Arc::new(Mutex::new(String::new()));
        let mut output = child.stdout.take().expect("its output");
        let collected = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                let mut shown = collected.lock().unwrap_or_else(PoisonError::into_inner);
                shown.push_str(&text);
            }
        });
        Self {
            keys: child.stdin.take(),
            child,
            shown,
            read: 0,
        }
    }

    /// All that was shown so far.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock();
        shown.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Types text and the return key.
    #[track_caller]
    pub fn line(&mut self, text: &str) {
        self.keys(&format!("{text}\r"));
    }

    /// Types keys.
    #[track_caller]
    pub fn keys(&mut self, keys: &str) {
        let input = self.keys.as_mut().expect("a terminal that is there");
        input.write_all(keys.as_bytes()).expect("type");
    }

    /// Waits until `text` is shown behind what was read before, and gives what stood before it.
    #[track_caller]
    pub fn until(&mut self, text: &str, within: Duration) -> String {
        let began = Instant::now();
        loop {
            let shown = self.shown();
            if let Some(at) = shown[self.read..].find(text) {
                let before = shown[self.read..self.read + at].to_owned();
                self.read += at + text.len();
                return before;
            }
            let ended = self.child.try_wait().expect("wait").is_some();
            if began.elapsed() > within || ended {
                // What came last may still be in the pipe.
                std::thread::sleep(Duration::from_millis(100));
                let shown = self.shown();
                if shown[self.read..].contains(text) {
                    continue;
                }
                panic!("{text:?} was not shown (ended: {ended}):\n{shown}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the program's end; its exit code.
    #[track_caller]
    pub fn wait(mut self, within: Duration) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < within, "it goes on:\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A word as the shell takes it for one.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}
