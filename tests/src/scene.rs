//! What most tests begin with: a registry, a store, and an image that containers can be run from.

use serde_json::json;

use crate::command::Ran;
use crate::entry::Entry;
use crate::image::{Image, Layer};
use crate::machine::{self, Collector};
use crate::place::{Place, mounts_under};
use crate::strata::Strata;
use crate::stratad::Stratad;
use crate::tree::Tree;
use crate::user::need_root;

/// A registry and a store in one temporary directory.
pub struct Scene {
    /// The store and the program that uses it.
    pub strata: Strata,
    /// The registry.
    pub server: Stratad,
    /// The directory of both.
    pub place: Place,
}

impl Scene {
    /// Starts a registry; the store is empty.
    #[track_caller]
    pub fn new() -> Self {
        let place = Place::new();
        let server = Stratad::start(&place.join("data"));
        let strata = Strata::new(&place);
        Self {
            strata,
            server,
            place,
        }
    }

    /// Another, empty store.
    pub fn fresh_store(&self) -> Strata {
        Strata::at(self.strata.program().to_owned(), self.place.join("fresh"))
    }

    /// Pushes an image to the registry by hand; its reference.
    #[track_caller]
    pub fn push(&self, image: &Image, tag: &str) -> String {
        self.server.api().push(image, "app", tag)
    }

    /// Asserts that the store shows nothing and holds nothing that was begun; kept bytes of a broken
    /// download aside.
    #[track_caller]
    pub fn assert_nothing_there(&self) {
        assert_eq!(self.strata.layers(), [""; 0]);
        assert_eq!(self.strata.images(), json!([]));
        let left = self.strata.leftovers();
        let staged: Vec<_> = left
            .iter()
            .filter(|name| name.starts_with("staging/"))
            .collect();
        assert!(staged.is_empty(), "{staged:?}");
    }

    /// Runs a shell script in a new container that goes when it ends.
    #[track_caller]
    pub fn sh(&self, reference: &str, options: &[&str], script: &str) -> Ran {
        let args = [&["run", "--rm"], options, &[reference, "sh", "-c", script]].concat();
        self.strata.run(&args)
    }

    /// Asserts that no container is left, nor anything mounted.
    #[track_caller]
    pub fn assert_no_containers(&self) {
        assert_eq!(
            mounts_under(self.place.path()),
            Vec::<std::path::PathBuf>::new()
        );
        let left = std::fs::read_dir(self.strata.root().join("containers"));
        let left: Vec<_> = left
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let listed = self.strata.run(&["ps", "-a"]).ok().out();
        assert!(listed.lines().count() <= 1, "{listed}");
    }

    /// The tree of one layer of an image as it is in the store.
    #[track_caller]
    pub fn layer_tree(&self, image: &Image, layer: usize) -> Tree {
        Tree::read(&self.strata.layer(&image.layers[layer].diff_id).join("fs"))
    }

    /// The trees of an image's layers as they are in the store.
    #[track_caller]
    pub fn layer_trees(&self, image: &Image) -> Vec<Tree> {
        let layers = image.layers.iter();
        layers
            .map(|l| Tree::read(&self.strata.layer(&l.diff_id).join("fs")))
            .collect()
    }
}

impl Drop for Scene {
    /// Containers outlive the commands that started them, and would outlive the test.
    fn drop(&mut self) {
        let there = std::fs::read_dir(self.strata.root().join("containers"));
        if there.is_ok_and(|mut entries| entries.next().is_some()) {
            let ids = self.strata.run(&["ps", "-aq"]).out();
            let args: Vec<&str> = ["rm", "-f"].into_iter().chain(ids.lines()).collect();
            if args.len() > 2 {
                self.strata.run(&args);
            }
        }
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// A scene whose store has an image of a shell and some files.
pub struct Shell {
    /// Where all this is.
    pub scene: Scene,
    /// The image, see [`shell_image`].
    pub image: Image,
    /// Its name.
    pub reference: String,
}

impl Shell {
    /// For root alone.
    #[track_caller]
    pub fn new() -> Self {
        need_root();
        let scene = Scene::new();
        let image = shell_image();
        let reference = scene.push(&image, "v1");
        scene.strata.pull(&reference);
        Self {
            scene,
            image,
            reference,
        }
    }

    /// Runs strata.
    #[track_caller]
    pub fn strata(&self, args: &[&str]) -> Ran {
        self.scene.strata.run(args)
    }

    /// Runs a script in a container of the image.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> Ran {
        self.scene.sh(&self.reference, options, script)
    }

    /// Asserts that no container is left.
    #[track_caller]
    pub fn assert_tidy(&self) {
        self.scene.assert_no_containers();
    }
}

impl Default for Shell {
    fn default() -> Self {
        Self::new()
    }
}

/// A shell, coreutils and accounts.
#[track_caller]
pub fn shell_layer() -> Layer {
    let mut collector = Collector::default();
    collector.programs(&["sh"]).expect("a shell");
    collector.programs(&machine::COREUTILS).expect("coreutils");
    let mut entries = collector.take().expect("files");
    entries.extend(machine::accounts());
    Layer::of(&entries)
}

/// An image of two layers: programs and accounts, and some files in /data, where containers start.
#[track_caller]
pub fn shell_image() -> Image {
    let files = [
        Entry::dir("data/"),
        Entry::file("data/one", "one\n"),
        Entry::file("data/two", "two\n"),
        Entry::dir("data/sub/"),
        Entry::file("data/sub/three", "three\n"),
        Entry::file("data/mine", "mine\n")
            .owner(1000, 1000)
            .mode(0o600),
    ];
    let config = json!({
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FROM_IMAGE=yes"],
        "Cmd": ["/bin/sh", "-c", "echo default"],
        "WorkingDir": "/data",
    });
    Image::with_config(&[shell_layer(), Layer::of(&files)], config)
}
