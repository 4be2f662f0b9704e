//! What must hold for root and for an ordinary user alike: a store of each with the same image.

use serde_json::json;

use crate::command::Ran;
use crate::entry::Entry;
use crate::image::{Image, Layer};
use crate::machine::Collector;
use crate::place::Place;
use crate::scene::shell_layer;
use crate::strata::Strata;
use crate::stratad::Stratad;
use crate::user::User;

/// A store and its user.
pub struct Side {
    /// The store.
    pub strata: Strata,
    /// Whether the user is an ordinary one.
    pub rootless: bool,
    /// An image with a shell and tools, that is pulled.
    pub reference: String,
    /// The directory of it all.
    pub place: Place,
    _server: Stratad,
}

impl Side {
    /// Runs the test as root, and as user `id`.
    #[track_caller]
    pub fn each(id: u32, test: impl Fn(&Side)) {
        for rootless in [false, true] {
            let side = Self::new(id, rootless, &tools_image());
            test(&side);
        }
    }

    /// A store of root's or of user `id`'s, with an image.
    #[track_caller]
    pub fn new(id: u32, rootless: bool, image: &Image) -> Self {
        let place = Place::new();
        let server = Stratad::start(&place.join("data"));
        let strata = match rootless {
            false => Strata::new(&place),
            true => Strata::of_user(&place, &User::new(&place, id)),
        };
        let reference = server.api().push(image, "app", "v1");
        strata.pull(&reference);
        Self {
            strata,
            rootless,
            reference,
            place,
            _server: server,
        }
    }

    /// Runs a shell script in a new container that goes when it ends.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> Ran {
        let args = [
            &["run", "--rm"],
            options,
            &[&self.reference, "sh", "-c", script],
        ]
        .concat();
        self.strata.run(&args)
    }

    /// What such a script printed; it must succeed.
    #[track_caller]
    pub fn says(&self, options: &[&str], script: &str) -> String {
        self.sh(options, script).ok().out()
    }

    /// Asserts that `run` refuses with docker's exit code for its own failures, and says why.
    #[track_caller]
    pub fn refuses(&self, options: &[&str], why: &str) {
        let ran = self.sh(options, "true");
        assert_eq!(ran.code(), 125, "{}", ran.story());
        assert!(!ran.stderr.contains("panicked"), "{}", ran.story());
        let _ = ran.says(why);
    }

    /// A directory that the store's user owns.
    #[track_caller]
    pub fn shared(&self, name: &str) -> std::path::PathBuf {
        use std::os::unix::fs::{MetadataExt as _, chown};
        let owner = std::fs::metadata(self.strata.root()).expect("a store");
        let directory = self.place.dir(name);
        chown(&directory, Some(owner.uid()), Some(owner.gid())).expect("chown");
        directory
    }
}

/// An image with a shell, tools that look at the machine, and a directory that is a volume.
#[track_caller]
pub fn tools_image() -> Image {
    let mut tools = Collector::default();
    tools
        .programs(&[
            "grep", "mknod", "unshare", "mount", "dd", "tail", "sort", "mkfifo", "readlink",
        ])
        .expect("tools");
    let files = [
        Entry::dir("data/"),
        Entry::file("data/one", "one\n"),
        Entry::dir("vol/").mode(0o751),
        Entry::file("vol/seed", "seed\n").mode(0o640),
        Entry::dir("vol/deep/"),
        Entry::symlink("vol/deep/link", "../seed"),
    ];
    Image::with_config(
        &[
            shell_layer(),
            Layer::of(&tools.take().expect("files")),
            Layer::of(&files),
        ],
        json!({
            "Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/data",
            "Volumes": { "/vol": {} },
        }),
    )
}
