//! `strata commit`: a new image of what a container changed.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use strata::commit::{self, CommitOptions, Form, Moment};
use strata::push::{Compression, Format};
use strata::store::containers::ContainerError;
use strata::store::{Name, Target};

use super::containers::unknown;
use crate::printer;
use crate::settings::Settings;

/// Make a new image of what a container changed
///
/// The new image has the layers of the container's image, and one more on top of them. What is mounted into the container is
/// not in it. With SOURCE_DATE_EPOCH (seconds since 1970) set, the same changes give the same image.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change how containers of the image start, in a Dockerfile's words: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER,
    /// VOLUME, WORKDIR, STOPSIGNAL, HEALTHCHECK, ONBUILD
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Stop the container's processes meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pause: bool,
    #[command(flatten)]
    made: Made,
    /// Name or id of the container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Name of the new image [default: none]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

/// How an image is made here.
#[derive(clap::Args)]
pub(super) struct Made {
    /// What was done, for the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Who did it
    #[arg(short, long, value_name = "NAME")]
    author: Option<String>,
    #[command(flatten)]
    form: FormArgs,
    /// How the new layer is compressed: gzip or zstd
    #[arg(long, value_name = "FORMAT", default_value = "gzip")]
    compression: Format,
}

/// Whose form a new manifest has.
#[derive(clap::Args)]
pub(super) struct FormArgs {
    /// Form of the manifest [default: that of the image below]
    #[arg(long, value_enum)]
    format: Option<ManifestForm>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ManifestForm {
    Oci,
    Docker,
}

impl FormArgs {
    /// The form that was asked for.
    pub(super) fn form(&self) -> Option<Form> {
        self.format.map(|form| match form {
            ManifestForm::Oci => Form::Oci,
            ManifestForm::Docker => Form::Docker,
        })
    }
}

impl Made {
    /// The same for the library.
    pub(super) fn options(
        self,
        reference: Option<&str>,
        changes: Vec<String>,
    ) -> Result<CommitOptions> {
        Ok(CommitOptions {
            reference: reference.map(new_name).transpose()?,
            message: self.message,
            author: self.author,
            pause: false,
            changes,
            form: self.form.form(),
            compression: Compression::quick(self.compression),
            moment: moment()?,
        })
    }
}

/// When images are made: now, or when the variable says.
pub(super) fn moment() -> Result<Moment> {
    let epoch = std::env::var_os("SOURCE_DATE_EPOCH");
    let epoch = epoch.map(|text| text.to_string_lossy().into_owned());
    Ok(Moment::of(epoch.as_deref())?)
}

/// A name that a new image can have, in full.
pub(super) fn new_name(text: &str) -> Result<String> {
    let name = Name::parse(text)?;
    ensure!(
        matches!(name.target, Target::Tag(_)),
        "{text}: a new image needs a name with a tag, not a digest"
    );
    Ok(name.full())
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let options = CommitOptions {
        pause: args.pause,
        ..args.made.options(args.reference.as_deref(), args.change)?
    };
    let store = settings.open_store()?;
    let container = match store.container(&args.container) {
        Err(ContainerError::NoSuch(_)) => return Err(unknown(&store, &args.container)?),
        found => found?,
    };
    // While it runs, somebody else has it.
    let _lock = match store.lock_container(&container) {
        Err(ContainerError::Running { .. }) => None,
        lock => Some(lock?),
    };
    let image = commit::commit(&store, &container, &options)
        .with_context(|| format!("making an image of container {}", container.name))?;
    printer::line(&image.id);
    Ok(ExitCode::SUCCESS)
}
