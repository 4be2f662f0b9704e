//! The container's first process, before it is the user's program: single-threaded, in namespaces of its
//! own, it makes the container around itself and then becomes the program.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::Signal;

use super::config::{Config, Network};
use super::spec::{self, Failure, Report, Spec};
use super::sys::{self, StringList};
use super::user::{self, User};
use super::{
    command, devices, inroot, join, limits, monitor, network, privileges, reaper, rootfs, runtime,
};

/// The name under which a program that embeds this library is started to become a container.
pub(super) const NAME: &str = "strata: container";

/// To be called first thing in `main` by a program that starts containers: when the process has been
/// started to become one, or something that belongs to one, it does, and this gives the exit code when that is over.
pub fn become_container() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    if name == monitor::NAME {
        return Some(monitor::become_monitor());
    }
    if name == join::NAME {
        return Some(join::become_further());
    }
    if name != NAME {
        return None;
    }
    let (Some(reports), Some(spec)) = (sys::inherited(spec::REPORTS), sys::inherited(spec::SPEC))
    else {
        return Some(ExitCode::from(125));
    };
    let Err(failure) = start(&reports, spec);
    let code = failure.code;
    let _ = spec::send(&reports, Report::Failed(failure));
    Some(ExitCode::from(code))
}

enum Never {}

fn start(reports: &OwnedFd, spec: OwnedFd) -> Result<Never, Failure> {
    die_with_parent(reports).map_err(|e| Failure::new("watching the parent", e))?;
    let spec: Spec = serde_json::from_reader(io::BufReader::new(std::fs::File::from(spec)))
        .map_err(|e| Failure::new("reading the container's specification", e))?;
    // Modes that are asked for are the modes that files get.
    rustix::process::umask(Mode::empty());
    rustix::process::setsid().map_err(|e| Failure::new("setsid", e))?;
    if let Some(name) = &spec.config.runtime {
        let layers = if spec.mounted {
            sys::inherited(spec::LAYERS)
        } else {
            None
        };
        return Err(runtime::start(reports, &spec, name, layers));
    }
    enter_cgroups(&spec).map_err(|e| Failure::new("entering the control group", e))?;
    let config = &spec.config;
    if !config.shares_name {
        sys::set_hostname(&config.hostname)
            .map_err(|e| Failure::new("setting the host name", e))?;
        if !config.domainname.is_empty() {
            sys::set_domainname(&config.domainname)
                .map_err(|e| Failure::new("setting the domain name", e))?;
        }
    }
    if config.network == Network::None {
        network::loopback_up().map_err(|e| Failure::new("switching loopback on", e))?;
    }
    limits::apply_oom_score(&config.resources)?;
    let layers = match spec.mounted {
        true => sys::inherited(spec::LAYERS),
        false => None,
    };
    let root = rootfs::enter(&spec, layers)?;
    let user = find_user(&spec, &root.root)?;
    privileges::check(&spec, &user)?;
    let directory =
        inroot::make_dir_all(&root.root, &Path::new("/").join(&config.working_directory)).map_err(
            |e| {
                Failure::new(
                    format!("working directory {:?}", config.working_directory),
                    e,
                )
            },
        )?;
    match spec.terminal {
        Some(size) => make_terminal(reports, &root, &user, size)
            .map_err(|e| Failure::new("making a terminal", e))?,
        None => own_pipes(&user),
    }
    rootfs::seal(&spec, &root)?;
    Err(finish(&spec, &user, &directory))
}

/// The rest, which a further process of a running container goes through as well: limits and rights, then the program.
/// Comes back only when that fails.
pub(super) fn finish(spec: &Spec, user: &User, directory: &OwnedFd) -> Failure {
    let config = &spec.config;
    let ready = || -> Result<(), Failure> {
        limits::apply(&config.resources)?;
        privileges::drop(&config.security, spec.rootless, user)?;
        rustix::process::umask(sys::mode(0o022));
        change_directory(directory).map_err(|e| {
            Failure::new(
                format!("working directory {:?}", config.working_directory),
                e,
            )
        })?;
        sys::close_others_on_exec().map_err(|e| Failure::new("closing descriptors", e))
    };
    match ready() {
        Ok(()) => become_program(config, user),
        Err(failure) => failure,
    }
}

/// The parent's death, however sudden, ends the container. The parent may have died before this is
/// arranged; then its end of the socket is closed.
pub(super) fn die_with_parent(reports: &OwnedFd) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut byte = [0u8];
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    match rustix::net::recv(reports, &mut byte, flags) {
        Err(rustix::io::Errno::AGAIN) => Ok(()),
        _ => Err(io::Error::other("it is gone")),
    }
}

/// Moves this process to the container's control groups, which it then takes for the whole.
fn enter_cgroups(spec: &Spec) -> io::Result<()> {
    for entrance in &spec.cgroups {
        std::fs::write(entrance, "0")?;
    }
    match sys::new_cgroup_namespace() {
        // A kernel without control groups has none to hide.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        done => done,
    }
}

pub(super) fn find_user(spec: &Spec, root: &OwnedFd) -> Result<User, Failure> {
    let read =
        |path: &str| user::read_accounts(root, Path::new(path)).map_err(|e| Failure::new(path, e));
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let resolved = user::resolve(&spec.config.user, &passwd, &group);
    let with_groups = resolved.and_then(|user| user.with_groups(&spec.config.groups, &group));
    with_groups.map_err(|error| Failure {
        code: 125,
        message: error.to_string(),
    })
}

/// A pseudo-terminal of the container's own devpts becomes standard input, output and error and the
/// controlling terminal; its other side goes to the parent.
fn make_terminal(
    reports: &OwnedFd,
    root: &rootfs::Root,
    user: &User,
    size: (u16, u16),
) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(&root.pts, "ptmx", flags, Mode::empty())?;
    let slave = take_terminal(&master, user, size)?;
    devices::mount_console(&root.dev, &slave)?;
    spec::send(reports, Report::Terminal(master))
}

/// Makes the other side of a new pseudo-terminal standard input, output and error and the controlling terminal.
pub(super) fn take_terminal(
    master: &OwnedFd,
    user: &User,
    (rows, columns): (u16, u16),
) -> io::Result<OwnedFd> {
    rustix::pty::unlockpt(master)?;
    let slave = sys::open_slave(master)?;
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&slave, size)?;
    // The group stays tty; in a user namespace there is no other owner than root.
    let _ = rustix::fs::fchown(&slave, Some(rustix::process::Uid::from_raw(user.uid)), None);
    for number in 0..3 {
        sys::place(&slave, number)?;
    }
    rustix::process::ioctl_tiocsctty(&slave)?;
    Ok(slave)
}

/// Gives unnamed pipes to the user, so that /dev/stdout can be opened by its name as in docker. Files
/// of the host keep their owner.
pub(super) fn own_pipes(user: &User) {
    /// PIPEFS_MAGIC of linux/magic.h: not a FIFO with a name on some disk.
    const PIPEFS: u64 = 0x5049_5045;
    let owner = Some(rustix::process::Uid::from_raw(user.uid));
    for stream in [
        io::stdin().as_fd(),
        io::stdout().as_fd(),
        io::stderr().as_fd(),
    ] {
        let unnamed = rustix::fs::fstatfs(stream).is_ok_and(|s| s.f_type as u64 == PIPEFS);
        if unnamed && user.uid != 0 {
            let _ = rustix::fs::fchown(stream, owner, None);
        }
    }
}

/// Enters a directory that was opened inside the root, and makes sure that it is inside: for one outside,
/// getcwd(2) gives no absolute path.
fn change_directory(directory: &OwnedFd) -> io::Result<()> {
    rustix::process::fchdir(directory)?;
    let path = rustix::process::getcwd(Vec::new())?;
    match path.as_bytes().first() {
        Some(b'/') => Ok(()),
        _ => Err(io::Error::other("lies outside the container's root")),
    }
}

/// Looks the program up and becomes it; comes back only when that fails.
fn become_program(config: &Config, user: &User) -> Failure {
    let mut environment = config.environment.clone();
    if command::value(&environment, "HOME").is_none() {
        environment.push(format!("HOME={}", user.home).into());
    }
    let Some(program) = config.arguments.first() else {
        return Failure {
            code: 125,
            message: "no command: the image has none, so give one".to_owned(),
        };
    };
    let path = match find_program(program, command::value(&environment, "PATH")) {
        Ok(path) => path,
        Err(failure) => return failure,
    };
    let list = |strings: &[OsString]| {
        let strings = strings.iter().map(|s| CString::new(s.as_bytes()));
        strings.collect::<Result<Vec<_>, _>>().map(StringList::new)
    };
    let (Ok(path_text), Ok(arguments), Ok(environment)) = (
        CString::new(path.as_bytes()),
        list(&config.arguments),
        list(&environment),
    ) else {
        return Failure {
            code: 125,
            message: "an argument has a zero byte in it".to_owned(),
        };
    };
    if config.init
        && let Err(error) = reaper::split(config.terminal)
    {
        return Failure::new("starting the reaper", error);
    }
    sys::reset_signals();
    refusal(&path, sys::execute(&path_text, &arguments, &environment))
}

/// What execve(2) said, in docker's words and exit codes: 127 not found, 126 found but not executable.
fn refusal(path: &OsStr, error: io::Error) -> Failure {
    let path = path.to_string_lossy();
    let (code, message) = match error.raw_os_error() {
        Some(libc::ENOENT) if Path::new(path.as_ref()).exists() => (
            127,
            format!("exec: {path:?}: its interpreter is not in the image: {error}"),
        ),
        Some(libc::ENOENT | libc::ENOTDIR) => {
            (127, format!("exec: {path:?}: no such file or directory"))
        }
        Some(libc::ENOEXEC) => (
            126,
            format!(
                "exec: {path:?}: exec format error: made for another kind of machine, or a script without #!"
            ),
        ),
        Some(libc::EACCES) => (126, format!("exec: {path:?}: permission denied")),
        _ => (126, format!("exec: {path:?}: {error}")),
    };
    Failure { code, message }
}

/// Whether a root file system that this process is not in has the program; docker's words and exit codes if not. A
/// program that only a mount of the container brings is not seen.
pub(super) fn check_program(root: &OwnedFd, config: &Config) -> Result<(), Failure> {
    let Some(program) = config.arguments.first() else {
        return Ok(());
    };
    let name = program.to_string_lossy();
    let path = command::value(&config.environment, "PATH").unwrap_or_default();
    let here = Path::new("/").join(&config.working_directory);
    let candidates: Vec<_> = match program.as_bytes().contains(&b'/') {
        true => vec![here.join(program)],
        false => path
            .as_bytes()
            .split(|b| *b == b':')
            .map(|directory| here.join(OsStr::from_bytes(directory)).join(program))
            .collect(),
    };
    let found = candidates.iter().filter_map(|path| {
        let stat = rustix::fs::fstat(inroot::open_path(root, path).ok()?).ok()?;
        Some((FileType::from_raw_mode(stat.st_mode), stat.st_mode & 0o111))
    });
    let found: Vec<_> = found.collect();
    let runs = |(kind, mode): &(FileType, u32)| *kind == FileType::RegularFile && *mode != 0;
    if found.iter().any(runs) {
        return Ok(());
    }
    Err(match (found.is_empty(), candidates.len()) {
        (true, 1) => Failure {
            code: 127,
            message: format!("exec: {name:?}: no such file or directory"),
        },
        (true, _) => Failure {
            code: 127,
            message: format!("exec: {name:?}: executable file not found in $PATH"),
        },
        (false, _) => Failure {
            code: 126,
            message: format!("exec: {name:?}: permission denied"),
        },
    })
}

/// The path of a program: a name without a slash is looked for in PATH, as the shell would.
fn find_program(program: &OsStr, path: Option<&OsStr>) -> Result<OsString, Failure> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.to_owned());
    }
    let mut denied = false;
    let path = path.map_or(b"".as_slice(), |p| p.as_bytes());
    for directory in path.split(|b| *b == b':') {
        // An empty entry means the working directory.
        let directory = if directory.is_empty() {
            b".".as_slice()
        } else {
            directory
        };
        let candidate = OsString::from_vec([directory, b"/", program.as_bytes()].concat());
        let Ok(stat) = rustix::fs::stat(&candidate) else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            continue;
        }
        if rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK).is_ok() {
            return Ok(candidate);
        }
        denied = true;
    }
    let name = program.to_string_lossy();
    Err(match denied {
        true => Failure {
            code: 126,
            message: format!("exec: {name:?}: permission denied"),
        },
        false => Failure {
            code: 127,
            message: format!("exec: {name:?}: executable file not found in $PATH"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn programs_are_found_as_the_shell_finds_them() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for (place, mode) in [(&a, 0o644), (&b, 0o755)] {
            fs::create_dir(place).expect("mkdir");
            fs::write(place.join("tool"), "").expect("write");
            fs::set_permissions(place.join("tool"), fs::Permissions::from_mode(mode))
                .expect("chmod");
        }
        fs::create_dir(b.join("directory")).expect("mkdir");
        let path = OsString::from(format!("/none:{}:{}", a.display(), b.display()));
        let find = |name: &str, path: &OsStr| find_program(OsStr::new(name), Some(path));
        assert_eq!(find("tool", &path).expect("found"), b.join("tool"));
        assert_eq!(find("./x", &path).expect("as it is"), "./x");
        assert_eq!(find("none", &path).expect_err("none").code, 127);
        assert_eq!(find("directory", &path).expect_err("not a file").code, 127);
        assert_eq!(
            find("tool", a.as_os_str())
                .expect_err("not executable")
                .code,
            126
        );
        assert_eq!(
            find_program(OsStr::new("tool"), None)
                .expect_err("no PATH")
                .code,
            127
        );
    }

    #[test]
    fn what_execve_says_becomes_dockers_exit_codes() {
        let code = |errno| {
            refusal(
                OsStr::new("/none/such"),
                io::Error::from_raw_os_error(errno),
            )
            .code
        };
        assert_eq!(code(libc::ENOENT), 127);
        assert_eq!(code(libc::EACCES), 126);
        assert_eq!(code(libc::ENOEXEC), 126);
        let script = refusal(OsStr::new("/"), io::Error::from_raw_os_error(libc::ENOENT));
        assert!(script.message.contains("interpreter"), "{}", script.message);
    }
}
