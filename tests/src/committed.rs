//! Images that were made of containers, and what is looked at to judge them.

use std::path::Path;

use serde_json::Value;

use crate::command::{Ran, run};
use crate::scene::{Scene, shell_image};
use crate::strata::Strata;
use crate::tree::Tree;

/// A scene with a shell image in its store.
pub fn shell() -> (Scene, String) {
    let s = Scene::new();
    let reference = s.push(&shell_image(), "v1");
    s.strata.pull(&reference);
    (s, reference)
}

/// What `strata inspect` says of an image.
#[track_caller]
pub fn inspected(strata: &Strata, image: &str) -> Value {
    let ran = strata.run(&["inspect", image]).ok();
    let found: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.story()));
    match found {
        Value::Array(mut all) => all.remove(0),
        one => one,
    }
}

/// The diffIDs of an image, the lowest first.
#[track_caller]
pub fn layers(strata: &Strata, image: &str) -> Vec<String> {
    let found = inspected(strata, image);
    let layers = found["RootFS"]["Layers"].as_array().expect("layers");
    layers
        .iter()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect()
}

/// The names in the archive of an image's topmost layer, in their order.
#[track_caller]
pub fn names(strata: &Strata, image: &str) -> Vec<String> {
    let top = layers(strata, image).pop().expect("a layer");
    let digest = top.parse().expect("a digest");
    let mut archive = Vec::new();
    strata::layer::rebuild(&strata.layer(&digest), &mut archive).expect("rebuilt");
    let mut archive = tar::Archive::new(archive.as_slice());
    let entries = archive.entries().expect("entries");
    entries
        .map(|entry| String::from_utf8_lossy(&entry.expect("entry").path_bytes()).into_owned())
        .collect()
}

/// What a container of an image sees.
#[track_caller]
pub fn mounted(strata: &Strata, reference: &str) -> Tree {
    let top = strata.run(&["mount", "--ro", reference]).ok().out();
    let tree = Tree::read(Path::new(&top));
    strata.run(&["umount", &top]).ok();
    tree
}

/// Runs a script in a container that stays, and makes an image of it.
#[track_caller]
pub fn committed(
    strata: &Strata,
    driver: &str,
    base: &str,
    script: &str,
    more: &[&str],
    name: &str,
) -> Ran {
    let words = [
        "--driver", driver, "run", "--name", "changed", base, "sh", "-c", script,
    ];
    strata.run(&words).ok();
    let mut commit = strata.command(&[&["commit"], more, &["changed", name]].concat());
    let ran = run(commit.env("SOURCE_DATE_EPOCH", "1600000000"));
    strata.run(&["rm", "changed"]).ok();
    ran
}
