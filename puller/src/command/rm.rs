//! `strata rm`: remove containers.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use strata::driver::{self, is_mounted};
use strata::run::config::Config;
use strata::run::{self, RunError, membership};
use strata::store::Store;
use strata::store::containers::{Container, ContainerError, ContainerLock, Kind};

use super::containers::{find, unknown};
use super::mount::mount_point;
use crate::settings::Settings;

/// Remove containers with their writable layers; image layers stay
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kill a container that is running, and do not mind one that does not exist
    #[arg(short, long)]
    force: bool,
    /// Also remove the volumes that were made for the container and have no name
    #[arg(short, long)]
    volumes: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let mut failed = false;
    for name in &args.containers {
        match remove(&store, name, args.force, args.volumes) {
            Ok(true) => crate::printer::line(name),
            // docker says so and does not mind.
            Ok(false) => crate::printer::message(unknown(&store, name)?),
            Err(error) => {
                crate::printer::failed(&error);
                failed = true;
            }
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

/// `false`: there is none, and none has to be.
fn remove(store: &Store, name: &str, force: bool, volumes: bool) -> Result<bool> {
    let container = match store.container(name) {
        Err(ContainerError::NoSuch(_)) if force => return Ok(false),
        // With what is called nearly the same.
        Err(ContainerError::NoSuch(_)) => find(store, name)?,
        result => result?,
    };
    if container.kind != Kind::Container {
        super::umount::unmount(store, &container, force)?;
        return Ok(true);
    }
    let path = mount_point(store, &container);
    if is_mounted(&path) {
        driver::unmount(&path, force || driver::state(&path) == driver::State::Dead)?;
    }
    let lock = match store.lock_container(&container) {
        Err(ContainerError::Running { .. }) if force => match kill(store, &container)? {
            Some(lock) => lock,
            None => return Ok(true),
        },
        // It went by itself.
        Err(ContainerError::NoSuch(_)) if force => return Ok(true),
        result => result?,
    };
    // One that an older version made has none.
    let config = Config::read(&store.container_dir(&container.id)).unwrap_or_default();
    store.remove_container(&container, lock)?;
    if let Some(config) = config.filter(|_| volumes) {
        store.remove_anonymous_volumes(&config)?;
    }
    Ok(true)
}

/// Kills the container's first process, and with it all others, and waits until its monitor has noticed.
/// `None`: the monitor has removed the container itself.
fn kill(store: &Store, container: &Container) -> Result<Option<ContainerLock>> {
    let limit = Instant::now() + Duration::from_secs(30);
    let mut held = None;
    while Instant::now() < limit {
        // It may still be starting: then it has no process yet.
        let now = match store.container(&container.id) {
            Err(ContainerError::NoSuch(_)) => return Ok(None),
            result => result?,
        };
        let directory = store.container_dir(&now.id);
        match run::signal(&directory, libc::SIGKILL) {
            // What is held still may die only when it goes on.
            Ok(()) if now.paused => held = run::freeze(&directory, false).err(),
            Ok(()) | Err(RunError::Gone) => {}
            // A monitor that does not listen.
            Err(_) => {
                kill_process(&now)
                    .with_context(|| format!("killing container {}", container.name))?;
            }
        }
        match store.lock_container(&now) {
            Ok(lock) => return Ok(Some(lock)),
            Err(ContainerError::Running { .. }) => std::thread::sleep(Duration::from_millis(10)),
            Err(ContainerError::NoSuch(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(error) = held.filter(|error| !matches!(error, RunError::Gone)) {
        return Err(error).with_context(|| {
            format!(
                "container {} was killed, but is paused and cannot be made to go on",
                container.name
            )
        });
    }
    bail!(
        "container {} does not end, although it was killed: its process may hang in the kernel",
        container.name
    )
}

/// The first process and its monitor, which is its parent and may be stopped.
fn kill_process(container: &Container) -> Result<()> {
    let Some(pid) = container.pid.and_then(Pid::from_raw) else {
        return Ok(());
    };
    let monitor = membership::parent(pid.as_raw_nonzero().get()).and_then(Pid::from_raw);
    kill_if(pid, || container.is_alive())?;
    match monitor {
        Some(monitor) => kill_if(monitor, || {
            run::is_monitor(monitor.as_raw_nonzero().get(), &container.id)
        }),
        None => Ok(()),
    }
}

/// Through a descriptor, so that a process that has the same pid by now is not hit: it is looked at after the
/// descriptor is had.
fn kill_if(pid: Pid, is_the_one: impl Fn() -> bool) -> Result<()> {
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        result => result?,
    };
    if !is_the_one() {
        return Ok(());
    }
    match pidfd_send_signal(process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
