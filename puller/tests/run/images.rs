use std::process::Stdio;

use serde_json::{Value, json};

use super::support::{Machine, Tar, base_layer};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("json")
}

#[test]
fn images_are_listed_in_every_form() {
    for machine in Machine::both() {
        let own = Tar::new().file("app", 0o644, vec![b'x'; 1_230_000]).done();
        machine.image("app", &[base_layer(), own], json!({}));
        machine
            .strata(&["tag", "app", "localhost:5000/team/app:v1"])
            .ok();

        let table = machine.strata(&["images"]).ok();
        let mut lines = table.lines();
        assert_eq!(
            lines
                .next()
                .expect("heading")
                .split_whitespace()
                .collect::<Vec<_>>(),
            ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
        );
        assert_eq!(lines.count(), 3, "{table}");
        assert!(table.contains("localhost:5000/team/app   v1"), "{table}");

        let listed = parse(&machine.strata(&["images", "--format", "json", "app"]).ok());
        assert_eq!(listed.as_array().expect("list").len(), 1);
        assert_eq!(listed[0]["names"], json!(["app:latest"]));
        assert_eq!(listed[0]["layers"], 2);
        let ids = machine.strata(&["images", "-q", "--no-trunc"]).ok();
        assert_eq!(ids.lines().count(), 2, "two names of one image are one id");
        assert!(ids.contains(listed[0]["id"].as_str().expect("id")));
        let digests = machine.strata(&["images", "--digests", "team/*"]).ok();
        assert_eq!(digests.lines().count(), 1, "{digests}");
        assert!(digests.contains("DIGEST"));
        let none = machine
            .strata(&["images", "--format", "json", "nothing"])
            .ok();
        assert_eq!(none, "[]");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let machine = Machine::new(false);
    let mut child = machine
        .command(&["images"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start");
    drop(child.stdout.take());
    assert!(child.wait().expect("wait").success());
}

#[test]
fn inspect_shows_images_and_containers_in_dockers_words() {
    for machine in Machine::both() {
        machine
            .strata(&["run", "--name", "once", "base", "true"])
            .ok();
        let found = parse(&machine.strata(&["inspect", "once", "base"]).ok());
        let (container, image) = (&found[0], &found[1]);
        assert_eq!(container["Name"], "once");
        assert_eq!(container["State"]["ExitCode"], 0);
        assert_eq!(container["Image"], image["Id"]);
        assert_eq!(image["RepoTags"], json!(["base:latest"]));
        assert_eq!(image["Config"]["Env"], json!(["FROM_IMAGE=yes"]));
        assert_eq!(image["RootFS"]["Layers"][0], image["Layers"][0]["DiffID"]);
        let directory = image["Layers"][0]["Directory"].as_str().expect("text");
        let root = machine.root().display().to_string();
        assert!(directory.starts_with(&root), "{directory}");
        let id = image["Id"].as_str().expect("id");
        let by_id = parse(
            &machine
                .strata(&["inspect", &id["sha256:".len()..][..6]])
                .ok(),
        );
        assert_eq!(&by_id[0], image);

        let half = machine.strata(&["inspect", "base", "absent"]);
        assert_eq!(half.code, 1);
        assert_eq!(parse(&half.out).as_array().expect("list").len(), 1);
        assert!(half.err.contains("absent"), "{}", half.err);
        let typed = machine.strata(&["inspect", "--type", "image", "once"]);
        typed.fails(1, "no such image");
        machine.strata(&["rm", "once"]).ok();
    }
}

#[test]
fn an_image_goes_with_its_last_name_unless_a_container_stands_on_it() {
    for machine in Machine::both() {
        machine.strata(&["tag", "base", "other:1"]).ok();
        let id = machine.strata(&["images", "-q"]).ok();
        machine.strata(&["rmi", &id]).fails(1, "several names");
        let untagged = machine.strata(&["rmi", "base"]);
        assert_eq!(untagged.ok(), "Untagged: base:latest");
        machine
            .strata(&["run", "--name", "once", "other:1", "true"])
            .ok();
        machine
            .strata(&["rmi", "other:1"])
            .fails(1, "container once");
        machine
            .strata(&["rmi", "-f", "other:1"])
            .fails(1, "container once");
        machine
            .strata(&["rmi", "-f", &id])
            .fails(1, "container once");
        machine.strata(&["rm", "once"]).ok();
        let removed = machine.strata(&["rmi", "other:1"]);
        assert!(removed.err.contains("freed (1 layer)"), "{}", removed.err);
        let out = removed.ok();
        assert!(
            out.starts_with("Untagged: other:1\nDeleted: sha256:"),
            "{out}"
        );
        machine
            .strata(&["rmi", "other:1"])
            .fails(1, "no such image");
        machine.strata(&["rmi", "-f", "other:1"]).ok();
        let left = std::fs::read_dir(machine.root().join("layers"));
        assert_eq!(left.expect("layers").count(), 0);
        assert_eq!(machine.strata(&["images", "-q"]).ok(), "");
        machine
            .strata(&["tag", "other:1", "more"])
            .fails(1, "no such image");
    }
}
