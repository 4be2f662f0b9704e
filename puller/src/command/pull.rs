//! `strata pull`: fetch an image, only the layers that are missing here.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use strata::store::{Image, Store};

use crate::settings::Settings;

/// Fetch an image, only the layers that are missing here
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}

/// The image that is here.
pub(crate) fn ensure(_settings: &Settings, store: &Arc<Store>, name: &str) -> Result<Image> {
    let image = store.image(name)?;
    image.with_context(|| format!("no such image: {name}, and pulling is not built yet"))
}
