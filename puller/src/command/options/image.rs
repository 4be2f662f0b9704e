//! The image of a new container: which one, pulled when, and whether this machine can run it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use strata::store::{Image, Store};
use strata_oci::Platform;

use super::{ContainerArgs, Pull};
use crate::command::find::{meant, near_images, not_fetched};
use crate::command::pull;
use crate::printer;

impl ContainerArgs {
    /// The image, pulled first as `--pull` has it. One for another kind of machine is taken with a warning.
    ///
    /// # Errors
    /// There is none, or it cannot be pulled.
    pub(crate) fn image(&self, store: &Arc<Store>) -> Result<Image> {
        let (name, _) = self.image_and_command()?;
        let always = || {
            pull::always(
                store,
                name,
                self.platform.as_ref(),
                self.progress.or_nothing(self.quiet),
            )
        };
        let suits = |image: &Image| match &self.platform {
            Some(wanted) => wanted.suits(&image.config.platform()).is_some(),
            None => true,
        };
        let image = match self.pull {
            Pull::Missing => match pull::here(store, name)? {
                Some(image) if suits(&image) => image,
                Some(_) => always()?,
                None => always().map_err(|error| not_fetched(store, name, error))?,
            },
            Pull::Always => always()?,
            Pull::Never => match pull::here(store, name)? {
                Some(image) => image,
                None => {
                    let hint = meant(near_images(store, name)?);
                    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
                    bail!("no such image: {name}, and --pull never forbids to fetch it{hint}")
                }
            },
        };
        if let Some(wanted) = self.platform.as_ref().filter(|_| !suits(&image)) {
            bail!(
                "image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {}",
                image.config.platform()
            );
        }
        let emulators = Path::new("/proc/sys/fs/binfmt_misc");
        if let Some(warning) = foreign(&image.config.platform(), &Platform::host(), emulators) {
            printer::message(format_args!("WARNING: {name}: {warning}"));
        }
        Ok(image)
    }
}

/// What is to be said when an image's programs do not run here by themselves. `emulators` is the directory of
/// binfmt_misc (Documentation/admin-guide/binfmt-misc.rst of Linux).
fn foreign(image: &Platform, host: &Platform, emulators: &Path) -> Option<String> {
    // Another system's programs are of another format, and ask for what Linux does not have.
    if !image.os.is_empty() && image.os != host.os {
        return Some(format!(
            "the image's platform ({image}) does not match this machine ({host}): its programs do not run here"
        ));
    }
    // An image without a word about its machine, and programs that a 64-bit machine runs too.
    let known = !image.architecture.is_empty();
    let compatible = matches!(
        (host.architecture.as_str(), image.architecture.as_str()),
        ("amd64", "386") | ("arm64", "arm")
    );
    if !known || compatible || host.architecture == image.architecture {
        return None;
    }
    let machine = match image.architecture.as_str() {
        "arm64" => "aarch64",
        "amd64" => "x86_64",
        "386" => "i386",
        other => other,
    };
    if emulators.join(format!("qemu-{machine}")).exists() {
        return None;
    }
    Some(format!(
        "the image's platform ({image}) does not match this machine ({host}): its programs run only if an emulator is \
         registered with the kernel (binfmt_misc; Debian's qemu-user-static has qemu-{machine})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_for_another_machine_is_told_of_unless_an_emulator_is_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let say = |image: &str, host: &str| {
            let parse = |text: &str| text.parse().expect("a platform");
            foreign(&parse(image), &parse(host), dir.path())
        };
        assert_eq!(say("linux/amd64", "linux/amd64"), None);
        assert_eq!(say("linux/386", "linux/amd64"), None);
        let other = say("windows/amd64", "linux/amd64").expect("foreign");
        assert!(other.contains("windows/amd64"), "{other}");
        assert_eq!(say("linux/arm/v7", "linux/arm64"), None);
        let said = say("linux/arm64", "linux/amd64").expect("foreign");
        assert!(
            said.contains("linux/arm64") && said.contains("qemu-aarch64"),
            "{said}"
        );
        std::fs::write(dir.path().join("qemu-aarch64"), "").expect("write");
        assert_eq!(say("linux/arm64", "linux/amd64"), None);
    }
}
