//! Transfers shown to a person: bars on a terminal, one line for each thing that is done elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use strata::progress::{Event, How, Progress, Silent};
use strata_oci::Digest;

use crate::printer;

/// What fits: nothing when asked to be quiet, bars on a terminal, lines otherwise.
pub(crate) fn for_stderr(quiet: bool) -> Arc<dyn Progress> {
    if quiet {
        Arc::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bars::new())
    } else {
        Arc::new(Lines::default())
    }
}

/// The beginning of a digest, as docker shows layers.
fn short(digest: &Digest) -> &str {
    digest.short()
}

fn word(how: How) -> &'static str {
    match how {
        How::Fetched => "fetched",
        How::Reused => "reused",
        How::Uploaded => "pushed",
        How::Mounted => "mounted",
        How::LeftOut => "left out",
    }
}

/// One line when an item is done; nothing moves.
#[derive(Default)]
struct Lines {
    planned: Mutex<HashMap<usize, (Digest, u64)>>,
}

impl Lines {
    fn planned(&self) -> MutexGuard<'_, HashMap<usize, (Digest, u64)>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, item: usize, what: &str) {
        if let Some((digest, size)) = self.planned().get(&item) {
            let size = printer::size(*size);
            printer::progress(format_args!("{}: {what} ({size})", short(digest)));
        }
    }
}

impl Progress for Lines {
    fn event(&self, event: Event) {
        match event {
            Event::Planned { item, digest, size } => {
                self.planned().insert(item, (digest, size));
            }
            Event::Waiting { item } => self.say(item, "waiting for another process"),
            Event::Moved { .. } | Event::Unpacked { .. } => {}
            Event::Done { item, how } => self.say(item, word(how)),
            Event::Failed { item } => self.say(item, "failed"),
            Event::Message(text) => printer::message(text),
        }
    }
}

/// A bar for each item: what has come over the network, and what of it is unpacked.
struct Bars {
    all: MultiProgress,
    items: Mutex<HashMap<usize, Bar>>,
}

struct Bar {
    bar: ProgressBar,
    size: u64,
    extracting: bool,
}

impl Bars {
    fn new() -> Self {
        // Ten times a second is smooth, and no layer waits for the terminal.
        let target = ProgressDrawTarget::stderr_with_hz(10);
        Self {
            all: MultiProgress::with_draw_target(target),
            items: Mutex::default(),
        }
    }

    fn with(&self, item: usize, act: impl FnOnce(&mut Bar)) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = items.get_mut(&item) {
            act(bar);
        }
    }

    fn add(&self, item: usize, digest: &Digest, size: u64) {
        let bar = self.all.add(ProgressBar::new(size));
        bar.set_style(style(
            "{prefix} {msg:16} {bar:28} {decimal_bytes:>9}/{decimal_total_bytes:9} {decimal_bytes_per_sec:>11}",
        ));
        bar.set_prefix(short(digest).to_owned());
        bar.set_message("waiting");
        let entry = Bar {
            bar,
            size,
            extracting: false,
        };
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.insert(item, entry);
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

impl Progress for Bars {
    fn event(&self, event: Event) {
        match event {
            Event::Planned { item, digest, size } => self.add(item, &digest, size),
            Event::Waiting { item } => self.with(item, |bar| bar.bar.set_message("other pull")),
            Event::Moved { item, bytes } => self.with(item, |bar| {
                if !bar.extracting {
                    let whole = bytes >= bar.size;
                    bar.bar
                        .set_message(if whole { "finishing" } else { "transferring" });
                    bar.bar.set_position(bytes);
                    bar.extracting = whole;
                }
            }),
            Event::Unpacked { item, bytes } => self.with(item, |bar| {
                if bar.extracting {
                    let unpacked = printer::size(bytes);
                    bar.bar.set_message(format!("extract {unpacked}"));
                }
            }),
            Event::Done { item, how } => self.with(item, |bar| {
                bar.bar
                    .set_style(style("{prefix} {msg:16} {decimal_total_bytes}"));
                bar.bar.finish_with_message(word(how));
            }),
            Event::Failed { item } => self.with(item, |bar| {
                bar.bar.abandon_with_message("failed");
            }),
            Event::Message(text) => self.all.suspend(|| printer::message(text)),
        }
    }
}
