//! `--runtime`: the container is made by another program of the OCI specification. The process that would make it
//! itself mounts the layers where only it can see them, writes a bundle around them, and becomes that program.
//!
//! It is the first of a namespace of processes, so whatever the program starts ends with it, however it ends.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::config::{Mount, Source};
use super::join::Order;
use super::options::OptionError;
use super::spec::{self, Failure, Report, Spec};
use super::sys::{self, StringList};
use super::trees::{NO_DEV, NO_EXEC, NO_SUID, attach_at, make};
use super::user::User;
use super::{command, fill, init, inroot, rootfs};
use crate::bundle::{self, Place};

/// Where such programs are: our own environment is not the container's business, and not theirs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// In a container's directory.
const BUNDLE: &str = "bundle";
/// Where the program keeps what it knows of the container.
const STATE: &str = "runtime";
/// A runtime has made the container by then.
const MADE_WITHIN: Duration = Duration::from_secs(10);

/// Becomes the runtime `name`; comes back only when that fails.
pub(super) fn start(
    reports: &OwnedFd,
    spec: &Spec,
    name: &str,
    layers: Option<OwnedFd>,
) -> Failure {
    match prepare(reports, spec, name, layers) {
        Ok(ready) => ready.become_runtime(name),
        Err(failure) => failure,
    }
}

struct Ready {
    program: CString,
    arguments: StringList,
    environment: StringList,
}

impl Ready {
    fn become_runtime(self, name: &str) -> Failure {
        if let Err(error) = sys::close_others_on_exec() {
            return Failure::new("closing descriptors", error);
        }
        rustix::process::umask(sys::mode(0o022));
        sys::reset_signals();
        let error = sys::execute(&self.program, &self.arguments, &self.environment);
        Failure::new(format!("--runtime {name}"), error)
    }
}

fn prepare(
    reports: &OwnedFd,
    spec: &Spec,
    name: &str,
    layers: Option<OwnedFd>,
) -> Result<Ready, Failure> {
    let program = find(name).map_err(|e| Failure::new("--runtime", e))?;
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", all).map_err(|e| Failure::new("making mounts private", e))?;
    match layers {
        None => rootfs::mount_layers(spec)?,
        Some(layers) => attach_at(&layers, &spec.merged)
            .map_err(|e| Failure::new("attaching the mounted layers", e))?,
    }
    // Its processes are numbered anew.
    make("proc", &[], NO_SUID | NO_DEV | NO_EXEC)
        .and_then(|proc| attach_at(&proc, Path::new("/proc")))
        .map_err(|e| Failure::new("mounting a new /proc", e))?;
    // Where both versions of control groups are mounted, runtimes refuse or mistake that; the second has nothing there
    // that the first has not. A cover hides it, because in a user namespace nothing of the host can be unmounted.
    let second = Path::new("/sys/fs/cgroup/unified");
    if second.is_dir() {
        make("tmpfs", &[("size", "4k")], NO_SUID | NO_DEV | NO_EXEC)
            .and_then(|cover| attach_at(&cover, second))
            .map_err(|e| Failure::new("covering /sys/fs/cgroup/unified", e))?;
    }
    fill_volumes(spec).map_err(|e| Failure::new("filling the container's volumes", e))?;
    check_program(spec)?;
    let directory = spec.merged.parent().unwrap_or(Path::new("/"));
    // A runtime that was killed could not tidy up, and the next would take the container for one that is there.
    match std::fs::remove_dir_all(directory.join(STATE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::new("removing what a killed runtime left", error));
        }
        _ => {}
    }
    let bundle = write_bundle(spec, directory)
        .map_err(|e| Failure::new("writing the container's bundle", e))?;
    let command = ["run".into(), "--bundle".into(), bundle.into()];
    call(reports, spec, &program, &command)
}

/// Becomes the runtime `name` once more, which starts a further program in its container; comes back only when that
/// fails. This process is in the namespaces of the first one.
pub(super) fn exec(reports: &OwnedFd, order: &Order, name: &str) -> Failure {
    match prepare_exec(reports, order, name) {
        Ok(ready) => ready.become_runtime(name),
        Err(failure) => failure,
    }
}

fn prepare_exec(reports: &OwnedFd, order: &Order, name: &str) -> Result<Ready, Failure> {
    let spec = &order.spec;
    let program = find(name).map_err(|e| Failure::new("--runtime", e))?;
    let directory = spec.merged.parent().unwrap_or(Path::new("/"));
    check_program(spec)?;
    wait_for_container(directory);
    let described = bundle::runtime_spec(&spec.config, &place(spec, directory))
        .map_err(|e| Failure::new("describing the program", e))?;
    let file = process_file(directory, order.number);
    std::fs::write(&file, described["process"].to_string())
        .map_err(|e| Failure::new(format!("writing {}", file.display()), e))?;
    call(
        reports,
        spec,
        &program,
        &["exec".into(), "--process".into(), file.into()],
    )
}

/// Waits until the runtime, which has been started, has made the container: both runtimes note that there is one in a file,
/// runc in the first, crun in the second. What does not come by then is for the runtime to complain of.
fn wait_for_container(directory: &Path) {
    let id = directory.file_name().unwrap_or_default();
    let notes = ["state.json", "status"].map(|note| directory.join(STATE).join(id).join(note));
    let began = Instant::now();
    while !notes.iter().any(|note| note.exists()) && began.elapsed() < MADE_WITHIN {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A runtime does not tell its own failures from the program's by the exit code. Mounts, which it makes itself, may bring
/// the program; then it finds out.
fn check_program(spec: &Spec) -> Result<(), Failure> {
    let config = &spec.config;
    let named_by_path = config
        .arguments
        .first()
        .is_some_and(|program| program.as_bytes().contains(&b'/'));
    let path = command::value(&config.environment, "PATH").unwrap_or_default();
    let brings = |mount: &Mount| {
        let mut directories = path.as_bytes().split(|b| *b == b':');
        directories.any(|d| Path::new(OsStr::from_bytes(d)).starts_with(&mount.target))
    };
    if !config.mounts.is_empty() && (named_by_path || config.mounts.iter().any(brings)) {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&spec.merged, flags, Mode::empty())
        .map_err(|e| Failure::new("opening the container's root", e))?;
    init::check_program(&root, &spec.config)
}

/// In a container's directory, what a further program is to be; the monitor removes it when that has ended.
pub(super) fn process_file(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("exec-{number}.json"))
}

/// A runtime with these words, before the container's id.
fn call(
    reports: &OwnedFd,
    spec: &Spec,
    program: &Path,
    command: &[OsString],
) -> Result<Ready, Failure> {
    if let Some(size) = spec.terminal {
        make_terminal(reports, size).map_err(|e| Failure::new("making a terminal", e))?;
    }
    let directory = spec.merged.parent().unwrap_or(Path::new("/"));
    let id = directory.file_name().unwrap_or_default();
    let mut words: Vec<OsString> = vec![program.into()];
    words.extend(["--root".into(), directory.join(STATE).into()]);
    // crun asks systemd for a control group otherwise; runc does without by itself.
    if spec.rootless && program.ends_with("crun") {
        words.push("--cgroup-manager=disabled".into());
    }
    words.extend_from_slice(command);
    words.push(id.to_owned());
    let texts = |words: &[OsString]| -> Result<StringList, Failure> {
        let words = words.iter().map(|word| CString::new(word.as_bytes()));
        let words = words.collect::<Result<_, _>>();
        Ok(StringList::new(
            words.map_err(|e| Failure::new("the runtime's command", e))?,
        ))
    };
    let environment = [format!("PATH={PATH}").into()];
    Ok(Ready {
        program: CString::new(program.as_os_str().as_bytes())
            .map_err(|e| Failure::new("--runtime", e))?,
        arguments: texts(&words)?,
        environment: texts(&environment)?,
    })
}

/// The program that a value of `--runtime` means.
///
/// # Errors
/// There is none.
pub fn find(name: &str) -> Result<PathBuf, OptionError> {
    let found = match name.contains('/') {
        true => Some(PathBuf::from(name)),
        false => PATH
            .split(':')
            .map(|d| Path::new(d).join(name))
            .find(|p| p.is_file()),
    };
    found.filter(|path| path.is_file()).ok_or_else(|| {
        OptionError::new(format!(
            "unknown or invalid runtime name: {name}: there is no such program (a name is looked for in {PATH})"
        ))
    })
}

/// Gives empty volumes what the image has at their places, which the runtime would not.
fn fill_volumes(spec: &Spec) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&spec.merged, flags, Mode::empty())?;
    for mount in &spec.config.mounts {
        let Source::Volume {
            name,
            no_copy: false,
            ..
        } = &mount.source
        else {
            continue;
        };
        let volume = spec.volumes.join(name).join("_data");
        let volume = rustix::fs::open(&volume, flags, Mode::empty())?;
        fill::fill(
            &inroot::make_dir_all(&root, Path::new(&mount.target))?,
            &volume,
        )?;
    }
    Ok(())
}

fn write_bundle(spec: &Spec, directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join(BUNDLE);
    match std::fs::create_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let place = place(spec, directory);
    bundle::write_spec(&path, &spec.config, &place).map_err(io::Error::other)?;
    Ok(path)
}

fn place<'a>(spec: &'a Spec, directory: &Path) -> Place<'a> {
    let id = directory.file_name().unwrap_or_default().to_string_lossy();
    Place {
        root: &spec.merged,
        rootfs: &spec.merged,
        volumes: &spec.volumes,
        files: &spec.files,
        rootless: spec.rootless,
        ids: None,
        group: (!spec.rootless).then(|| format!("/strata/{id}")),
    }
}

/// The runtime's own side of a terminal, which it joins to one of the container's.
fn make_terminal(reports: &OwnedFd, size: (u16, u16)) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(CWD, "/dev/ptmx", flags, Mode::empty())?;
    let root = User {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        home: String::new(),
    };
    init::take_terminal(&master, &root, size)?;
    spec::send(reports, Report::Terminal(master))
}
