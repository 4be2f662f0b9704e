//! `--init`: a first process that does nothing but pass signals on and reap whatever loses its parent. It is our own
//! program, which has given up everything that the container must not have before it splits off the command.
#![allow(unsafe_code)]

use std::io;

/// Splits this process: the child comes back, to become the command; the parent stays as the reaper until the
/// command ends, and leaves with its status. With a terminal, the command's process group is the one in its
/// foreground.
pub(super) fn split(terminal: bool) -> io::Result<()> {
    // SAFETY: sets are filled before use; this process has one thread, so the child may go on as any process.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        // Both begin with all blocked: nothing is lost meanwhile, and the child may take the terminal.
        if libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                libc::setpgid(0, 0);
                if terminal {
                    libc::tcsetpgrp(0, libc::getpid());
                }
                Ok(())
            }
            child => reap(child, &all),
        }
    }
}

/// Waits for signals until the command has ended.
///
/// # Safety
/// The process has one thread, and nothing of it is used afterwards.
unsafe fn reap(command: libc::pid_t, all: &libc::sigset_t) -> ! {
    // SAFETY: takes numbers, and pointers to values that outlive the calls; the descriptors that are closed are used
    // by nobody any more. Whoever waits for the socket to close is told by it that the command runs.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        loop {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let signal = libc::sigwaitinfo(all, &mut info);
            if signal > 0 && signal != libc::SIGCHLD {
                libc::kill(command, signal);
                continue;
            }
            let mut status = 0;
            loop {
                let ended = libc::waitpid(-1, &mut status, libc::WNOHANG);
                if ended <= 0 {
                    break;
                }
                if ended == command {
                    libc::_exit(match libc::WIFSIGNALED(status) {
                        true => 128 + libc::WTERMSIG(status),
                        false => libc::WEXITSTATUS(status),
                    });
                }
            }
        }
    }
}
