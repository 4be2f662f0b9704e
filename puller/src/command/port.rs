//! `strata port`: which ports of a container are published. None are: its network is the host's, or it has none
//! (`run::options::no_published_ports`).

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::containers::find;
use crate::settings::Settings;

/// List the ports of a container that are published: none ever are
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name or id
    container: String,
    /// A port that is asked for
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let container = find(&store, &args.container)?;
    match &args.port {
        None => Ok(ExitCode::SUCCESS),
        Some(port) => bail!(
            "no public port {port:?} published for {}: its network is the host's, or it has none",
            container.name
        ),
    }
}
