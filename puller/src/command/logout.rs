//! `strata logout`: forget a registry's credentials.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use strata::registry::credentials::{CredentialStore, Key};

use crate::printer;

/// Forget the credentials for a registry, wherever they are kept
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Forget those for all registries
    #[arg(long, conflicts_with = "registry")]
    all: bool,
    /// The file of credentials [default: $REGISTRY_AUTH_FILE, else those of docker and containers]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// The registry, or the namespace or repository on it
    #[arg(value_name = "REGISTRY", required_unless_present = "all")]
    registry: Option<Key>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let store = match args.authfile {
        Some(file) => CredentialStore::of_file(file),
        None => CredentialStore::of_user(),
    };
    let (places, what) = match &args.registry {
        Some(key) => (store.erase(key)?, key.to_string()),
        None => (store.erase_all()?, "any registry".to_owned()),
    };
    if places.is_empty() {
        bail!("not logged in to {what}");
    }
    for place in places {
        printer::line(format_args!("removed from {place}"));
    }
    Ok(ExitCode::SUCCESS)
}
