//! The parent's part while a container runs: signals go to its first process, bytes to and from its terminal, and its
//! end becomes ours.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::sys;
use super::terminal::Relay;

/// What is passed on. KILL and STOP cannot be; CHLD, PIPE, TTIN, TTOU and TSTP are the parent's own.
pub(super) const FORWARDED: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGWINCH,
    libc::SIGPWR,
];

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this exit code.
    Code(u8),
    /// Killed by this signal.
    Signal(u8),
}

impl Exit {
    /// The exit code that a shell shows: 128 and the signal's number for a death by signal.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
        }
    }
}

/// Relays until the process ends. `signals` reads [`FORWARDED`].
pub(super) fn supervise(
    process: &OwnedFd,
    signals: &OwnedFd,
    mut relay: Option<Relay>,
) -> io::Result<Exit> {
    loop {
        let mut fds = vec![
            PollFd::new(process, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        let (master, stdin) = relay.as_ref().map_or((None, None), Relay::watched);
        if let Some((master, wants_input)) = &master {
            let write = if *wants_input {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            fds.push(PollFd::new(master, PollFlags::IN | write));
        }
        if let Some(stdin) = &stdin {
            fds.push(PollFd::new(stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let at = |index: usize| ready.get(index).copied().unwrap_or(PollFlags::empty());
        let (master_at, stdin_at) = (master.map(|_| 2), stdin.map(|_| ready.len() - 1));
        drop(fds);
        if !at(1).is_empty() {
            while let Some(signal) = sys::next_signal(signals) {
                forward(process, signal, relay.as_mut());
            }
        }
        if let Some(relay) = relay.as_mut() {
            if master_at.is_some_and(|i| at(i).contains(PollFlags::OUT)) {
                relay.give_input();
            }
            if stdin_at.is_some_and(|i| !at(i).is_empty()) {
                relay.take_input();
            }
            let more = master_at.is_some_and(|i| at(i).intersects(PollFlags::IN | PollFlags::HUP))
                && relay.take_output();
            if !more && master_at.is_some_and(|i| at(i) == PollFlags::HUP) && at(0).is_empty() {
                // The terminal has no program on it for now: wait a little rather than spin.
                pause();
            }
        }
        if !at(0).is_empty() {
            // What it printed last is still in the terminal.
            while relay.as_mut().is_some_and(Relay::take_output) {}
            return reap(process);
        }
    }
}

fn forward(process: &OwnedFd, signal: i32, relay: Option<&mut Relay>) {
    match relay {
        Some(relay) if signal == libc::SIGWINCH => return relay.resize(),
        Some(relay) if signal == libc::SIGHUP => relay.hang_up(),
        _ => {}
    }
    // It may have ended in between; then there is nobody to tell.
    let _ = sys::send_signal(process, signal);
}

fn pause() {
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let _ = poll(&mut [], Some(&moment));
}

/// Waits for the process and tells how it ended.
pub(super) fn reap(process: &OwnedFd) -> io::Result<Exit> {
    use std::os::fd::AsFd as _;
    let status = rustix::io::retry_on_intr(|| {
        waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED)
    })?;
    let status = status.ok_or_else(|| io::Error::other("the process cannot be waited for"))?;
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code as u8),
        (None, Some(signal)) => Exit::Signal(signal as u8),
        (None, None) => Exit::Code(255),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_by_signal_is_128_and_its_number() {
        assert_eq!(Exit::Code(3).code(), 3);
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Signal(255).code(), 255);
    }
}
