//! The options that `create` and `run` share, and the [`Config`] that they make of an image.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use strata::run::command;
use strata::run::config::{Config, Network};
use strata::run::options;
use strata_oci::Platform;
use strata_oci::config::ContainerConfig;

use crate::show::ProgressArgs;

mod image;
mod mounts;
mod resources;
mod security;

/// What a new container is to be.
#[derive(clap::Args)]
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
    /// Host name of the container [default: the beginning of its id]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Network of the container: host, or none
    #[arg(
        long,
        visible_alias = "net",
        value_name = "NETWORK",
        default_value = "host"
    )]
    network: String,
    /// One more name in /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Refused: the network is the host's, or none
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<String>,
    /// Refused as -p
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Refused but for "no": nobody watches over containers to restart them
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    #[command(flatten)]
    mounts: mounts::MountArgs,
    #[command(flatten)]
    security: security::SecurityArgs,
    #[command(flatten)]
    resources: resources::ResourceArgs,
    /// Program that runs the container in place of strata itself: crun, runc, or the path of one like them
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<String>,
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
    pub(crate) fn config(&self, image: &ContainerConfig) -> Result<Config> {
        let (name, words) = self.image_and_command()?;
        self.config_for(image, name, words)
    }

    /// The same with a command that is given apart.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub(crate) fn config_for(
        &self,
        image: &ContainerConfig,
        name: &str,
        words: &[OsString],
    ) -> Result<Config> {
        let mut config = self.without_image()?;
        config.arguments = command::arguments(image, self.entrypoint.as_deref(), words);
        if config.arguments.is_empty() {
            bail!("{name} has no command of its own: say what to run, `strata run {name} COMMAND`");
        }
        let mut defaults = vec![command::DEFAULT_PATH.into()];
        if let Some(hostname) = &self.hostname {
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
        mounts::add_volumes_of_image(&mut config.mounts, image);
        Ok(config)
    }

    /// What can be said without the image; to be asked before one is fetched, so that a mistyped option costs nothing.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub(crate) fn without_image(&self) -> Result<Config> {
        let network = network(&self.network)?;
        if self.publish_all || !self.publish.is_empty() {
            return Err(options::no_published_ports(network == Network::Host).into());
        }
        if !matches!(self.restart.as_str(), "" | "no") {
            bail!(
                "--restart {}: containers are not restarted, because no daemon watches over them; a systemd unit with \
                 Restart= that runs `strata run` does it",
                self.restart
            );
        }
        if let Some(name) = &self.hostname {
            hostname(name)?;
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
        let hosts = self.add_host.iter().map(|text| options::host_name(text));
        let mut config = Config {
            hostname: self.hostname.clone().unwrap_or_default(),
            groups: self.group_add.clone(),
            interactive: self.interactive,
            terminal: self.tty,
            ephemeral: self.rm,
            init: self.init,
            stop_signal: stop_signal.context("--stop-signal")?,
            stop_timeout: self.stop_timeout,
            network,
            extra_hosts: hosts.collect::<Result<_, _>>()?,
            security: self.security.read()?,
            resources: self.resources.read()?,
            shm_size: self.resources.shm_size()?,
            runtime: self.runtime.clone(),
            ..Config::default()
        };
        self.mounts.read(&mut config)?;
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
            let text =
                std::fs::read(path).with_context(|| format!("--env-file {}", path.display()))?;
            variables.extend(command::environment_file(&text));
        }
        variables.extend(self.env.iter().cloned());
        Ok(variables)
    }

    fn labels(&self) -> Result<Vec<String>> {
        let mut labels = Vec::new();
        for path in &self.label_file {
            let text =
                std::fs::read(path).with_context(|| format!("--label-file {}", path.display()))?;
            let lines = command::environment_file(&text);
            labels.extend(lines.iter().map(|line| line.to_string_lossy().into_owned()));
        }
        labels.extend(self.label.iter().cloned());
        Ok(labels)
    }
}

fn network(name: &str) -> Result<Network> {
    match name {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        _ => bail!(
            "--network {name:?}: a container is in the host's network (host) or has none but a loopback device (none)"
        ),
    }
}

/// A name that sethostname(2) takes and that can stand in a file of hosts.
fn hostname(text: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if text.is_empty()
        || text.len() > 63
        || !text.bytes().all(allowed)
        || text.starts_with(['-', '.'])
    {
        bail!("--hostname {text:?}: it has 1 to 63 letters, digits, - . _");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
