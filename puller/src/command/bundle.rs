//! `strata bundle`: an image as a bundle that any OCI runtime runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use strata::bundle;
use strata::run::config::Source;

use super::options::ContainerArgs;
use crate::printer;
use crate::settings::Settings;

/// Write a runtime bundle: a root file system and a config.json for crun, runc, youki
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "strata bundle [OPTIONS] REF DIR [COMMAND [ARG...]]"
)]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerArgs,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let args = &args.container;
    let (name, words) = args.image_and_command()?;
    let Some((directory, command)) = words.split_first() else {
        bail!("say where the bundle is to be: strata bundle {name} DIR");
    };
    let directory = PathBuf::from(directory);
    args.without_image()?;
    let store = settings.open_store()?;
    let image = args.image(&store)?;
    let inherited = args.inherited(&store)?;
    let mut config = args.config_for(&image.config.config, inherited, name, command)?;
    let mut annotations = bundle::annotations(&image.config);
    annotations.extend(config.labels.clone());
    annotations.append(&mut config.annotations);
    config.annotations = annotations;
    // What nobody named lives and dies with the bundle.
    let anonymous = |source: &Source| {
        matches!(
            source,
            Source::Volume {
                anonymous: true,
                ..
            }
        )
    };
    config.mounts.retain(|mount| !anonymous(&mount.source));
    config.default_hostname(&host_name(&directory));
    let lowers = store.stack(&image).context("stacking the image's layers")?;
    store.make_volumes(&config)?;
    let volumes = store.volumes_dir();
    bundle::write(&directory, &lowers, &config, &volumes, store.privilege())?;
    printer::line(directory.display());
    Ok(ExitCode::SUCCESS)
}

/// The directory's name, as far as a host can be called that.
fn host_name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(63)
        .collect();
    match name.trim_matches('-') {
        "" => "bundle".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_called_after_its_directory() {
        assert_eq!(host_name(Path::new("/a/my app_1")), "myapp1");
        assert_eq!(host_name(Path::new("/..")), "bundle");
    }
}
