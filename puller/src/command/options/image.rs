//! The image of a new container: which one, pulled when, and whether this machine can run it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use strata::store::{Image, Store};
use strata_oci::Platform;

use super::{ContainerArgs, Pull};
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
            Pull::Missing => {
                let found = pull::here(store, name)?;
                match found.filter(suits) {
                    Some(image) => image,
                    None => always()?,
                }
            }
            Pull::Always => always()?,
            Pull::Never => pull::here(store, name)?.with_context(|| {
                format!("no such image: {name}, and --pull never forbids to fetch it")
            })?,
        };
        if let Some(wanted) = self.platform.as_ref().filter(|_| !suits(&image)) {
            bail!(
                "image with reference {name} was found but does not match the specified platform: wanted {wanted}, actual: {}",
                image.config.platform()
            );
        }
        let emulators = Path::new("/proc/sys/fs/binfmt_misc");
        if let Some(warning) = foreign(&image.config.platform(), &Platform::host(), emulators) {
            printer::message(format_args!("{name}: {warning}"));
        }
        Ok(image)
    }
}

/// What is to be said when an image's programs do not run here by themselves. `emulators` is the directory of
/// binfmt_misc (Documentation/admin-guide/binfmt-misc.rst of Linux).
fn foreign(image: &Platform, host: &Platform, emulators: &Path) -> Option<String> {
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
