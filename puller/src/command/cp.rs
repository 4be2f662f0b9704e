//! `strata cp`: files and directories between a container and the machine.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, IsTerminal as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use strata::cp::{self, Copied, CpOptions, Place};
use strata::store::Store;
use strata::store::containers::{ContainerError, ContainerLock};

use super::containers::unknown;
use crate::printer;
use crate::settings::Settings;

/// Copy files and directories between a container and this machine
///
/// The container may run or not; its volumes are part of it. A directory is copied with all that is in it; SOURCE/. is only what is in it. Instead of a
/// path here, - is a tar archive on standard input or output.
#[derive(clap::Args)]
#[command(
    override_usage = "strata cp [OPTIONS] CONTAINER:SOURCE TARGET|-\n       strata cp [OPTIONS] SOURCE|- CONTAINER:TARGET"
)]
pub(crate) struct Args {
    /// Keep owners, and here also set-id bits and capabilities [default: root in a container, here whoever copies]
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to, if SOURCE is one
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// What is copied
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// Where to
    #[arg(value_name = "TARGET")]
    target: OsString,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    /// A path of a container.
    Container(&'a str, &'a [u8]),
    /// A path here.
    Machine(&'a [u8]),
    /// Standard input or output.
    Stream,
}

impl<'a> Side<'a> {
    /// `CONTAINER:PATH`; what begins with a dot or a slash is a path, as with docker.
    fn of(text: &'a OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        match colon {
            Some(at) if at > 0 && !bytes.starts_with(b".") && !bytes.starts_with(b"/") => {
                let name = std::str::from_utf8(&bytes[..at]);
                let name =
                    name.with_context(|| format!("{text:?}: no container has such a name"))?;
                ensure!(
                    at + 1 < bytes.len(),
                    "{name}: a path in the container is missing"
                );
                Ok(Self::Container(name, &bytes[at + 1..]))
            }
            _ => {
                ensure!(!bytes.is_empty(), "a path is missing");
                Ok(Self::Machine(bytes))
            }
        }
    }
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let sides = (Side::of(&args.source)?, Side::of(&args.target)?);
    let options = CpOptions {
        archive: args.archive,
        follow: args.follow_link,
    };
    let (name, path, into) = match &sides {
        (Side::Container(..), Side::Container(..)) => {
            bail!("copying between containers is not supported: copy to this machine first")
        }
        (Side::Container(name, path), _) => (*name, *path, false),
        (_, Side::Container(name, path)) => (*name, *path, true),
        _ => bail!("one of the two must be in a container: CONTAINER:PATH"),
    };
    let streams = matches!(sides, (_, Side::Stream)) && io::stdout().is_terminal()
        || matches!(sides, (Side::Stream, _)) && io::stdin().is_terminal();
    ensure!(!streams, "an archive is not for a terminal: redirect it");
    let store = settings.open_store()?;
    let (place, _lock) = place(settings, &store, name, into)?;
    let container = (&place, path);
    let machine = Place::machine();
    let copied = match &sides {
        (_, Side::Stream) => {
            let mut out = BufWriter::with_capacity(1 << 18, io::stdout().lock());
            cp::write_archive(container, options, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        (Side::Stream, _) => cp::read_archive(io::stdin(), container)?,
        (_, Side::Machine(path)) => cp::copy(container, (&machine, path), options)?,
        (Side::Machine(path), _) => cp::copy((&machine, path), container, options)?,
        (Side::Container(..), Side::Container(..)) => return Ok(ExitCode::SUCCESS),
    };
    tell(args, copied);
    Ok(ExitCode::SUCCESS)
}

fn tell(args: &Args, copied: Copied) {
    if copied.devices > 0 {
        printer::message(format_args!("{} devices were left out", copied.devices));
    }
    if !args.quiet {
        printer::message(format_args!(
            "Successfully copied {} to {}",
            printer::size(copied.bytes),
            args.target.display()
        ));
    }
}

/// A container's file system: as it sees it while it runs, else mounted where only this process sees it.
fn place(
    settings: &Settings,
    store: &Store,
    name: &str,
    into: bool,
) -> Result<(Place, Option<ContainerLock>)> {
    let container = match store.container(name) {
        Err(ContainerError::NoSuch(_)) => return Err(unknown(store, name)?),
        found => found?,
    };
    let (root, lock) = super::mount::open_root(settings, store, &container, !into)
        .with_context(|| format!("opening the files of container {}", container.name))?;
    Ok((Place::container(root, &container.name), lock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_and_its_path_are_told_from_paths() {
        let side = |text| Side::of(OsStr::new(text));
        for (text, expected) in [
            ("box:/etc/a:b", Side::Container("box", b"/etc/a:b")),
            ("box:relative", Side::Container("box", b"relative")),
            ("./box:/x", Side::Machine(b"./box:/x")),
            ("/box:x", Side::Machine(b"/box:x")),
            ("..", Side::Machine(b"..")),
            (":x", Side::Machine(b":x")),
            ("plain", Side::Machine(b"plain")),
            ("-", Side::Stream),
        ] {
            assert_eq!(side(text).expect(text), expected);
        }
        for bad in ["box:", ""] {
            assert!(side(bad).is_err(), "{bad}");
        }
    }
}
