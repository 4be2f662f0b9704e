//! `strata login`: check credentials against a registry and keep them.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use strata::registry::credentials::{CredentialStore, Key, Place};
use strata::registry::{Credentials, Login, Registry, RegistryError};

use crate::transport::{TransportArgs, until_interrupted};
use crate::{printer, prompt};

/// No password is longer.
const MAX_PASSWORD: u64 = 64 * 1024;

/// Log in to a registry: check a name and password and keep them
///
/// They are kept by the credential helper that docker's or containers' files name for the registry, else in the
/// file that knows the registry already, else in the first of these that is there: $REGISTRY_AUTH_FILE,
/// $XDG_RUNTIME_DIR/containers/auth.json, ~/.config/containers/auth.json, ~/.docker/config.json.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The name [default: asked for]
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password or token from standard input
    #[arg(long)]
    password_stdin: bool,
    #[arg(short, long, hide = true, value_name = "PASSWORD")]
    password: Option<String>,
    /// Print the name that is logged in, and do no more
    #[arg(long, conflicts_with_all = ["username", "password_stdin"])]
    get_login: bool,
    #[command(flatten)]
    transport: TransportArgs,
    /// The registry, or a namespace or repository on it that these credentials are for
    #[arg(value_name = "REGISTRY")]
    registry: Key,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    if args.password.is_some() {
        bail!(
            "a password on the command line can be seen by every user of this machine: use --password-stdin"
        );
    }
    let store = args.transport.store();
    if args.get_login {
        let found = store.find_key(&args.registry)?;
        let found = found.with_context(|| format!("not logged in to {}", args.registry))?;
        printer::line(found.credentials.user());
        return Ok(ExitCode::SUCCESS);
    }
    let mut credentials = given(&args)?;
    match until_interrupted(check(&args, &credentials))? {
        Ok(Login::Accepted(None)) => {}
        Ok(Login::Accepted(Some(token))) => credentials = Credentials::Identity(token),
        Ok(Login::Open) => printer::message(format_args!(
            "{} asks for no credentials, so these are kept unchecked",
            args.registry.registry()
        )),
        Err(code) => return Ok(code),
    }
    keep(&store, &args.registry, &credentials)?;
    Ok(ExitCode::SUCCESS)
}

fn keep(store: &CredentialStore, key: &Key, credentials: &Credentials) -> Result<()> {
    let place = store.store(key, credentials)?;
    let open = match &place {
        Place::File(_) => " (not encrypted)",
        Place::Helper(_) => "",
    };
    printer::line(format_args!("logged in to {key}; kept in {place}{open}"));
    Ok(())
}

async fn check(args: &Args, credentials: &Credentials) -> Result<Login> {
    let mut options = args.transport.options();
    options.credentials = Some(credentials.clone());
    let name = args.registry.registry();
    let registry = Registry::new(name, &options)?;
    let login = registry.login().await;
    login.map_err(|error| match error {
        RegistryError::Denied { .. } => {
            anyhow::Error::new(error).context(format!("{name} refuses this name and password"))
        }
        error => anyhow::Error::new(error).context(format!("logging in to {name}")),
    })
}

/// From the command line, standard input and the person at the terminal.
fn given(args: &Args) -> Result<Credentials> {
    let name = args.registry.registry();
    let asks = std::io::stdin().is_terminal();
    if args.password_stdin {
        let user = args.username.clone();
        let user = user.context("--password-stdin needs the name: -u NAME")?;
        let mut text = String::new();
        std::io::stdin()
            .take(MAX_PASSWORD)
            .read_to_string(&mut text)
            .context("reading the password from standard input")?;
        return credentials(user, text.trim_end_matches(['\r', '\n']).to_owned());
    }
    if !asks {
        bail!(
            "standard input is not a terminal to ask on: strata login -u NAME --password-stdin {name}"
        );
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => prompt::line(&format!("Name at {name}: "))?,
    };
    let password = prompt::password(&format!("Password of {user}: "))?;
    credentials(user, password)
}

fn credentials(user: String, password: String) -> Result<Credentials> {
    if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
        bail!("{user:?} cannot be a name: it is empty or has a colon or control character");
    }
    if password.is_empty() {
        bail!("the password is empty");
    }
    Ok(Credentials::new(user, password))
}
