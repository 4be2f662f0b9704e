//! `strata save` and `load`: what we save others read, and what others saved we read, to the byte.

use std::fs;

use serde_json::Value;
use strata_tests::clients::docker::Docker;
use strata_tests::command::{Ran, run_with_input};
use strata_tests::saving::{Saving, image, loaded};
use strata_tests::strata::Strata;
use strata_tests::trial::noise;

#[test]
fn what_is_saved_is_loaded_again_in_every_form_and_asks_no_registry_as_a_docker_archive() {
    let mut t = Saving::new();
    for form in ["oci-archive", "oci-dir"] {
        let (_, file) = t.path(form);
        t.s.strata
            .run(&["save", "-q", "--format", form, "-o", &file, &t.reference])
            .ok();
        let store = Strata::at(
            t.s.strata.program().to_owned(),
            t.s.place.join(format!("{form}-store")),
        );
        let told = loaded(store.run(&["load", "-q", "-i", &file]));
        assert_eq!(told, [format!("Loaded image: {}", t.reference)]);
        t.assert_has(&store, &t.reference);
    }
    t.s.server.stop();
    let (path, file) = t.path("docker.tar");
    t.s.strata.run(&["save", "-o", &file, &t.reference]).ok();
    let fresh = t.s.fresh_store();
    assert_eq!(
        loaded(fresh.run(&["load", "-i", &file])),
        [format!("Loaded image: {}", t.reference)]
    );
    t.assert_has(&fresh, &t.reference);
    let again = t.s.strata.run(&["image", "save", &t.reference]).ok();
    assert!(
        again.stdout == fs::read(path).expect("read"),
        "the stream differs from the file"
    );
    assert_eq!(t.s.strata.leftovers(), [""; 0]);
}

#[test]
fn podman_and_skopeo_read_what_is_saved() {
    let t = Saving::new();
    let (_, docker) = t.path("docker.tar");
    let (_, oci) = t.path("oci.tar");
    t.s.strata.run(&["save", "-o", &docker, &t.reference]).ok();
    t.s.strata
        .run(&["save", "--format", "oci-archive", "-o", &oci, &t.reference])
        .ok();
    for file in [&docker, &oci] {
        let told = t.clients.podman(&["load", "-i", file]).ok();
        assert!(told.out().contains(&t.reference), "{}", told.story());
        let id = t
            .clients
            .podman(&["image", "inspect", "--format", "{{.Id}}", &t.reference])
            .ok()
            .out();
        assert_eq!(id.trim(), t.image.id().hex());
        t.clients.podman(&["rmi", &t.reference]).ok();
    }
    let (_, layout) = t.path("by-skopeo");
    let from = format!("docker-archive:{docker}");
    t.clients
        .skopeo_copy(&from, &format!("oci:{layout}:v1"), &[])
        .ok();
    let ran = t
        .clients
        .skopeo(&["inspect", "--config", "--raw", &format!("oci:{layout}:v1")])
        .ok();
    let config: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    let diff_ids: Vec<String> = t
        .image
        .layers
        .iter()
        .map(|l| l.diff_id.to_string())
        .collect();
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(diff_ids));
}

#[test]
fn what_podman_and_skopeo_saved_is_loaded() {
    let t = Saving::new();
    t.clients.podman_transfer("pull", &t.reference).ok();
    let source = format!("docker://{}", t.reference);
    type Save<'a> = Box<dyn Fn(&str) + 'a>;
    let cases: [(&str, Save, &str); 6] = [
        (
            "podman-docker.tar",
            Box::new(|file| {
                t.clients
                    .podman(&[
                        "save",
                        "--format",
                        "docker-archive",
                        "-o",
                        file,
                        &t.reference,
                    ])
                    .ok();
            }),
            "",
        ),
        (
            "podman-oci.tar",
            Box::new(|file| {
                t.clients
                    .podman(&["save", "--format", "oci-archive", "-o", file, &t.reference])
                    .ok();
            }),
            "",
        ),
        (
            "podman-oci-dir",
            Box::new(|file| {
                t.clients
                    .podman(&["save", "--format", "oci-dir", "-o", file, &t.reference])
                    .ok();
            }),
            "ID",
        ),
        (
            "skopeo-docker.tar",
            Box::new(|file| {
                let to = format!("docker-archive:{file}:{}", t.reference);
                t.clients.skopeo_copy(&source, &to, &[]).ok();
            }),
            "",
        ),
        (
            "skopeo-oci.tar",
            Box::new(|file| {
                let to = format!("oci-archive:{file}:{}", t.reference);
                t.clients.skopeo_copy(&source, &to, &[]).ok();
            }),
            "",
        ),
        (
            "skopeo-oci-dir",
            Box::new(|file| {
                t.clients
                    .skopeo_copy(&source, &format!("oci:{file}:v1"), &[])
                    .ok();
            }),
            "ID",
        ),
    ];
    for (name, save, nameless) in cases {
        let (_, file) = t.path(name);
        save(&file);
        let store = Strata::at(
            t.s.strata.program().to_owned(),
            t.s.place.join(format!("{name}-store")),
        );
        let told = loaded(store.run(&["load", "-i", &file]));
        let id = t.image.id();
        // skopeo and podman write a bare tag into layouts: that is a name of nothing.
        let by_name = format!("Loaded image: {}", t.reference);
        let by_id = format!("Loaded image ID: {id}");
        assert!(
            told == [by_name] || (nameless == "ID" && told == [by_id]),
            "{name}: {told:?}"
        );
        t.assert_has(&store, &id.to_string());
    }
}

#[test]
fn what_docker_and_buildah_saved_is_loaded_and_docker_loads_what_we_saved() {
    let t = Saving::new();
    let second = image(2);
    let other = t.s.push(&second, "v2");
    t.s.strata.pull(&other);
    let docker = Docker::new(&t.s.place);
    let also = "example.test/also:x";
    for reference in [&t.reference, &other] {
        docker.run(&["pull", "-q", reference]).ok();
    }
    docker.run(&["tag", &t.reference, also]).ok();
    let mut names = [&*t.reference, &*other, also].map(|name| format!("Loaded image: {name}"));
    names.sort();
    let sorted = |ran: Ran| {
        let mut told = loaded(ran);
        told.sort();
        told
    };
    let (path, file) = t.path("by-docker.tar");
    docker
        .run(&["save", "-o", &file, &t.reference, &other, also])
        .ok();
    let store = |name: &str| Strata::at(t.s.strata.program().to_owned(), t.s.place.join(name));
    let by_file = store("by-file");
    assert_eq!(sorted(by_file.run(&["load", "-q", "-i", &file])), names);
    let by_stream = store("by-stream");
    let bytes = fs::read(&path).expect("read");
    assert_eq!(
        sorted(run_with_input(&mut by_stream.command(&["load"]), &bytes)),
        names
    );
    for store in [by_file, by_stream] {
        t.assert_has(&store, also);
        t.assert_has(&store, &t.reference);
        assert_eq!(store.images().as_array().map(Vec::len), Some(2));
    }
    docker.run(&["rmi", &t.reference, &other, also]).ok();
    t.s.strata.run(&["tag", &t.reference, also]).ok();
    let (_, ours) = t.path("ours.tar");
    t.s.strata
        .run(&["save", "-o", &ours, &t.reference, &other, also])
        .ok();
    docker.run(&["load", "-q", "-i", &ours]).ok();
    assert_eq!(docker.id(also), t.image.id().to_string());
    assert_eq!(docker.id(&t.reference), t.image.id().to_string());
    assert_eq!(docker.id(&other), second.id().to_string());

    t.clients.podman_transfer("pull", &t.reference).ok();
    for (kind, name) in [
        ("docker-archive", "buildah-docker"),
        ("oci-archive", "buildah-oci"),
    ] {
        let (_, file) = t.path(&format!("{name}.tar"));
        let to = format!("{kind}:{file}:{}", t.reference);
        t.clients.buildah(&["push", &t.reference, &to]).ok();
        let store = store(name);
        let told = loaded(store.run(&["load", "-i", &file]));
        assert_eq!(told, [format!("Loaded image: {}", t.reference)], "{kind}");
        t.assert_has(&store, &t.reference);
    }
}

#[test]
fn several_images_and_names_go_into_one_archive() {
    let t = Saving::new();
    let other = t.s.push(&image(2), "v2");
    t.s.strata.pull(&other);
    t.s.strata
        .run(&["tag", &t.reference, "example.test/also:x"])
        .ok();
    let (_, file) = t.path("all.tar");
    t.s.strata
        .run(&[
            "save",
            "-m",
            "-o",
            &file,
            &t.reference,
            &other,
            "example.test/also:x",
        ])
        .ok();
    let fresh = t.s.fresh_store();
    let mut told = loaded(fresh.run(&["load", "-i", &file]));
    told.sort();
    let mut names =
        [&*t.reference, &*other, "example.test/also:x"].map(|n| format!("Loaded image: {n}"));
    names.sort();
    assert_eq!(told, names);
    assert_eq!(fresh.images().as_array().map(Vec::len), Some(2));
    assert_eq!(fresh.layers().len(), 3);
    let podman = t.clients.podman(&["load", "-i", &file]).ok();
    assert!(podman.out().contains("also:x"), "{}", podman.story());
    let by_id = t.s.strata.run(&["save", t.image.id().hex()]).ok().stdout;
    let nameless = Strata::at(t.s.strata.program().to_owned(), t.s.place.join("nameless"));
    let told = loaded(run_with_input(&mut nameless.command(&["load"]), &by_id));
    assert_eq!(told, [format!("Loaded image ID: {}", t.image.id())]);
}

#[test]
fn what_cannot_be_saved_or_loaded_is_refused_and_leaves_nothing() {
    let t = Saving::new();
    let (path, file) = t.path("refused.tar");
    let mistyped = t.reference.replace("app:", "apq:");
    let ran = t.s.strata.run(&["save", "-o", &file, &mistyped]).refused();
    assert!(
        ran.story()
            .contains(&format!("did you mean {}", t.reference)),
        "{}",
        ran.story()
    );
    t.s.strata
        .run(&["save", "-o", &file, "nothing-like-it"])
        .refused()
        .says("no such image");
    let whole = t.s.strata.run(&["save", &t.reference]).ok().stdout;
    let damaged =
        t.s.strata
            .layer(&t.image.layers[0].diff_id)
            .join("fs/etc/noise");
    fs::write(damaged, noise(8, 50_000)).expect("write");
    t.s.strata
        .run(&["save", "-o", &file, &t.reference])
        .refused()
        .says("digest");
    assert!(!path.exists());
    let part = path.with_file_name("refused.tar.part");
    assert!(!part.exists(), "what nobody takes up");
    let fresh = t.s.fresh_store();
    let mut altered = whole.clone();
    let middle = whole.len() / 2;
    altered[middle] ^= 1;
    for (bytes, word) in [
        (
            &b"no archive at all, but some text that is longer than a header"[..],
            "no archive of images",
        ),
        (&whole[..whole.len() / 2], ""),
        (&altered, "digest"),
        (b"", "empty"),
        (b"BZh91AY&SY that is none", ""),
        (b"\xfd7zXZ\0 that is none", ""),
        (b"\x04\x22\x4d\x18 lz4", "lz4"),
    ] {
        let ran = run_with_input(&mut fresh.command(&["load"]), bytes).refused();
        assert!(ran.story().contains(word), "{word}: {}", ran.story());
        assert!(fresh.layers().is_empty() && fresh.leftovers().is_empty());
    }
    fresh
        .run(&["load", "-i", "/nonexistent/file"])
        .refused()
        .says("/nonexistent/file");
}
