//! The log, on stderr: errors and warnings, and with `RUST_LOG=stratad=debug` a line for each request.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Begins to log. A stderr that was closed is no reason to stop.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,refinery_core=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .log_internal_errors(false)
        .init();
}
