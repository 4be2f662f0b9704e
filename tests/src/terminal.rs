//! A program at a pseudo-terminal, as a person uses it: keys are typed, the screen is read.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::command::tool;

/// Nothing that a test waits for takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// A program under way at a terminal of its own. Killed when dropped.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    seen: usize,
}

impl Terminal {
    /// Starts `command` at a new terminal of 24 rows and 80 columns.
    #[track_caller]
    pub fn start(command: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("grant");
        unlockpt(&master).expect("unlock");
        let path = ptsname(&master, Vec::new()).expect("name");
        let slave = || {
            let path = std::ffi::OsStr::from_bytes(path.as_bytes());
            let opened = OpenOptions::new().read(true).write(true).open(path);
            Stdio::from(opened.expect("the other side"))
        };
        // setsid makes the terminal the one that keys like ctrl-c come from.
        let mut session = Command::new(tool("setsid"));
        session
            .args(["--ctty", "--wait"])
            .arg(command.get_program());
        session.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            session.current_dir(directory);
        }
        session.stdin(slave()).stdout(slave()).stderr(slave());
        let child = session.spawn().expect("start");
        // Only the program has the other side now, so its end is seen.
        drop(session);
        let terminal = Self {
            child,
            keyboard: File::from(master.try_clone().expect("clone")),
            screen: Arc::default(),
            seen: 0,
        };
        terminal.resize(24, 80);
        let screen = Arc::clone(&terminal.screen);
        let mut output = File::from(master);
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                screen.lock().expect("lock").extend(&buffer[..length]);
            }
        });
        terminal
    }

    /// Gives the terminal another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keyboard, size).expect("resize");
    }

    /// Types.
    #[track_caller]
    pub fn keys(&mut self, keys: impl AsRef<[u8]>) {
        self.keyboard.write_all(keys.as_ref()).expect("type");
    }

    /// Everything that was ever on the screen.
    pub fn screen(&self) -> String {
        let screen = self.screen.lock().expect("lock");
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// Waits until `text` appears behind what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait_for_within(text, LIMIT);
    }

    /// [`Terminal::wait_for`] something that may take so long.
    #[track_caller]
    pub fn wait_for_within(&mut self, text: &str, limit: Duration) {
        let limit = Instant::now() + limit;
        loop {
            {
                let screen = self.screen.lock().expect("lock");
                let new = &screen[self.seen..];
                if let Some(at) = new.windows(text.len()).position(|w| w == text.as_bytes()) {
                    self.seen += at + text.len();
                    return;
                }
            }
            assert!(
                Instant::now() < limit,
                "{text:?} does not appear:\n{}",
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the program's end: its exit code.
    #[track_caller]
    pub fn wait(mut self) -> i32 {
        let limit = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code().unwrap_or(-1);
            }
            assert!(
                Instant::now() < limit,
                "it does not end:\n{}",
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
