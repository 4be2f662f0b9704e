//! `stratad serve`: build, serve, reload, drain.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit, setrlimit};
use stratad::config::{Inputs, Loaded};
use stratad::telemetry::log::Log;
#[cfg(feature = "otel")]
use stratad::telemetry::otel::Traces;
use stratad::{Listeners, Live, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::reload;
use super::{Outcome, load, one};
use crate::{notify, say};

/// Serves until it is told to end.
pub(crate) fn run(inputs: &Inputs) -> Outcome {
    let loaded = load(inputs)?;
    if loaded.config.storage.data.as_os_str().is_empty() {
        let why =
            "no data directory: say --data DIR, because neither XDG_DATA_HOME nor HOME is set";
        return Err(one(why));
    }
    let log = Arc::new(Log::start(&loaded.config.log).map_err(one)?);
    allow_many_files();
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    #[cfg(feature = "otel")]
    let _traces = {
        let endpoint = loaded.config.telemetry.otlp_endpoint.as_deref();
        endpoint.map(Traces::start).transpose().map_err(one)?
    };
    #[cfg(not(feature = "otel"))]
    if loaded.config.telemetry.otlp_endpoint.is_some() {
        tracing::warn!(
            "this stratad is built without the feature otel: telemetry.otlp_endpoint is ignored"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| one(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(serve(inputs.clone(), loaded, Arc::clone(&log)));
    // What still reads the configuration anew has the log, too; what waits to be logged is written when it is dropped.
    drop(runtime);
    drop(log);
    outcome.map_err(one)
}

async fn serve(inputs: Inputs, loaded: Loaded, log: Arc<Log>) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| error.to_string());
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let second = second(
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let hangup = listen(SignalKind::hangup())?;
    let config = loaded.config;
    let data = config.storage.data.clone();
    let listeners = Listeners::bind(&config.http.listen).map_err(|error| error.to_string())?;
    let addresses = listeners.addresses().map_err(|error| error.to_string())?;
    let server = Server::open(config)
        .await
        .map_err(|error| error.to_string())?;
    if let Some(address) = server.admin_address() {
        say(&format!("metrics and health on http://{address}"));
    }
    for address in &addresses {
        say(&format!("listening on http://{address}"));
    }
    say(&format!("data in {}", data.display()));
    warn_of_strangers(&addresses);
    let reloads = tokio::spawn(reloads(hangup, inputs, server.settings(), log));
    notify::ready();
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify::stopping();
        say("stopping");
    };
    tokio::select! {
        () = server.serve(listeners, shutdown) => {}
        () = second => {
            // Nothing acknowledged is lost by that: it is what a crash would do.
            say("stopped at once: what was under way is cut off");
            std::process::exit(1);
        }
    }
    reloads.abort();
    say("stopped");
    Ok(())
}

/// The second signal to end: whoever sends it does not want to wait any longer.
async fn second(mut terminate: Signal, mut interrupt: Signal) {
    for _ in 0..2 {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

async fn reloads(mut hangup: Signal, inputs: Inputs, live: Live, log: Arc<Log>) {
    while hangup.recv().await.is_some() {
        let (inputs, live, log) = (inputs.clone(), live.clone(), Arc::clone(&log));
        // The file may be on a disk that takes its time.
        let read = tokio::task::spawn_blocking(move || reload(&inputs, &live, &log));
        if let Err(error) = read.await {
            tracing::error!("cannot read the configuration anew: {error}");
        }
    }
}

/// Whoever reaches such a listener may read, write and delete everything.
fn warn_of_strangers(addresses: &[SocketAddr]) {
    for address in open_to_others(addresses) {
        tracing::warn!(
            "{address} can be reached by other machines, and there is no TLS and no authentication: a proxy or a firewall has to add them"
        );
    }
}

fn open_to_others(addresses: &[SocketAddr]) -> impl Iterator<Item = &SocketAddr> {
    let local = |address: &&SocketAddr| address.ip().to_canonical().is_loopback();
    addresses.iter().filter(move |address| !local(address))
}

/// Each connection and each file that is sent is a descriptor; the usual soft limit is 1024.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_this_machine_reaches_are_not_warned_of() {
        let all = [
            "127.0.0.1:1",
            "[::1]:1",
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "[::ffff:127.0.0.1]:1",
        ];
        let all = all.map(|address| address.parse().expect("address"));
        let open: Vec<_> = open_to_others(&all).map(ToString::to_string).collect();
        assert_eq!(open, ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"]);
    }
}
