//! The monitor's work while the container runs: to wait for its programs, those who are attached and those who ask,
//! and to carry between them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::cgroup::Cgroup;
use super::super::protocol::{Exec, MAX_PACKET, Packet, Stream};
use super::super::spec::{self, Failure, Report, Spec};
use super::super::start::{self, Started};
use super::super::{Exit, freeze, join, runtime, sys};
use super::client::Client;
use super::exec::{of_exec, other_namespaces};
use super::program::{Printed, Program, Stdio};
use crate::store::Store;

/// Commands and programs at once: more are turned away.
const MAX_CLIENTS: usize = 512;
/// After so long without anything to do the store is let go of: most containers only wait.
const QUIET: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Something to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Listener,
    Client(usize),
    Process(usize),
    Reports(usize),
    Printing(usize, Stream),
    Reading(usize),
}

/// How it ended.
pub(super) struct End {
    /// The first process.
    pub(super) exit: Exit,
    /// Whether the kernel has killed that for want of memory.
    pub(super) oom_killed: bool,
    /// Who is still connected.
    pub(super) clients: Vec<Client>,
    /// What is to be said when part of the log was lost.
    pub(super) lost: Option<String>,
}

/// A running container.
pub(super) struct Work {
    id: String,
    listener: OwnedFd,
    pid: i32,
    spec: Spec,
    /// The first one is the container's own.
    programs: Vec<Program>,
    clients: Vec<Client>,
    started: usize,
    joined: bool,
    group: Cgroup,
    buffer: Vec<u8>,
}

impl Work {
    pub(super) fn new(
        id: &str,
        listener: OwnedFd,
        pid: i32,
        spec: Spec,
        group: Cgroup,
        first: Program,
        starter: Client,
    ) -> Self {
        Self {
            id: id.to_owned(),
            listener,
            pid,
            spec,
            programs: vec![first],
            clients: vec![starter],
            started: 0,
            joined: false,
            group,
            buffer: vec![0; MAX_PACKET],
        }
    }

    /// Until the container's first process ends, and with it all others.
    pub(super) fn work(mut self, store: Store) -> End {
        let mut store = Some(store);
        let exit = loop {
            let ready = match self.wait(store.is_some()) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::warn!(%error, "waiting for the container");
                    let _ = sys::send_signal(&self.programs[0].process, libc::SIGKILL);
                    vec![(Source::Process(0), PollFlags::IN)]
                }
            };
            if ready.is_empty() {
                store = None;
            }
            for (source, found) in &ready {
                self.handle(*source, *found);
            }
            if ready
                .iter()
                .any(|(source, _)| *source == Source::Process(0))
            {
                break self.end_all();
            }
            self.part();
        };
        // As docker has it: whichever of its processes the kernel has killed.
        let oom_killed = self.group.ran_out_of_memory();
        self.group.remove();
        if self.spec.config.runtime.is_some() {
            // What a runtime has made, and not removed because it was killed.
            Cgroup::find(&self.id, self.spec.rootless).remove();
        }
        End {
            exit,
            oom_killed,
            clients: self.clients,
            lost: self.programs[0].lost.take(),
        }
    }

    /// What is ready. Whoever does not read what a program prints holds that program up, and nobody else.
    fn wait(&self, limited: bool) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![(Source::Listener, PollFd::new(&self.listener, PollFlags::IN))];
        for (index, client) in self.clients.iter().enumerate() {
            let program = client.attached.and_then(|number| self.program(number));
            let mut wanted = PollFlags::empty();
            if !client.input || program.is_none_or(Program::takes_input) {
                wanted |= PollFlags::IN;
            }
            if client.is_behind() {
                wanted |= PollFlags::OUT;
            }
            sources.push((Source::Client(index), PollFd::new(client, wanted)));
        }
        for program in &self.programs {
            let number = program.number;
            if let Some(reports) = &program.reports {
                sources.push((Source::Reports(number), PollFd::new(reports, PollFlags::IN)));
            }
            let held_up = |client: &Client| client.attached == Some(number) && client.is_full();
            if !self.clients.iter().any(held_up) {
                for (stream, fd) in program.printing() {
                    let fd = PollFd::from_borrowed_fd(fd, PollFlags::IN);
                    sources.push((Source::Printing(number, stream), fd));
                }
            }
            if let Some(fd) = program.reading() {
                let fd = PollFd::from_borrowed_fd(fd, PollFlags::OUT);
                sources.push((Source::Reading(number), fd));
            }
            // Last, so that what it printed before is taken first.
            let fd = PollFd::new(&program.process, PollFlags::IN);
            sources.push((Source::Process(number), fd));
        }
        let (sources, mut fds): (Vec<Source>, Vec<PollFd>) = sources.into_iter().unzip();
        match poll(&mut fds, limited.then_some(&QUIET)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let found = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(found.filter(|(_, found)| !found.is_empty()).collect())
    }

    fn program(&self, number: usize) -> Option<&Program> {
        self.programs
            .iter()
            .find(|program| program.number == number)
    }

    fn program_mut(&mut self, number: usize) -> Option<&mut Program> {
        self.programs
            .iter_mut()
            .find(|program| program.number == number)
    }

    fn handle(&mut self, source: Source, found: PollFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Client(index) => {
                if found.contains(PollFlags::OUT) {
                    self.clients[index].flush();
                }
                if found.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    let packet = self.clients[index].hear(&mut self.buffer);
                    if let Some(packet) = packet {
                        self.obey(index, packet);
                    }
                }
            }
            Source::Reports(number) => self.hear_report(number),
            Source::Printing(number, stream) => self.pass_on(number, stream),
            Source::Reading(number) => {
                if let Some(program) = self.program_mut(number) {
                    program.give_pending();
                }
            }
            Source::Process(0) => {}
            Source::Process(number) => self.end(number),
        }
    }

    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        while let Ok(socket) = rustix::net::accept_with(&self.listener, flags) {
            if self.clients.len() < MAX_CLIENTS {
                self.clients.push(Client::new(socket));
            }
        }
    }

    /// Does what a command says.
    fn obey(&mut self, index: usize, packet: Packet) {
        let number = self.clients[index].attached;
        match packet {
            Packet::Attach { input } => {
                self.clients[index].attached = Some(0);
                self.clients[index].input = input;
            }
            Packet::Watch => self.clients[index].watches = Some(0),
            Packet::Exec(exec) => self.exec(index, &exec),
            Packet::Input(bytes) if self.clients[index].input => {
                if let Some(program) = number.and_then(|number| self.program_mut(number)) {
                    program.give(&bytes);
                }
            }
            Packet::EndOfInput => self.end_input(index),
            Packet::Closed(stream) if self.clients[index].owns => {
                if let Some(program) = number.and_then(|number| self.program_mut(number)) {
                    program.close(stream);
                }
            }
            Packet::Closed(_) => {
                self.clients[index].watches = number;
                self.clients[index].attached = None;
            }
            Packet::Resize(rows, columns) => {
                if let Some(program) = number.and_then(|number| self.program(number)) {
                    program.resize(rows, columns);
                }
            }
            Packet::Signal(signal) => {
                let sent = sys::send_signal(&self.programs[0].process, signal);
                self.answer(
                    index,
                    sent.map_err(|e| Failure::new("sending the signal", e)),
                );
            }
            Packet::Freeze(frozen) => {
                let set = freeze::set(&self.group, self.pid, frozen);
                let what = if frozen { "pausing" } else { "unpausing" };
                self.answer(index, set.map_err(|e| Failure::new(what, e)));
            }
            Packet::Root => {
                let mut path = PathBuf::from(format!("/proc/{}/root", self.pid));
                // Of one that another runtime runs, our process beside it is not in the container.
                if self.spec.config.runtime.is_some() {
                    path.extend(self.spec.merged.components().skip(1));
                }
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                match rustix::fs::open(&path, flags, Mode::empty()) {
                    Ok(root) => self.clients[index].say(Packet::Directory(root)),
                    Err(error) => self.answer(index, Err(Failure::new("opening the root", error))),
                }
            }
            // Nothing that a command says.
            _ => {}
        }
    }

    fn answer(&mut self, index: usize, outcome: Result<(), Failure>) {
        self.clients[index].say(match outcome {
            Ok(()) => Packet::Done,
            Err(Failure { code, message }) => Packet::Failed { code, message },
        });
    }

    /// A program's input ends with that of the one who has started it with input.
    fn end_input(&mut self, index: usize) {
        let client = &self.clients[index];
        if let (true, Some(number)) = (client.input && client.owns, client.attached)
            && let Some(program) = self.program_mut(number)
            && program.input_once
        {
            program.end_input();
        }
    }

    /// Takes what a program has printed to whom it may concern.
    fn pass_on(&mut self, number: usize, stream: Stream) {
        let Some(program) = self.program_mut(number) else {
            return;
        };
        match program.take(stream) {
            Printed::Bytes(bytes) => self.show(number, stream, bytes),
            Printed::Nothing => {}
            // The terminal has no program on it for now: wait a little rather than spin.
            Printed::Nobody => std::thread::sleep(Duration::from_millis(10)),
        }
    }

    fn show(&mut self, number: usize, stream: Stream, bytes: Vec<u8>) {
        let attached = |client: &&mut Client| client.attached == Some(number);
        for client in self.clients.iter_mut().filter(attached) {
            client.say(Packet::Output(stream, bytes.clone()));
        }
    }

    /// Starts a further program for a command.
    fn exec(&mut self, index: usize, exec: &Exec) {
        match self.start(exec) {
            Ok(program) => {
                let client = &mut self.clients[index];
                // A detached one is told that it runs, and leaves.
                client.attached = Some(program.number);
                client.input = exec.interactive;
                client.owns = true;
                self.programs.push(program);
            }
            Err(failure) => {
                // What fails for want of a container says so in many ways, ENOMEM of clone(2) among them.
                let Failure { code, message } = match self.is_over() {
                    true => Failure::gone(),
                    false => failure,
                };
                let code = if code == 125 { 126 } else { code };
                self.clients[index].say(Packet::Failed { code, message });
            }
        }
    }

    /// Whether the container's first process has ended.
    fn is_over(&self) -> bool {
        let mut first = [PollFd::new(&self.programs[0].process, PollFlags::IN)];
        matches!(poll(&mut first, Some(&Timespec::default())), Ok(1..))
    }

    fn start(&mut self, exec: &Exec) -> Result<Program, Failure> {
        let first = &self.programs[0].process;
        if !self.joined {
            // Of this process only its children's namespace changes.
            sys::set_namespaces(first, libc::CLONE_NEWPID).map_err(join::not_entered)?;
            self.joined = true;
        }
        let order = join::Order {
            spec: of_exec(&self.spec, exec),
            namespaces: other_namespaces(self.pid).map_err(|error| match error.kind() {
                // As those of a process that has ended are.
                io::ErrorKind::NotFound => Failure::gone(),
                _ => Failure::new("finding the container's namespaces", error),
            })?,
            number: self.started + 1,
        };
        let stdio = match (exec.terminal, exec.detached) {
            (None, false) => Stdio::pipes(exec.interactive),
            _ => Stdio::nothing(),
        };
        let stdio = stdio.map_err(|e| Failure::new("making pipes", e))?;
        let Started {
            process, reports, ..
        } = start::further(&order, first, &stdio.theirs)?;
        self.started += 1;
        let mut program = Program::new(self.started, process, reports, stdio);
        program.input_once = true;
        Ok(program)
    }

    fn hear_report(&mut self, number: usize) {
        let Some(program) = self.program_mut(number) else {
            return;
        };
        let Some(reports) = &program.reports else {
            return;
        };
        let said = match spec::receive(reports) {
            Ok(Some(Report::Terminal(master))) => match program.on_terminal(master) {
                Ok(()) => return,
                Err(error) => Err(Failure::new("preparing the terminal", error)),
            },
            Ok(Some(Report::Failed(failure))) => Err(failure),
            Ok(None) => Ok(()),
            Err(error) => Err(Failure::new("hearing from the program", error)),
        };
        program.reports = None;
        if said.is_ok() {
            program.give_pending();
        }
        let failed = said.is_err();
        let owner = |client: &&mut Client| client.attached == Some(number) && client.owns;
        if let Some(client) = self.clients.iter_mut().find(owner) {
            match said {
                Ok(()) => client.say(Packet::Started(0)),
                Err(Failure { code, message }) => {
                    client.attached = None;
                    client.say(Packet::Failed { code, message });
                }
            }
        }
        if failed {
            self.end(number);
        }
    }

    /// A further program has ended.
    fn end(&mut self, number: usize) {
        let Some(at) = self.programs.iter().position(|p| p.number == number) else {
            return;
        };
        let mut program = self.programs.remove(at);
        if program.reports.is_some() {
            // It may have said why.
            self.programs.insert(at, program);
            return self.hear_report(number);
        }
        for (stream, bytes) in program.rest() {
            self.show(number, stream, bytes);
        }
        let code = sys::reap(&program.process).map_or(255, Exit::code);
        if self.spec.config.runtime.is_some() {
            let directory = self.spec.merged.parent().unwrap_or(Path::new("/"));
            // What stays goes with the container.
            let _ = std::fs::remove_file(runtime::process_file(directory, number));
        }
        let attached = |client: &&mut Client| client.attached == Some(number);
        for client in self.clients.iter_mut().filter(attached) {
            client.say(Packet::Exited(code));
            client.attached = None;
        }
    }

    /// The container's first process has ended, and the kernel has ended all others.
    fn end_all(&mut self) -> Exit {
        for (stream, bytes) in self.programs[0].rest() {
            self.show(0, stream, bytes);
        }
        let numbers: Vec<usize> = self.programs[1..].iter().map(|p| p.number).collect();
        for number in numbers {
            self.end(number);
        }
        sys::reap(&self.programs[0].process).unwrap_or(Exit::Code(255))
    }

    /// Forgets who has gone. What waits for the input of one who was killed waits no longer.
    fn part(&mut self) {
        for index in 0..self.clients.len() {
            if self.clients[index].gone {
                self.end_input(index);
            }
        }
        self.clients.retain(|client| !client.gone);
    }
}
