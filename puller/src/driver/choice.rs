//! Which driver: the one that is asked for, else the best one that works.
//!
//! Asking a machine what it can do costs more than mounting, so overlayfs is simply used; only when it
//! refuses are the drivers tried out, and what was found holds until the next boot.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DriverError, Name, Stack};
use crate::userns::Privilege;

/// Below the store's root: the boot's id and the driver that was found in it.
const MEMORY: &str = "driver";

/// Finds drivers for the stacks of one store.
#[derive(Debug, Clone)]
pub struct Chooser {
    root: PathBuf,
    privilege: Privilege,
    wanted: Option<Name>,
}

/// What was found by trying.
#[derive(Debug)]
pub struct Choice {
    /// The driver that works.
    pub name: Name,
    /// The better ones, and why they do not.
    pub passed_over: Vec<DriverError>,
}

impl Choice {
    /// What a person should know: why no better one, and which it is.
    pub fn words(&self) -> Vec<String> {
        let costs = match self.name {
            Name::Vfs => ": every container and mount is a whole copy of its image",
            _ => "",
        };
        let mut words: Vec<String> = self.passed_over.iter().map(ToString::to_string).collect();
        words.push(format!("using {}{costs}", self.name));
        words
    }
}

impl Chooser {
    /// For the store at `root`, which a process of this privilege uses; `wanted` is the only driver to be used.
    pub fn new(root: &Path, privilege: Privilege, wanted: Option<Name>) -> Self {
        Self {
            root: root.to_owned(),
            privilege,
            wanted,
        }
    }

    /// The driver that was asked for.
    pub fn wanted(&self) -> Option<Name> {
        self.wanted
    }

    /// The driver to use without trying anything.
    pub fn first(&self) -> Name {
        self.wanted
            .or_else(|| self.remembered())
            .unwrap_or(Name::Overlay)
    }

    /// Tries the drivers, the best first, and remembers which one works; after the first one has refused.
    ///
    /// # Errors
    /// None works, or the one that was asked for does not: why.
    pub fn choose(&self) -> Result<Choice, DriverError> {
        let mut passed_over = Vec::new();
        for name in Name::ALL {
            if self.wanted.is_some_and(|wanted| wanted != name) {
                continue;
            }
            match name.driver(self.privilege).probe(&self.root) {
                Ok(()) => {
                    if self.wanted.is_none() {
                        self.remember(name);
                    }
                    return Ok(Choice { name, passed_over });
                }
                Err(error) => passed_over.push(error),
            }
        }
        // The reason why the best one fails is the one to mend.
        Err(passed_over.swap_remove(0))
    }

    /// Mounts a new stack; a driver that refuses makes place for the next. Tells the driver that did it, and the
    /// choice if there had to be one.
    pub fn mount(
        &self,
        stack: &Stack,
        target: &Path,
    ) -> Result<(Name, Option<Choice>), DriverError> {
        let first = self.first();
        match first.driver(self.privilege).mount(stack, target) {
            Ok(()) => Ok((first, None)),
            Err(error) if error.is_of_the_driver() => {
                let choice = self.choose()?;
                if choice.name == first {
                    return Err(error);
                }
                choice.name.driver(self.privilege).mount(stack, target)?;
                Ok((choice.name, Some(choice)))
            }
            Err(error) => Err(error),
        }
    }

    fn remembered(&self) -> Option<Name> {
        let text = fs::read_to_string(self.root.join(MEMORY)).ok()?;
        let (boot, name) = text.split_once(' ')?;
        (boot == boot_id().ok()?)
            .then(|| name.parse().ok())
            .flatten()
    }

    /// What cannot be written down is found again the next time.
    fn remember(&self, name: Name) {
        let path = self.root.join(MEMORY);
        let _ = match (name, boot_id()) {
            (Name::Overlay, _) | (_, Err(_)) => fs::remove_file(path),
            (name, Ok(boot)) => fs::write(path, format!("{boot} {name}")),
        };
    }
}

/// Another one after each start of the machine (random(4)).
pub(super) fn boot_id() -> std::io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_holds_until_the_next_boot() {
        let dir = tempfile::tempdir().expect("tempdir");
        let chooser = Chooser::new(dir.path(), Privilege::Root, None);
        assert_eq!(chooser.first(), Name::Overlay);
        chooser.remember(Name::Vfs);
        assert_eq!(chooser.first(), Name::Vfs);
        let wanted = Chooser::new(dir.path(), Privilege::Root, Some(Name::FuseOverlayfs));
        assert_eq!(wanted.first(), Name::FuseOverlayfs);
        fs::write(dir.path().join(MEMORY), "another-boot vfs").expect("write");
        assert_eq!(chooser.first(), Name::Overlay);
        chooser.remember(Name::Overlay);
        assert!(!dir.path().join(MEMORY).exists());
    }

    #[test]
    fn the_best_driver_that_works_is_chosen_and_the_wanted_one_alone_is_tried() {
        let Some(privilege) = crate::userns::current().ok().flatten() else {
            return;
        };
        let dir = tempfile::tempdir().expect("tempdir");
        let choice = Chooser::new(dir.path(), privilege, None)
            .choose()
            .expect("works");
        assert_eq!(choice.name, Name::Overlay);
        assert!(choice.passed_over.is_empty());
        let vfs = Chooser::new(dir.path(), privilege, Some(Name::Vfs));
        assert_eq!(vfs.choose().expect("works").name, Name::Vfs);
        let nowhere = Chooser::new(Path::new("/proc"), privilege, None);
        let error = nowhere.choose().expect_err("not in /proc");
        assert!(
            error
                .to_string()
                .starts_with("overlay does not work in /proc"),
            "{error}"
        );
    }
}
