//! Containers that live for a while, and those who look after them.

use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::{Value, json};

use crate::command::Ran;
use crate::image::{Image, Layer};
use crate::machine::Collector;
use crate::scene::{Scene, shell_image};
use crate::user::need_root;

/// A store with an image of a shell and some files, and what runs of it.
pub struct Living {
    /// Where all is.
    pub scene: Scene,
    /// The image.
    pub reference: String,
}

/// A number that no other test's process has in its command line.
pub fn marker(n: u32) -> String {
    format!("{}{n:02}", 1_000_000 + std::process::id())
}

impl Default for Living {
    fn default() -> Self {
        Self::new()
    }
}

impl Living {
    /// Pulls the image into a new store.
    #[track_caller]
    pub fn new() -> Self {
        need_root();
        let scene = Scene::new();
        let mut collector = Collector::default();
        collector.programs(&["stty", "tty"]).expect("programs");
        let layers = [
            shell_image().layers,
            vec![Layer::of(&collector.take().expect("files"))],
        ]
        .concat();
        let config = json!({
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "FROM_IMAGE=yes"],
            "Cmd": ["/bin/sh"],
            "WorkingDir": "/data",
        });
        let reference = scene.push(&Image::with_config(&layers, config), "v1");
        scene.strata.pull(&reference);
        Self { scene, reference }
    }

    /// Runs `strata`.
    #[track_caller]
    pub fn strata(&self, args: &[&str]) -> Ran {
        self.scene.strata.run(args)
    }

    /// Starts a container in the background; its id.
    #[track_caller]
    pub fn detached(&self, options: &[&str], script: &str) -> String {
        let args = [
            &["run", "-d"],
            options,
            &[&self.reference, "sh", "-c", script],
        ]
        .concat();
        self.strata(&args).ok().out()
    }

    /// What `inspect` says of a container.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let ran = self.strata(&["inspect", "--type", "container", name]).ok();
        let all: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
        all[0].clone()
    }

    /// Its state, in a word.
    pub fn status(&self, name: &str) -> String {
        self.inspect(name)["State"]["Status"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The monitor of a running container.
    #[track_caller]
    pub fn monitor(&self, name: &str) -> Pid {
        let pid = self.inspect(name)["State"]["Pid"].as_i64().expect("a pid");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("runs");
        let (_, rest) = stat.rsplit_once(')').expect("stat");
        let parent = rest.split_whitespace().nth(1).expect("parent");
        Pid::from_raw(parent.parse().expect("number")).expect("pid")
    }

    /// Nothing is left of any container.
    #[track_caller]
    pub fn assert_tidy(&self) {
        self.scene.assert_no_containers();
    }
}

impl Drop for Living {
    /// What a failed test left running would run for ever.
    fn drop(&mut self) {
        let ids = self.strata(&["ps", "-aq"]).out();
        for id in ids.lines() {
            let _ = self.strata(&["rm", "-f", id]);
        }
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    found(what, || condition().then_some(()));
}

/// Waits until something is there.
#[track_caller]
pub fn found<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
