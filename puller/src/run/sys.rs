//! The system calls that no safe wrapper offers.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Exit;
use rustix::mount::MountPropagationFlags;

/// `MOUNT_ATTR_RDONLY` and its kin of linux/mount.h.
pub(crate) const ATTR_READ_ONLY: u64 = 0x1;
/// See [`ATTR_READ_ONLY`].
pub(super) const ATTR_NO_SUID: u64 = 0x2;
/// See [`ATTR_READ_ONLY`].
pub(super) const ATTR_NO_DEV: u64 = 0x4;
/// See [`ATTR_READ_ONLY`].
pub(super) const ATTR_NO_EXEC: u64 = 0x8;

/// A NULL-terminated list of strings, as execve(2) takes.
pub(super) struct StringList {
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl StringList {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self {
            _strings: strings,
            pointers,
        }
    }
}

/// Where a child's descriptors come from: (ours, its number).
pub(super) type Descriptors<'a> = [(BorrowedFd<'a>, RawFd)];

/// Makes a child in new namespaces that runs the program behind `program`: its pid and a descriptor
/// for it. Of our descriptors it has 0, 1, 2 and those of `descriptors`, whose sources must all have
/// numbers above their targets'.
pub(super) fn spawn(
    namespaces: u64,
    program: BorrowedFd,
    arguments: &StringList,
    environment: &StringList,
    descriptors: &Descriptors,
) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let first_unused = descriptors
        .iter()
        .map(|d| d.1 + 1)
        .max()
        .unwrap_or(0)
        .max(3);
    // SAFETY: all-zero is a valid clone_args; pidfd outlives the call. Without CLONE_VM the child has
    // its own copy of memory; it makes nothing but system calls on values made before, so a lock that
    // another thread held at the time of the clone cannot matter.
    unsafe {
        let mut args: libc::clone_args = std::mem::zeroed();
        args.flags = namespaces | libc::CLONE_PIDFD as u64;
        args.pidfd = (&raw mut pidfd) as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        let size = std::mem::size_of::<libc::clone_args>();
        match libc::syscall(libc::SYS_clone3, &raw mut args, size) {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                for (source, target) in descriptors {
                    if libc::dup2(source.as_raw_fd(), *target) < 0 {
                        libc::_exit(125);
                    }
                }
                let rest = first_unused as libc::c_uint;
                let on_exec = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
                libc::syscall(libc::SYS_close_range, rest, libc::c_uint::MAX, on_exec);
                libc::syscall(
                    libc::SYS_execveat,
                    program.as_raw_fd(),
                    c"".as_ptr(),
                    arguments.pointers.as_ptr(),
                    environment.pointers.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
                libc::_exit(125)
            }
            pid => Ok((pid as i32, OwnedFd::from_raw_fd(pidfd))),
        }
    }
}

/// Replaces the program; comes back only with an error.
pub(super) fn execute(
    program: &CStr,
    arguments: &StringList,
    environment: &StringList,
) -> io::Error {
    // SAFETY: the lists are NULL-terminated and live through the call.
    unsafe {
        libc::execve(
            program.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        );
    }
    io::Error::last_os_error()
}

/// Takes a descriptor that the parent placed at a number, if there is one.
pub(super) fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: called once a number, first thing in a process whose parent put these descriptors there
    // for this purpose; nothing else owns them.
    unsafe {
        if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return None;
        }
        Some(OwnedFd::from_raw_fd(number))
    }
}

/// Marks every descriptor but standard input, output and error to be closed by the next execve(2).
pub(super) fn close_others_on_exec() -> io::Result<()> {
    let on_exec = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: takes numbers only, and closes nothing now.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, on_exec) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Changes the attributes of a mount, or of all mounts of a tree (mount_setattr(2), Linux 5.12).
pub(crate) fn set_mount_attributes(mount: impl AsFd, set: u64, recursive: bool) -> io::Result<()> {
    set_mount(mount, set, 0, recursive)
}

/// Changes which mounts pass between a mount and others of its kind.
pub(super) fn set_mount_propagation(
    mount: impl AsFd,
    kind: MountPropagationFlags,
    recursive: bool,
) -> io::Result<()> {
    set_mount(mount, 0, u64::from(kind.bits()), recursive)
}

fn set_mount(mount: impl AsFd, set: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attributes = MountAttr {
        set,
        clear: 0,
        propagation,
        userns_fd: 0,
    };
    let recursively = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure has the kernel's layout (MOUNT_ATTR_SIZE_VER0) and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursively,
            &raw const attributes,
            std::mem::size_of::<MountAttr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives this thread a mount namespace of its own, a copy of the one that it was in.
pub(super) fn new_mount_namespace() -> io::Result<()> {
    // SAFETY: descriptors stay what they are; the working directory is this thread's own from here on.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    Ok(())
}

/// Makes the control groups that this process is in the top of what it sees of them (cgroup_namespaces(7)).
pub(super) fn new_cgroup_namespace() -> io::Result<()> {
    // SAFETY: takes flags; descriptors and memory stay as they are.
    match unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the host name of the UTS namespace.
pub(super) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe `name`.
    match unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the NIS domain name of the UTS namespace.
pub(super) fn set_domainname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe `name`.
    match unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Joins a new, empty session keyring, so that the host's is out of reach (keyctl_join_session_keyring(3)).
/// A kernel without keyrings has none to protect.
pub(super) fn new_session_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        );
    }
}

/// Blocks `signals` for the calling thread, or all that a program starts with when the guard drops:
/// the mask from before.
pub(super) struct BlockedSignals(libc::sigset_t);

impl std::fmt::Debug for BlockedSignals {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("BlockedSignals")
    }
}

/// Blocks the signals and gives a descriptor that reads them (signalfd(2)).
pub(super) fn block_signals(signals: &[i32]) -> io::Result<(BlockedSignals, OwnedFd)> {
    // SAFETY: the sets are initialised by sigemptyset before use; the descriptor is new and ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &set, &mut before) < 0 {
            return Err(io::Error::last_os_error());
        }
        let guard = BlockedSignals(before);
        match libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok((guard, OwnedFd::from_raw_fd(fd))),
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the mask is one that the kernel gave us.
        unsafe {
            libc::sigprocmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut());
        }
    }
}

/// Ignores signals from now on. A program that is executed later inherits that, unless it is reset.
pub(super) fn ignore_signals(signals: &[i32]) -> io::Result<()> {
    for signal in signals {
        // SAFETY: SIG_IGN is a valid disposition for signals other than KILL and STOP, which the kernel refuses.
        if unsafe { libc::signal(*signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Enters namespaces of the process behind a descriptor (setns(2)).
pub(super) fn set_namespaces(process: &OwnedFd, namespaces: i32) -> io::Result<()> {
    if namespaces == 0 {
        return Ok(());
    }
    // SAFETY: takes numbers. There is one thread, so nobody else's view changes.
    match unsafe { libc::setns(process.as_raw_fd(), namespaces) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Waits for a process that is a child of ours and tells how it ended.
pub(super) fn reap(process: &OwnedFd) -> io::Result<Exit> {
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

/// The next signal of a descriptor of [`block_signals`], if one waits.
pub(super) fn next_signal(signals: &OwnedFd) -> Option<i32> {
    let mut info = [0u8; std::mem::size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(signals, &mut info) {
        // ssi_signo is the first field.
        Ok(length) if length == info.len() => {
            Some(u32::from_ne_bytes([info[0], info[1], info[2], info[3]]) as i32)
        }
        _ => None,
    }
}

/// Sends any signal by number, realtime ones too.
pub(super) fn send_signal(process: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers and a null pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the process the dispositions and the mask that a program expects at its start: Rust ignores
/// SIGPIPE, and what the parent ignored or blocked is inherited through execve(2).
pub(super) fn reset_signals() {
    // SAFETY: SIG_DFL is a valid disposition for each; the kernel refuses it for KILL and STOP, which
    // have no other.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Opens the slave of a pseudo-terminal without making it ours.
pub(super) fn open_slave(master: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: the request takes flags by value and gives a new descriptor.
    let fd = unsafe {
        let flags = (OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC).bits();
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags)
    };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: as above, ours alone.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Makes `descriptor` standard input, output or error.
pub(super) fn place(descriptor: impl AsFd, number: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers; what was at `number` is standard input, output or error, owned by nobody.
    match unsafe { libc::dup2(descriptor.as_fd().as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A mode by its bits.
pub(super) fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}
