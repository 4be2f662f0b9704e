//! A container's life as its monitor sees it: start, work, end, and what of it is recorded.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

use super::super::cgroup::Cgroup;
use super::super::protocol::Packet;
use super::super::spec::{Failure, Report, Spec};
use super::super::start::{self, Started};
use super::super::{connection, log, spec, sys};
use super::Orders;
use super::client::Client;
use super::program::{Program, Stdio};
use super::work::{End, Work};
use crate::driver::{self, Choice, Chooser, Name, Stack, Writable};
use crate::store::Store;
use crate::store::containers::{ContainerError, ContainerLock};
use crate::userns::Privilege;

/// Lives from the container's start to its end.
pub(super) fn live(starter: OwnedFd, orders: OwnedFd, lock: OwnedFd) {
    let mut starter = Client::new(starter);
    let lock = ContainerLock::inherited(lock);
    let orders: Orders =
        match serde_json::from_reader(io::BufReader::new(std::fs::File::from(orders))) {
            Ok(orders) => orders,
            Err(error) => {
                return tell_failure(&mut starter, Failure::new("reading the orders", error));
            }
        };
    if let Err(error) = stand_alone() {
        return tell_failure(&mut starter, Failure::new("starting the monitor", error));
    }
    let directory = orders.store.join("containers").join(&orders.id);
    let begun = match begin(&orders, &directory, &mut starter) {
        Ok(begun) => begun,
        Err(failure) => {
            record_failure(&orders, &failure, lock);
            return tell_failure(&mut starter, failure);
        }
    };
    let mut program = begun.first.program;
    program.input_once = orders.input;
    starter.say(Packet::Started(begun.first.pid));
    if orders.attached {
        starter.attached = Some(0);
        starter.input = orders.input;
        starter.owns = true;
    }
    let (pid, spec) = (begun.first.pid, begun.first.spec);
    let (listener, group) = (begun.listener, begun.group);
    let work = Work::new(&orders.id, listener, pid, spec, group, program, starter);
    let End {
        exit,
        oom_killed,
        mut clients,
        lost,
    } = work.work(begun.store);
    let code = exit.code();
    let recorded =
        open(&orders)
            .map_err(Into::into)
            .and_then(|store| match orders.config.ephemeral {
                true => remove(&store, &orders, lock),
                false => {
                    let error = lost.unwrap_or_default();
                    let recorded = store.container_exited(&orders.id, code, oom_killed, &error);
                    drop(lock);
                    recorded
                }
            });
    if let Err(error) = recorded {
        // There is nobody else to tell.
        let words =
            format!("the container has ended with {code}, which could not be recorded: {error}");
        for client in clients
            .iter_mut()
            .filter(|client| client.attached == Some(0))
        {
            client.say(Packet::Message(words.clone()));
        }
    }
    take_leave(clients, code);
}

/// Nobody is told of what fails here: who started the container is told the cause.
fn record_failure(orders: &Orders, failure: &Failure, lock: ContainerLock) {
    Cgroup::find(&orders.id, orders.rootless).remove();
    let Ok(store) = open(orders) else { return };
    let recorded = match orders.config.ephemeral {
        true => remove(&store, orders, lock),
        false => store.container_failed(&orders.id, failure.code, &failure.message),
    };
    if let Err(error) = recorded {
        tracing::warn!(%error, "recording that the container did not start");
    }
}

/// Removes a container that was to go with its end, and the volumes that were made for it alone.
fn remove(store: &Store, orders: &Orders, lock: ContainerLock) -> Result<(), ContainerError> {
    store.remove_container_by_id(&orders.id, lock)?;
    if let Err(error) = store.remove_anonymous_volumes(&orders.config) {
        tracing::warn!(%error, "removing the container's volumes");
    }
    Ok(())
}

/// Nothing that happens to the command, its terminal or its session is to happen to the monitor.
fn stand_alone() -> io::Result<()> {
    rustix::process::setsid()?;
    sys::ignore_signals(&[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGPIPE,
        libc::SIGPWR,
    ])?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(rustix::process::chdir("/")?)
}

fn tell_failure(starter: &mut Client, failure: Failure) {
    starter.say(Packet::Failed {
        code: failure.code,
        message: failure.message,
    });
}

fn open(orders: &Orders) -> Result<Store, crate::store::StoreError> {
    Store::open_unswept(&orders.store, privilege(orders))
}

fn privilege(orders: &Orders) -> Privilege {
    match orders.rootless {
        true => Privilege::UserNamespace,
        false => Privilege::Root,
    }
}

/// A container whose program runs.
struct Begun {
    listener: OwnedFd,
    group: Cgroup,
    first: First,
    store: Store,
}

/// Starts the program, and records that it runs.
fn begin(orders: &Orders, directory: &Path, starter: &mut Client) -> Result<Begun, Failure> {
    let listener =
        listen(directory).map_err(|e| Failure::new("listening in the container's directory", e))?;
    let group = Cgroup::make(&orders.id, orders.rootless, &orders.config)
        .map_err(|e| Failure::new("limiting the container", e))?;
    let first = First::start(orders, directory, &group)?;
    // While the container's process makes the container around itself.
    let store = open(orders).map_err(|e| Failure::new("opening the store", e))?;
    let first = first.finish(orders, directory, &group, starter)?;
    if let Err(error) = store.container_started(&orders.id, first.pid) {
        // Whoever is told that it does not run must not find it running.
        let ended = sys::send_signal(&first.program.process, libc::SIGKILL)
            .and_then(|()| sys::reap(&first.program.process));
        let what = match ended {
            Ok(_) => "recording that the container runs".to_owned(),
            Err(error) => format!("the container still runs ({error}); recording that it runs"),
        };
        return Err(Failure::new(what, error));
    }
    Ok(Begun {
        listener,
        group,
        first,
        store,
    })
}

fn listen(directory: &Path) -> io::Result<OwnedFd> {
    let directory = connection::open_directory(directory)?;
    let listener = connection::socket()?;
    connection::unlink(&directory)?;
    rustix::net::bind(&listener, &connection::address(&directory)?)?;
    rustix::net::listen(&listener, 128)?;
    rustix::io::ioctl_fionbio(&listener, true)?;
    Ok(listener)
}

/// The container's first process.
struct First {
    spec: Spec,
    pid: i32,
    program: Program,
    /// Whether other drivers may be tried.
    first_try: bool,
}

impl First {
    /// On the driver that has made the writable layer, or that was asked for, or else the first that works. An overlay
    /// is mounted by the container's process, which nobody else sees.
    fn start(orders: &Orders, directory: &Path, group: &Cgroup) -> Result<Self, Failure> {
        let recorded = Name::recorded(directory);
        let wanted: Option<Name> = orders.driver.as_ref().and_then(|name| name.parse().ok());
        if let (Some(made_by), Some(wanted)) = (recorded, wanted)
            && made_by != wanted
        {
            return Err(Failure::new(
                "the container's driver",
                format!(
                    "it was made with --driver {made_by}, and {wanted} reads what that wrote as something else: leave --driver out"
                ),
            ));
        }
        let name = recorded.unwrap_or_else(|| chooser(orders).first());
        let mut first = Self::start_on(name, orders, directory, group)?;
        first.first_try = recorded.is_none();
        Ok(first)
    }

    fn start_on(
        name: Name,
        orders: &Orders,
        directory: &Path,
        group: &Cgroup,
    ) -> Result<Self, Failure> {
        let (config, lowers) = (&orders.config, &orders.lowers);
        let elsewhere = name != Name::Overlay;
        let volumes = orders.store.join("volumes");
        let mut spec = start::describe(
            directory,
            lowers,
            config,
            volumes,
            orders.rootless,
            elsewhere,
            orders.size,
        )?;
        spec.cgroups = group.entrances();
        let layers = match elsewhere {
            true => Some(mount(name, orders, directory)?),
            false => None,
        };
        let stdio = match config.terminal {
            true => Stdio::nothing(),
            false => Stdio::pipes(config.interactive),
        };
        let stdio = stdio.map_err(|e| Failure::new("making pipes", e))?;
        let Started {
            pid,
            process,
            reports,
        } = start::first(&spec, layers.as_ref(), &stdio.theirs)?;
        let mut program = Program::new(0, process, reports, stdio);
        program.log = log::Writer::open(directory, &config.log)
            .map_err(|e| Failure::new("opening the container's log", e))?;
        Ok(Self {
            spec,
            pid,
            program,
            first_try: false,
        })
    }

    /// Waits until the program runs. When the kernel has refused the overlay the drivers are tried.
    fn finish(
        mut self,
        orders: &Orders,
        directory: &Path,
        group: &Cgroup,
        starter: &mut Client,
    ) -> Result<Self, Failure> {
        let failure = match self.wait() {
            Ok(()) => return Ok(self),
            Err(failure) => failure,
        };
        let about_layers = failure.message.starts_with("mounting the layers");
        if !self.first_try || self.spec.mounted || !about_layers {
            return Err(failure);
        }
        let choice = match chooser(orders).choose() {
            // A trial mount says more than the kernel did.
            Err(reason) => {
                return Err(Failure {
                    code: 125,
                    message: format!("{reason}: {}", failure.message),
                });
            }
            Ok(choice) if choice.name == Name::Overlay => return Err(failure),
            Ok(choice) => choice,
        };
        tell_choice(&choice, starter);
        let mut again = Self::start_on(choice.name, orders, directory, group)?;
        again.wait().map(|()| again)
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let Some(reports) = self.program.reports.take() else {
            return Ok(());
        };
        loop {
            let report = spec::receive(&reports);
            match report.map_err(|e| Failure::new("hearing from the container", e))? {
                Some(Report::Terminal(master)) => self
                    .program
                    .on_terminal(master)
                    .map_err(|e| Failure::new("preparing the terminal", e))?,
                Some(Report::Failed(failure)) => {
                    let _ = sys::reap(&self.program.process);
                    return Err(failure);
                }
                None => return Ok(()),
            }
        }
    }
}

fn chooser(orders: &Orders) -> Chooser {
    let wanted = orders.driver.as_ref().and_then(|name| name.parse().ok());
    Chooser::new(&orders.store, privilege(orders), wanted)
}

/// Mounts the container's layers before it starts.
fn mount(name: Name, orders: &Orders, directory: &Path) -> Result<OwnedFd, Failure> {
    name.record(directory)
        .map_err(|e| Failure::new("recording the driver", e))?;
    let writable = Writable::of(directory);
    let lowers: &[PathBuf] = &orders.lowers;
    let stack = Stack {
        lowers,
        upper: Some(&writable.upper),
        scratch: &writable.work,
        read_only: false,
    };
    let driver = name.driver(privilege(orders));
    driver::mount_detached(&*driver, &stack, &writable.merged)
        .map_err(|e| Failure::new("mounting the layers", e))
}

/// Says which driver was chosen, and why no better one.
fn tell_choice(choice: &Choice, starter: &mut Client) {
    for line in choice.words() {
        starter.say(Packet::Message(line));
    }
}

/// Tells those who wait how it ended, as far as they listen.
fn take_leave(mut clients: Vec<Client>, code: u8) {
    for client in &mut clients {
        if client.attached == Some(0) || client.watches == Some(0) {
            client.say(Packet::Exited(code));
        }
    }
    loop {
        clients.retain(|client| client.is_behind() && !client.gone);
        if clients.is_empty() {
            return;
        }
        let mut waiting: Vec<PollFd> = clients
            .iter()
            .map(|client| PollFd::new(client, PollFlags::OUT))
            .collect();
        // It is said to whoever is still there, and the others are gone.
        if poll(&mut waiting, None).is_err_and(|error| error != rustix::io::Errno::INTR) {
            return;
        }
        drop(waiting);
        clients.iter_mut().for_each(Client::flush);
    }
}
