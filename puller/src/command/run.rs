//! `strata run`: run a command in a new container.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use strata::driver::{self, Chooser, Name, Stack, Writable};
use strata::run::{self, Exit, RunError, command};
use strata::store::containers::{Kind, NewContainer};
use strata::store::{Image, Store};

use crate::settings::Settings;
use crate::show::ProgressArgs;

/// Run a command in a new container
///
/// Leaves with the command's exit status: 128 and the signal's number if a signal killed it, 127 if it was not
/// found, 126 if it could not be executed, 125 if strata itself failed.
#[derive(clap::Args)]
#[command(override_usage = "strata run [OPTIONS] REF [COMMAND [ARG...]]")]
pub(crate) struct Args {
    /// Name of the container [default: made up]
    #[arg(long)]
    name: Option<String>,
    /// Remove the container when the command ends
    #[arg(long)]
    rm: bool,
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
    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User to run as: name or number, and group if wanted
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Program to run in place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,
    /// Host name of the container [default: the beginning of its id]
    #[arg(long, value_parser = hostname)]
    hostname: Option<String>,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pull: Pull,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Image, then the command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "REF [COMMAND [ARG...]]"
    )]
    image_and_command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    /// When it is not here
    Missing,
    /// Every time: fetches what has changed
    Always,
    /// Never
    Never,
}

/// A name that sethostname(2) takes and that can stand in a file of hosts.
fn hostname(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if text.is_empty()
        || text.len() > 63
        || !text.bytes().all(allowed)
        || text.starts_with(['-', '.'])
    {
        return Err("1 to 63 letters, digits, - . _".to_owned());
    }
    Ok(text.to_owned())
}

/// Any failure before the command runs is ours and not the command's: 125.
pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    match start(settings, args) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            crate::printer::failed(&error);
            let code = error.downcast_ref().map_or(125, RunError::code);
            Ok(ExitCode::from(code))
        }
    }
}

fn start(settings: &Settings, args: Args) -> Result<u8> {
    let (name, words) = split(&args.image_and_command)?;
    let given = variables(&args)?;
    let store = settings.open_store()?;
    let image = find_image(&store, name, args.pull, args.progress)?;
    let config = &image.config.config;
    let arguments = command::arguments(config, args.entrypoint.as_deref(), words);
    if arguments.is_empty() {
        bail!("{name} has no command of its own: say what to run, `strata run {name} COMMAND`");
    }
    let lowers = store.stack(&image).context("stacking the image's layers")?;
    let (record, lock) = store.create_container(&NewContainer {
        name: args.name.as_deref(),
        kind: Kind::Container,
        image: &image,
        image_name: name,
        ephemeral: args.rm,
        command: arguments
            .iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect(),
    })?;
    let hostname = args
        .hostname
        .unwrap_or_else(|| record.short_id().to_owned());
    let mut defaults = vec![
        command::DEFAULT_PATH.into(),
        format!("HOSTNAME={hostname}").into(),
    ];
    if args.tty {
        defaults.push("TERM=xterm".into());
    }
    let mut container = run::Container {
        directory: store.container_dir(&record.id),
        lowers,
        mounted: None,
        privilege: store.privilege(),
        ephemeral: args.rm,
        hostname,
        arguments,
        environment: command::environment(defaults, &config.env, &given, |k| std::env::var_os(k)),
        working_directory: args.workdir.unwrap_or_else(|| config.working_dir.clone()),
        user: args.user.unwrap_or_else(|| config.user.clone()),
        interactive: args.interactive,
        terminal: args.tty,
    };
    let started = |pid| {
        if let Err(error) = store.container_started(&record.id, pid) {
            crate::printer::failed(
                &anyhow::Error::from(error).context("recording that the container runs"),
            );
        }
    };
    let outcome = stack_and_run(&settings.chooser(&store), &mut container, started);
    let code = match &outcome {
        Ok(exit) => exit.code(),
        Err(error) => error.downcast_ref().map_or(125, RunError::code),
    };
    let recorded = match args.rm {
        true => store.remove_container(&record, lock),
        false => store.container_exited(&record.id, code),
    };
    if let Err(error) = recorded {
        crate::printer::failed(
            &anyhow::Error::from(error).context("recording that the container ended"),
        );
    }
    outcome.with_context(|| format!("container {}", record.name))?;
    Ok(code)
}

/// The image's name, and the command.
fn split(words: &[OsString]) -> Result<(&str, &[OsString])> {
    let (name, command) = words.split_first().context("no image given")?;
    let name = name
        .to_str()
        .with_context(|| format!("{name:?} is not an image name"))?;
    Ok((name, command))
}

/// Variables from files first, so that those of the command line win.
fn variables(args: &Args) -> Result<Vec<OsString>> {
    let mut variables = Vec::new();
    for path in &args.env_file {
        let text = std::fs::read(path).with_context(|| format!("--env-file {}", path.display()))?;
        variables.extend(command::environment_file(&text));
    }
    variables.extend(args.env.iter().cloned());
    Ok(variables)
}

fn find_image(store: &Arc<Store>, name: &str, pull: Pull, progress: ProgressArgs) -> Result<Image> {
    match pull {
        Pull::Missing => super::pull::ensure(store, name, progress),
        Pull::Always => super::pull::always(store, name, progress),
        Pull::Never => store.image(name)?.with_context(|| {
            format!("no such image: {name}, and --pull never forbids to fetch it")
        }),
    }
}

/// Runs a container on the driver that was asked for, or on the first that works. An overlay is mounted by the
/// container's first process, which nobody else sees; when the kernel refuses one the drivers are tried.
fn stack_and_run(
    chooser: &Chooser,
    container: &mut run::Container,
    started: impl Fn(i32),
) -> Result<Exit> {
    let name = chooser.first();
    if name != Name::Overlay {
        mount(name, container)?;
        return Ok(run::run(container, started)?);
    }
    let error = match run::run(container, &started) {
        Err(error) if is_about_layers(&error) => error,
        outcome => return Ok(outcome?),
    };
    let choice = match chooser.choose() {
        // A trial mount says more than the kernel did.
        Err(reason) => return Err(anyhow::Error::from(error).context(reason)),
        Ok(choice) => choice,
    };
    if choice.name == Name::Overlay {
        return Err(error.into());
    }
    super::mount::tell(&choice);
    mount(choice.name, container)?;
    Ok(run::run(container, started)?)
}

fn is_about_layers(error: &RunError) -> bool {
    matches!(error, RunError::Start { message, .. } if message.starts_with("mounting the layers"))
}

/// Mounts the container's layers before it starts.
fn mount(name: Name, container: &mut run::Container) -> Result<()> {
    let directory = &container.directory;
    let writable = Writable::of(directory);
    writable
        .make(&container.lowers)
        .and_then(|()| name.record(directory))
        .with_context(|| format!("cannot make directories in {}", directory.display()))?;
    let stack = Stack {
        lowers: &container.lowers,
        upper: Some(&writable.upper),
        scratch: &writable.work,
        read_only: false,
    };
    let driver = name.driver(container.privilege);
    container.mounted = Some(driver::mount_detached(&*driver, &stack, &writable.merged)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let words = ["run"].iter().chain(words);
        Line::try_parse_from(words).map(|line| line.args)
    }

    #[test]
    fn options_end_at_the_image() {
        let args = parse(&[
            "-it", "--rm", "-e", "A=1", "-eB", "debian", "-t", "--rm", "--", "x",
        ])
        .expect("parses");
        assert!(args.interactive && args.tty && args.rm);
        assert_eq!(args.env, ["A=1", "B"]);
        let (name, command) = split(&args.image_and_command).expect("splits");
        assert_eq!(
            (name, command),
            (
                "debian",
                ["-t", "--rm", "--", "x"].map(OsString::from).as_slice()
            )
        );
        let args = parse(&["debian", "--help"]).expect("the command's help, not ours");
        assert!(!args.rm && args.image_and_command.len() == 2);
        assert!(parse(&["-it"]).is_err());
        assert!(parse(&["--pull", "never", "--workdir=/x", "-u", "1:2", "i"]).is_ok());
        assert!(parse(&["--no-such", "i"]).is_err());
    }

    #[test]
    fn host_names_are_checked() {
        assert!(hostname("box-1.example").is_ok());
        for bad in ["", "a b", "-x", "a/b", &"x".repeat(64), "a\n127.0.0.1 evil"] {
            assert!(hostname(bad).is_err(), "{bad}");
        }
    }
}
