//! What takes how much room.

use std::collections::{HashMap, HashSet};

use strata_oci::digest::Digest;

use super::containers::{Container, ContainerError, Kind};
use super::prune::{BrokenDownload, disk_usage};
use super::{Image, Store};
use crate::driver::Writable;

/// An image and its room. Sizes are the sums of its layers' files, in bytes.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Layers that other images have too.
    pub shared: u64,
    /// Layers that are its own.
    pub unique: u64,
    /// How many containers and mounts stand on it.
    pub containers: usize,
}

/// What is in the store.
#[derive(Debug, Clone)]
pub struct Usage {
    /// The images, those that came last first.
    pub images: Vec<ImageUsage>,
    /// All layers, each counted once, in bytes of their files.
    pub layers: u64,
    /// Those of them that only images without containers have.
    pub unused_layers: u64,
    /// Containers and mounts, and what their own layers take on disk.
    pub containers: Vec<(Container, u64)>,
    /// Downloads that are under way or broke off.
    pub downloads: Vec<BrokenDownload>,
    /// Blobs that are kept beside their layers: how many, and their bytes on disk.
    pub kept_blobs: (usize, u64),
    /// What was removed and is not deleted yet, on disk.
    pub trash: u64,
}

impl Store {
    /// Adds up what is in the store. Containers' own files, downloads and the trash are looked at on disk; what layers take is
    /// in the index.
    pub fn usage(&self) -> Result<Usage, ContainerError> {
        let images = self.images()?;
        let containers = self.containers()?;
        let mut holders: HashMap<&Digest, usize> = HashMap::new();
        let mut sizes: HashMap<&Digest, u64> = HashMap::new();
        let mut active: HashSet<&Digest> = HashSet::new();
        let standing = |image: &Image| {
            let on = containers
                .iter()
                .filter(|c| c.manifest_digest == image.digest);
            on.count()
        };
        for image in &images {
            let in_use = standing(image) > 0;
            for layer in distinct(image) {
                *holders.entry(&layer.diff_id).or_default() += 1;
                sizes.insert(&layer.diff_id, layer.content_size);
                if in_use {
                    active.insert(&layer.diff_id);
                }
            }
        }
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let layers = sum(&mut sizes.values().copied());
        let unused = sizes
            .iter()
            .filter(|(diff_id, _)| !active.contains(*diff_id));
        let unused_layers = sum(&mut unused.map(|(_, size)| *size));
        let usage = |image: &Image| {
            let is_shared = |diff_id| holders.get(diff_id).is_some_and(|count| *count > 1);
            let (mut shared, mut unique) = (0u64, 0u64);
            for layer in distinct(image) {
                let part = match is_shared(&layer.diff_id) {
                    true => &mut shared,
                    false => &mut unique,
                };
                *part = part.saturating_add(layer.content_size);
            }
            ImageUsage {
                image: image.clone(),
                shared,
                unique,
                containers: standing(image),
            }
        };
        let images = images.iter().map(usage).collect();
        let own = |container: Container| {
            let bytes = match container.kind {
                Kind::ReadOnlyMount => 0,
                _ => disk_usage(&Writable::of(&self.container_dir(&container.id)).upper),
            };
            (container, bytes)
        };
        Ok(Usage {
            images,
            layers,
            unused_layers,
            containers: containers.into_iter().map(own).collect(),
            downloads: self.downloads()?,
            kept_blobs: self.drop_kept_blobs(true)?,
            trash: disk_usage(&self.root().join("trash")),
        })
    }
}

/// The layers of an image, each once.
fn distinct(image: &Image) -> impl Iterator<Item = &super::Layer> {
    let mut seen = HashSet::new();
    let layers = image.layers.iter();
    layers.filter(move |layer| seen.insert(&layer.diff_id))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, publish};

    #[test]
    fn shared_layers_count_once_in_all_and_in_each_image() {
        let fixture = Fixture::new();
        let store = fixture.open();
        publish(&store, &["base", "first", "first"], Some("a"));
        publish(&store, &["base", "other one"], Some("b"));
        let usage = store.usage().expect("usage");
        assert_eq!((usage.layers, usage.unused_layers), (4 + 5 + 9, 4 + 5 + 9));
        let of = |name: &str| {
            let image = usage
                .images
                .iter()
                .find(|i| i.image.references[0].contains(name));
            let image = image.expect(name);
            (image.shared, image.unique, image.containers)
        };
        assert_eq!((of("/a:"), of("/b:")), ((4, 5, 0), (4, 9, 0)));
    }
}
