//! The options that `create` and `run` share, and the [`Config`] that they make of an image.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use strata::run::command;
use strata::run::config::{Config, Mount};
use strata::store::Store;
use strata_oci::Platform;
use strata_oci::config::ContainerConfig;

use crate::show::ProgressArgs;

mod image;
mod mounts;
mod namespaces;
mod network;
mod refused;
mod resources;
mod security;

/// What a new container is to be. `-h` is the host name, as docker has it.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct ContainerArgs {
    /// Name of the container [default: made up]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Remove the container when the command ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Pass standard input to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; without a value, take it from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<OsString>,
    /// Set the variables that a file lists, one KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Label of the container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Labels that a file lists, one KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User to run as: name or number, and group if wanted
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// One more group of the user: name or number
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Program to run in place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,
    /// Run a small first process that passes signals on and reaps what the command leaves
    #[arg(long)]
    init: bool,
    /// Signal that stops the container [default: the image's, else TERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds until a stop kills [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// Refused but for "no": nobody watches over containers to restart them
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    #[command(flatten)]
    network: network::NetworkArgs,
    #[command(flatten)]
    namespaces: namespaces::NamespaceArgs,
    #[command(flatten)]
    mounts: mounts::MountArgs,
    #[command(flatten)]
    security: security::SecurityArgs,
    #[command(flatten)]
    resources: resources::ResourceArgs,
    /// How what the command prints is kept for `logs`: json-file, local (the same, but bounded), or none
    #[arg(long, value_name = "DRIVER", default_value = "json-file")]
    log_driver: String,
    /// Bounds of that: max-size=10m, max-file=3 [default: any size]
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
    /// Program that runs the container in place of strata itself: crun, runc, or the path of one like them
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<String>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Something to be said in a bundle's config.json
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    refused: refused::RefusedArgs,
    /// Say nothing of the image's pull
    #[arg(short, long)]
    quiet: bool,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pub(crate) pull: Pull,
    /// Which image of several, as OS/ARCH[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) progress: ProgressArgs,
    /// Image, then the command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "REF [COMMAND [ARG...]]"
    )]
    image_and_command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pull {
    /// When it is not here
    Missing,
    /// Every time: fetches what has changed
    Always,
    /// Never
    Never,
}

impl ContainerArgs {
    /// The image's name, and the command.
    pub(crate) fn image_and_command(&self) -> Result<(&str, &[OsString])> {
        let (name, command) = self
            .image_and_command
            .split_first()
            .context("no image given")?;
        let name = name
            .to_str()
            .with_context(|| format!("{name:?} is not an image name"))?;
        Ok((name, command))
    }

    /// What the container is to be. The host name may be empty: it then comes from the container's id
    /// ([`Config::default_hostname`]). The volumes that it names are not made yet.
    ///
    /// # Errors
    /// An option that says nothing that can be had, a file that cannot be read, a source of a mount that is
    /// missing, no command.
    pub(crate) fn config(&self, image: &ContainerConfig, inherited: Vec<Mount>) -> Result<Config> {
        let (name, words) = self.image_and_command()?;
        self.config_for(image, inherited, name, words)
    }

    /// What is to be mounted as other containers have it.
    ///
    /// # Errors
    /// There is no such container.
    pub(crate) fn inherited(&self, store: &Store) -> Result<Vec<Mount>> {
        self.mounts.inherited(store)
    }

    /// The same with a command that is given apart.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub(crate) fn config_for(
        &self,
        image: &ContainerConfig,
        inherited: Vec<Mount>,
        name: &str,
        words: &[OsString],
    ) -> Result<Config> {
        let mut config = self.without_image()?;
        config.arguments = command::arguments(image, self.entrypoint.as_deref(), words);
        let entrypoint = command::entrypoint(image, self.entrypoint.as_deref());
        config.entrypoint = Some(entrypoint.len());
        if config.arguments.is_empty() {
            bail!("{name} has no command of its own: say what to run, `strata run {name} COMMAND`");
        }
        let mut defaults = vec![command::DEFAULT_PATH.into()];
        if let Some(hostname) = &self.network.hostname {
            defaults.push(format!("HOSTNAME={hostname}").into());
        }
        if self.tty {
            defaults.push("TERM=xterm".into());
        }
        let given = self.variables()?;
        config.environment =
            command::environment(defaults, &image.env, &given, |k| std::env::var_os(k));
        config.working_directory = self
            .workdir
            .clone()
            .unwrap_or_else(|| image.working_dir.clone());
        config.user = self.user.clone().unwrap_or_else(|| image.user.clone());
        if config.stop_signal.is_none() && !image.stop_signal.is_empty() {
            // An image with a signal that nobody knows is stopped with TERM.
            config.stop_signal = strata::run::signals::parse(&image.stop_signal).ok();
        }
        mounts::add_inherited(&mut config.mounts, inherited);
        mounts::add_volumes_of_image(&mut config.mounts, image);
        Ok(config)
    }

    /// What can be said without the image; to be asked before one is fetched, so that a mistyped option costs nothing.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub(crate) fn without_image(&self) -> Result<Config> {
        self.refused.check()?;
        if !matches!(self.restart.as_str(), "" | "no") {
            bail!(
                "--restart {}: containers are not restarted, because no daemon watches over them; a systemd unit with \
                 Restart= that runs `strata run` does it",
                self.restart
            );
        }
        if let Some(path) = &self.workdir
            && !path.starts_with('/')
        {
            bail!("the working directory {path:?} is invalid, it needs to be an absolute path");
        }
        if let Some(name) = &self.runtime {
            strata::run::find_runtime(name)?;
            if self.init {
                bail!("--init: the reaper is part of strata's own runtime: leave --runtime out");
            }
        }
        let stop_signal = self
            .stop_signal
            .as_deref()
            .map(strata::run::signals::parse)
            .transpose();
        let mut config = Config {
            groups: self.group_add.clone(),
            interactive: self.interactive,
            terminal: self.tty,
            ephemeral: self.rm,
            init: self.init,
            stop_signal: stop_signal.context("--stop-signal")?,
            stop_timeout: self.stop_timeout,
            security: self.security.read()?,
            resources: self.resources.read()?,
            shm_size: self.resources.shm_size()?,
            runtime: self.runtime.clone(),
            log: strata::run::options::log(&self.log_driver, &self.log_opt)?,
            ..Config::default()
        };
        self.network.read(&mut config)?;
        self.namespaces.read(&mut config)?;
        self.mounts.read(&mut config)?;
        for text in &self.annotation {
            match text.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    config.annotations.insert(key.to_owned(), value.to_owned());
                }
                _ => bail!("--annotation {text:?}: it is KEY=VALUE"),
            }
        }
        for label in self.labels()? {
            let (key, value) = label.split_once('=').unwrap_or((&label, ""));
            if key.is_empty() {
                bail!("--label {label:?}: a label has a name, KEY=VALUE");
            }
            config.labels.insert(key.to_owned(), value.to_owned());
        }
        Ok(config)
    }

    /// Variables from files first, so that those of the command line win.
    fn variables(&self) -> Result<Vec<OsString>> {
        let mut variables = Vec::new();
        for path in &self.env_file {
            let what = || format!("--env-file {}", path.display());
            let text = read_list(path).with_context(what)?;
            let lines = command::environment_file(&text).with_context(what)?;
            // A name alone, of something that is not set here, leaves the image's.
            let set = |line: &OsString| {
                line.as_encoded_bytes().contains(&b'=') || std::env::var_os(line).is_some()
            };
            variables.extend(lines.into_iter().filter(set));
        }
        for variable in &self.env {
            if matches!(variable.as_encoded_bytes(), [] | [b'=', ..]) {
                bail!("invalid environment variable: {variable:?}");
            }
            variables.push(variable.clone());
        }
        Ok(variables)
    }

    fn labels(&self) -> Result<Vec<String>> {
        let mut labels = Vec::new();
        for path in &self.label_file {
            let what = || format!("--label-file {}", path.display());
            let text = read_list(path).with_context(what)?;
            let lines = command::environment_file(&text).with_context(what)?;
            labels.extend(lines.iter().map(|line| line.to_string_lossy().into_owned()));
        }
        labels.extend(self.label.iter().cloned());
        Ok(labels)
    }
}

/// A file of variables or labels, which may be a pipe. execve(2) takes no more.
fn read_list(path: &Path) -> Result<Vec<u8>> {
    const MOST: u64 = 4 * 1024 * 1024;
    let mut text = Vec::new();
    std::fs::File::open(path)?
        .take(MOST + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > MOST {
        bail!("it is larger than {MOST} bytes");
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
