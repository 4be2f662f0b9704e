//! What the commands that talk to registries share: how to reach one, and running until done or
//! interrupted.

use std::future::Future;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use oci_distribution::Reference;
use strata::config::Source;
use strata::copy::Platforms;
use strata::registry::{CredentialStore, Credentials, RegistryOptions, Transport};
use strata::store::{Name, Target};
use strata_oci::Platform;
use tokio::signal::unix::{SignalKind, signal};

/// How to reach a registry.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct TransportArgs {
    /// Speak plain HTTP to the registry [default: only to one on this machine]
    #[arg(long)]
    plain_http: bool,
    /// Require HTTPS with a valid certificate; false: accept any certificate
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", conflicts_with = "plain_http")]
    tls_verify: Option<bool>,
    /// The file of credentials [default: $REGISTRY_AUTH_FILE, else those of docker and containers]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// The file of rules about registries [default: $STRATA_CONFIG, else ~/.config/strata/config.toml]
    #[arg(long = "config", value_name = "FILE")]
    registries: Option<PathBuf>,
}

impl TransportArgs {
    /// The same for the library.
    pub(crate) fn options(&self) -> RegistryOptions {
        let transport = match (self.plain_http, self.tls_verify) {
            (true, _) => Transport::PlainHttp,
            (false, None) => Transport::Default,
            (false, Some(true)) => Transport::Https,
            (false, Some(false)) => Transport::Unverified,
        };
        RegistryOptions {
            transport,
            store: Some(self.store()),
            config: self.config(),
            ..RegistryOptions::default()
        }
    }

    /// Where rules about registries are.
    pub(crate) fn config(&self) -> Source {
        Source::Machine(self.registries.clone())
    }

    /// The images that a name may mean, in the order to try them: a short one by the rules about such, unless `docker://`
    /// stands before it.
    pub(crate) fn references(&self, text: &str) -> Result<Vec<Reference>> {
        full_names(text, &self.config())?
            .iter()
            .map(|name| reference(name))
            .collect()
    }

    /// The first of them.
    pub(crate) fn reference(&self, text: &str) -> Result<Reference> {
        let mut all = self.references(text)?.into_iter();
        all.next()
            .with_context(|| format!("{text:?} names no image"))
    }

    /// Where credentials are.
    pub(crate) fn store(&self) -> CredentialStore {
        match &self.authfile {
            Some(file) => CredentialStore::of_file(file.clone()),
            None => CredentialStore::of_user(),
        }
    }
}

/// How to reach the two sides of a copy, where they differ.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct SideArgs {
    /// --plain-http for the source alone
    #[arg(long)]
    src_plain_http: bool,
    /// --plain-http for the target alone
    #[arg(long)]
    dest_plain_http: bool,
    /// --tls-verify for the source alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", conflicts_with = "src_plain_http")]
    src_tls_verify: Option<bool>,
    /// --tls-verify for the target alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", conflicts_with = "dest_plain_http")]
    dest_tls_verify: Option<bool>,
    /// What to log in with at the source; a password that is not here, where all users of this machine see
    /// it, is asked for
    #[arg(long, value_name = "USER[:PASSWORD]")]
    src_creds: Option<String>,
    /// What to log in with at the target
    #[arg(long, value_name = "USER[:PASSWORD]")]
    dest_creds: Option<String>,
    /// --authfile for the source alone
    #[arg(long, value_name = "FILE")]
    src_authfile: Option<PathBuf>,
    /// --authfile for the target alone
    #[arg(long, value_name = "FILE")]
    dest_authfile: Option<PathBuf>,
}

impl SideArgs {
    /// For the library: the source and the target. What is said about a side goes before what is said of
    /// both.
    pub(crate) fn options(
        &self,
        both: &TransportArgs,
    ) -> Result<(RegistryOptions, RegistryOptions)> {
        let side = |plain: bool, verify: Option<bool>, file: &Option<PathBuf>| TransportArgs {
            plain_http: plain || both.plain_http && verify.is_none(),
            tls_verify: if plain {
                None
            } else {
                verify.or(both.tls_verify)
            },
            authfile: file.clone().or_else(|| both.authfile.clone()),
            registries: both.registries.clone(),
        };
        let source = side(self.src_plain_http, self.src_tls_verify, &self.src_authfile);
        let target = side(
            self.dest_plain_http,
            self.dest_tls_verify,
            &self.dest_authfile,
        );
        let with = |side: TransportArgs, given: &Option<String>, what| {
            let credentials = given.as_deref().map(|given| credentials(given, what));
            Ok::<_, anyhow::Error>(RegistryOptions {
                credentials: credentials.transpose()?,
                ..side.options()
            })
        };
        Ok((
            with(source, &self.src_creds, "source")?,
            with(target, &self.dest_creds, "target")?,
        ))
    }
}

/// `USER:PASSWORD`, or the name alone.
fn credentials(given: &str, what: &str) -> Result<Credentials> {
    let (user, password) = match given.split_once(':') {
        Some((user, password)) => (user, password.to_owned()),
        None if std::io::stdin().is_terminal() => {
            let question = format!("Password of {given} at the {what}: ");
            (given, crate::prompt::password(&question)?)
        }
        None => bail!(
            "the password of {given} at the {what} is missing, and there is no terminal to ask on"
        ),
    };
    ensure!(!user.is_empty(), "credentials for the {what} have no name");
    Ok(Credentials::new(user, password))
}

/// What `--platform` says: nothing, one, or several.
pub(crate) fn platforms(typed: &[Platform]) -> Platforms {
    match typed {
        [] => Platforms::All,
        [one] => Platforms::One(one.clone()),
        several => Platforms::Some(several.to_vec()),
    }
}

/// The full names that a name may mean.
pub(crate) fn full_names(text: &str, config: &Source) -> Result<Vec<String>> {
    // What is no name at all is told so in the words of who wrote it.
    if text.starts_with("docker://") || Name::parse(text).is_err() {
        return Ok(vec![text.to_owned()]);
    }
    Ok(config.load()?.full_names(text)?)
}

/// A reference in docker's grammar, `docker://` in front of it or not.
pub(crate) fn reference(text: &str) -> Result<Reference> {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    let name = Name::parse(name).with_context(|| {
        format!("{text:?} is not an image's name: expected [HOST[:PORT]/]NAME[:TAG][@DIGEST]")
    })?;
    let (registry, repository) = name
        .repository
        .split_once('/')
        .with_context(|| format!("{text:?} names no repository"))?;
    let (registry, repository) = (registry.to_owned(), repository.to_owned());
    Ok(match name.target {
        Target::Tag(tag) => Reference::with_tag(registry, repository, tag),
        Target::Digest(digest) => Reference::with_digest(registry, repository, digest.to_string()),
    })
}

/// A signal ended a pull that something else needed.
#[derive(Debug, thiserror::Error)]
#[error("interrupted while pulling {image}")]
pub(crate) struct Interrupted {
    pub(crate) image: String,
    /// What a shell gives for the signal.
    pub(crate) code: ExitCode,
}

/// Runs a transfer to its end; SIGINT and SIGTERM end it cleanly, with the exit code that a shell gives
/// for them.
pub(crate) fn until_interrupted<T>(
    work: impl Future<Output = Result<T>>,
) -> Result<std::result::Result<T, ExitCode>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the threads of a transfer")?;
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("watching SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("watching SIGTERM")?;
        tokio::select! {
            done = work => done.map(Ok),
            _ = interrupt.recv() => Ok(Err(ExitCode::from(130))),
            _ = terminate.recv() => Ok(Err(ExitCode::from(143))),
        }
    });
    // Threads that still unpack see that the transfer has ended, and remove what they have made. Who has pressed Ctrl-C
    // does not wait for a disk that stalls.
    let patience = if matches!(outcome, Ok(Err(_))) { 5 } else { 60 };
    runtime.shutdown_timeout(Duration::from_secs(patience));
    outcome
}
