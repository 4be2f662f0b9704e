//! An image to be saved in some form and loaded again somewhere else.

use std::path::PathBuf;

use serde_json::Value;

use crate::clients::Clients;
use crate::command::Ran;
use crate::entry::{Compression, Entry, tar};
use crate::image::{Image, Layer};
use crate::scene::Scene;
use crate::strata::Strata;
use crate::tree::Tree;
use crate::trial::noise;

/// Two layers, compressed by others than us: a pull keeps what is needed to write their archives again.
pub fn image(number: u64) -> Image {
    let base = [
        Entry::dir("etc/"),
        Entry::file("etc/config", "one=1\n").mode(0o600),
        Entry::file("etc/noise", noise(7, 50_000)),
        Entry::hardlink("etc/same", "etc/config"),
        Entry::file("etc/old", "old"),
    ];
    let own = [
        Entry::whiteout("etc/", "old"),
        Entry::file("srv/data", noise(number, 10_000)).xattr("user.note", b"kept"),
    ];
    let layer = |entries: &[Entry]| Layer::new(&tar(entries), Compression::Gzip);
    Image::new(&[layer(&base), layer(&own)])
}

/// A store that has one image.
pub struct Saving {
    /// The registry and the store.
    pub s: Scene,
    /// Others' programs.
    pub clients: Clients,
    /// The image.
    pub image: Image,
    /// Its name.
    pub reference: String,
}

impl Default for Saving {
    fn default() -> Self {
        Self::new()
    }
}

impl Saving {
    /// The image is pulled.
    #[track_caller]
    pub fn new() -> Self {
        let s = Scene::new();
        let image = image(1);
        let reference = s.push(&image, "v1");
        s.strata.pull(&reference);
        let clients = Clients::new(&s.place);
        Self {
            s,
            clients,
            image,
            reference,
        }
    }

    /// A path in the test's own directory, and its text.
    pub fn path(&self, name: &str) -> (PathBuf, String) {
        let path = self.s.place.join(name);
        let text = path.display().to_string();
        (path, text)
    }

    /// Asserts that a store has the image, with the same layers.
    #[track_caller]
    pub fn assert_has(&self, store: &Strata, name: &str) {
        let ran = store.run(&["inspect", name]).ok();
        let value: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        assert_eq!(
            value[0]["Id"],
            self.image.id().to_string(),
            "{}",
            ran.story()
        );
        for layer in &self.image.layers {
            let left = Tree::read(&store.layer(&layer.diff_id).join("fs"));
            let right = Tree::read(&self.s.strata.layer(&layer.diff_id).join("fs"));
            left.without_whiteout_times()
                .assert_same(&right.without_whiteout_times());
        }
        store.run(&["system", "check"]).ok();
    }
}

/// What `load` says it has loaded, a line each.
#[track_caller]
pub fn loaded(ran: Ran) -> Vec<String> {
    let out = ran.ok().out();
    out.lines().map(str::to_owned).collect()
}
