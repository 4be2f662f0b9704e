//! The `stratad` command: parse, build, serve, drain.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};
use stratad::config::{DEFAULT_LISTEN, default_data};
use stratad::telemetry::log::Log;
use stratad::{Config, Server};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A registry for container images.
#[derive(Parser)]
#[command(name = "stratad", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the registry until SIGTERM or SIGINT.
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, env = "STRATAD_LISTEN", value_name = "ADDR:PORT", default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,

    /// The directory that holds everything [default: /var/lib/stratad, or a user's XDG data directory].
    #[arg(long, env = "STRATAD_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// Accept manifests that name content which is not here, as a mirror of one platform has them.
    #[arg(long, env = "STRATAD_SPARSE")]
    sparse: bool,
}

fn main() -> ExitCode {
    let Command::Serve(arguments) = Cli::parse().command;
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Serve) -> Result<(), String> {
    let data = arguments.data.or_else(default_data).ok_or(
        "no data directory: say --data DIR, because neither XDG_DATA_HOME nor HOME is set",
    )?;
    let mut config = Config::new(data);
    config.http.listen = vec![arguments.listen];
    config.storage.sparse = arguments.sparse;
    // What waits to be logged is written when this is dropped.
    let _log = Log::start(&config.log).map_err(|e| e.to_string())?;
    allow_many_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), String> {
    let (address, data) = (config.http.listen[0], config.storage.data.clone());
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| format!("cannot listen on {address}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let server = Server::open(config).await.map_err(|e| e.to_string())?;
    say(&format!("listening on http://{address}"));
    say(&format!("data in {}", data.display()));
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        say("stopping");
    };
    server.serve(listener, shutdown).await;
    say("stopped");
    Ok(())
}

/// Each connection and each file that is sent is a descriptor; the usual soft limit is 1024.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
}

/// One line for the person who started it. When nobody listens any more, it goes on without.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "stratad: {line}"));
}
