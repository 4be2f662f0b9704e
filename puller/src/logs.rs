//! What the library notes on its way, on standard error: warnings always, the rest when it is asked for.

use std::fmt;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Begins to show them.
pub(crate) fn start(verbose: bool) {
    let level = if verbose {
        LevelFilter::DEBUG
    } else {
        LevelFilter::WARN
    };
    let shown = Targets::new().with_target("strata", level);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(|| Told)
        .event_format(Line);
    // Fails only when something is shown already.
    let _ = tracing_subscriber::registry()
        .with(shown)
        .with(layer)
        .try_init();
}

/// Each event is one message.
struct Told;

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        crate::printer::message(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The message alone; a detail is set in a little.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let detail = *event.metadata().level() > Level::WARN;
        write!(writer, "{}", if detail { "  " } else { "" })?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
