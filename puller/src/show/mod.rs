//! Transfers shown: bars on a terminal, lines elsewhere, JSON for programs.
//!
//! An event costs the transfer a lock and a few additions. All that is written is written by a thread of
//! its own, a few times a second, so that no transfer waits for a terminal; it begins with the first event,
//! because who enters a user namespace must be alone until then.

mod bars;
pub(crate) mod json;
mod meter;
mod plain;
pub(crate) mod screen;

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use strata::progress::{Event, Progress, Silent};
use strata_oci::Digest;

use crate::printer;
pub(crate) use meter::Work;
use meter::{Item, Meter};

/// How often a terminal is drawn on.
const FRAME: Duration = Duration::from_millis(100);
/// How often programs are told what moves.
const REPORT: Duration = Duration::from_millis(500);

/// How progress is shown.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct ProgressArgs {
    /// How to show what happens, on standard error [default: auto]
    #[arg(long, value_enum, value_name = "HOW")]
    progress: Option<Mode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// tty on a terminal, else plain
    Auto,
    /// Bars that move
    Tty,
    /// A line for each thing that is done, and now and then one for all
    Plain,
    /// A line of JSON for each event, for programs
    Json,
    /// Messages and no more
    None,
}

impl ProgressArgs {
    /// The same, but without a word about it nothing is shown.
    pub(crate) fn or_nothing(self, quiet: bool) -> Self {
        let progress = self.progress.or(quiet.then_some(Mode::None));
        Self { progress }
    }

    /// Begins to show a transfer; without a word about it not a quiet one.
    pub(crate) fn begin(self, quiet: bool, work: Work) -> Show {
        let terminal = || std::io::stderr().is_terminal();
        let dumb = || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = match self.progress {
            None if quiet => return Show { shared: None },
            Some(Mode::Tty) => Style::Bars,
            Some(Mode::Plain) => Style::Plain,
            Some(Mode::Json) => Style::Json,
            Some(Mode::None) => Style::Messages,
            None | Some(Mode::Auto) if terminal() && !dumb() => Style::Bars,
            None | Some(Mode::Auto) => Style::Plain,
        };
        if style == Style::Json {
            printer::speak_json();
        }
        Show::new(style, work)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Bars,
    Plain,
    Json,
    Messages,
}

/// What is shown, until it is dropped.
pub(crate) struct Show {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    style: Style,
    /// Whether each item has a line when it is done.
    lists: bool,
    state: Mutex<State>,
    changed: Condvar,
    /// The number of the next part's first item.
    next: AtomicUsize,
}

struct State {
    meter: Meter,
    /// Lines that wait to be written.
    told: Vec<Told>,
    ended: bool,
    thread: Option<JoinHandle<()>>,
}

enum Told {
    Line(String),
    Message(String),
}

/// A transfer that is shown with others: its items have numbers of their own.
struct Part {
    shared: Arc<Shared>,
    first: usize,
}

impl Show {
    fn new(style: Style, work: Work) -> Self {
        let state = State {
            meter: Meter::new(work, Instant::now()),
            told: Vec::new(),
            ended: false,
            thread: None,
        };
        let shared = Shared {
            style,
            lists: true,
            state: Mutex::new(state),
            changed: Condvar::new(),
            next: AtomicUsize::new(0),
        };
        Self {
            shared: Some(Arc::new(shared)),
        }
    }

    /// Without a line for each item that is done, where there are hundreds; programs get them.
    #[must_use]
    pub(crate) fn briefly(mut self) -> Self {
        if let Some(shared) = self.shared.as_mut().and_then(Arc::get_mut) {
            shared.lists = shared.style == Style::Json;
        }
        self
    }

    /// For the next transfer.
    pub(crate) fn part(&self) -> Arc<dyn Progress> {
        match &self.shared {
            None => Arc::new(Silent),
            Some(shared) => Arc::new(Part {
                shared: shared.clone(),
                first: shared.next.load(Ordering::Relaxed),
            }),
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let mut state = shared.state();
        state.ended = true;
        let thread = state.thread.take();
        drop(state);
        shared.changed.notify_all();
        if let Some(thread) = thread {
            // It ends by itself, and has nothing to give.
            let _ = thread.join();
        }
    }
}

impl Progress for Part {
    fn event(&self, event: Event) {
        let event = self.renumbered(event);
        self.shared.event(&event);
    }
}

impl Part {
    fn renumbered(&self, mut event: Event) -> Event {
        match &mut event {
            Event::Planned { item, .. }
            | Event::Waiting { item }
            | Event::Resumed { item, .. }
            | Event::Retrying { item, .. }
            | Event::Moved { item, .. }
            | Event::Unpacked { item, .. }
            | Event::Done { item, .. }
            | Event::Failed { item } => {
                *item = item.saturating_add(self.first);
                let next = item.saturating_add(1);
                self.shared.next.fetch_max(next, Ordering::Relaxed);
            }
            Event::Message(_) => {}
        }
        event
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(self: &Arc<Self>, event: &Event) {
        let mut state = self.state();
        let ended = state.meter.take(event);
        if let Some(told) = self.told(&state.meter, ended.as_ref(), event) {
            state.told.push(told);
            self.changed.notify_all();
        }
        if state.thread.is_none() && !state.ended {
            let shared = self.clone();
            let thread = std::thread::Builder::new().name("progress".to_owned());
            // A machine that has no thread left shows nothing.
            state.thread = thread.spawn(move || shared.run()).ok();
        }
    }

    /// What an event has to say at once.
    fn told(&self, meter: &Meter, ended: Option<&Item>, event: &Event) -> Option<Told> {
        match (self.style, event) {
            (Style::Json, event) => json::event(meter, ended, event).map(Told::Line),
            (_, Event::Message(text)) => Some(Told::Message(text.clone())),
            (Style::Messages, _) => None,
            (_, Event::Done { .. }) if !self.lists => None,
            // Bars show this themselves.
            (Style::Bars, Event::Resumed { .. } | Event::Waiting { .. }) => None,
            (_, event) => {
                let number = match event {
                    Event::Waiting { item }
                    | Event::Resumed { item, .. }
                    | Event::Retrying { item, .. } => Some(*item),
                    _ => None,
                };
                let item = ended.or_else(|| meter.item(number?));
                plain::event(item, event).map(Told::Line)
            }
        }
    }

    /// Writes until the end.
    fn run(&self) {
        let mut reported = Instant::now();
        let mut spoke = reported;
        loop {
            let mut state = self.wait();
            let now = Instant::now();
            let (told, ended) = (std::mem::take(&mut state.told), state.ended);
            state.meter.sample(now);
            let meter = &state.meter;
            let total = meter.total(now);
            let mut lines: Vec<String> = told.into_iter().map(Told::text).collect();
            let mut picture = None;
            match self.style {
                Style::Bars => {
                    let size = screen::size();
                    let drawn = match ended {
                        true => Vec::new(),
                        false => bars::lines(meter, &total, size.1),
                    };
                    picture = Some((drawn, size));
                }
                Style::Plain => lines.extend(plain::summary(&total, &mut spoke, now)),
                Style::Json if ended => lines.push(json::total(&meter.result(now), true)),
                Style::Json if now.saturating_duration_since(reported) >= REPORT => {
                    reported = now;
                    let moving = meter.items().filter(|(_, item)| item.moves());
                    lines.extend(moving.map(|(number, item)| json::progress(number, item)));
                    lines.push(json::total(&total, false));
                }
                Style::Json | Style::Messages => {}
            }
            // What writes may be held up: not those who have something to tell.
            drop(state);
            match picture {
                Some((drawn, size)) => screen::draw(&lines, drawn, size),
                None => lines.iter().for_each(printer::progress),
            }
            if ended {
                return;
            }
        }
    }

    /// Until there is something to write. A terminal has its next picture no sooner than is due.
    fn wait(&self) -> MutexGuard<'_, State> {
        let due = Instant::now() + FRAME;
        let mut state = self.state();
        loop {
            let left = due.saturating_duration_since(Instant::now());
            let told = self.style != Style::Bars && !state.told.is_empty();
            if state.ended || told || left.is_zero() {
                return state;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Told {
    fn text(self) -> String {
        match self {
            Self::Line(line) => line,
            Self::Message(text) => printer::worded("message", text),
        }
    }
}

/// The beginning of a digest, as docker shows layers.
fn short(digest: &Digest) -> &str {
    digest.short()
}

/// `8s`, `2m05s`, `1h02m`
fn time_left(left: Duration) -> String {
    let seconds = left.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_left_are_short() {
        let text = |seconds| time_left(Duration::from_secs(seconds));
        assert_eq!([text(8), text(125), text(3720)], ["8s", "2m05s", "1h02m"]);
    }

    #[test]
    fn transfers_one_after_another_have_numbers_of_their_own() {
        let show = Show::new(Style::Messages, Work::Pull);
        for expected in [0, 2] {
            let part = show.part();
            for item in 0..2 {
                let (digest, size) = (Digest::of(&[item as u8]), 1);
                part.event(Event::Planned { item, digest, size });
            }
            let shared = show.shared.as_ref().expect("shown");
            let state = shared.state();
            let numbers: Vec<usize> = state.meter.items().map(|(number, _)| number).collect();
            assert_eq!(numbers, (0..expected + 2).collect::<Vec<_>>());
        }
    }
}
