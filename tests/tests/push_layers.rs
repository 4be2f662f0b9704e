//! How the layers are compressed that a push has to compress, and whether an image that was pulled keeps its
//! digest when it is pushed back.

use std::process::Command;

use serde_json::Value;
use strata_tests::clients::Clients;
use strata_tests::command::{Ran, run, tool};
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::faulty::Faulty;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::trial::noise;

/// A layer that takes several blocks of either format, partly text and partly noise.
fn entries(name: &str) -> Vec<Entry> {
    let text = (0..400_000u32).map(|n| format!("{name} {n}\n"));
    vec![
        Entry::dir("data/"),
        Entry::file("data/text", text.collect::<String>()),
        Entry::file("data/noise", noise(1, 1_500_000)),
        Entry::file("data/more", noise(2, 10).repeat(300_000)),
    ]
}

fn image(compression: Compression) -> Image {
    let layers = ["base", "own"].map(|name| Layer::new(&tar(&entries(name)), compression));
    Image::new(&layers)
}

/// The image in a docker archive, whose layers are plain tars.
fn archive(place: &Place, clients: &Clients) -> (String, Image) {
    let image = image(Compression::Plain);
    let directory = place.dir("layout");
    image.write_layout(&directory, "v1").expect("write");
    let file = place.join("image.tar");
    let from = format!("oci:{}:v1", directory.display());
    let to = format!("docker-archive:{}:app:v1", file.display());
    clients.skopeo_copy(&from, &to, &[]).ok();
    (format!("docker-archive:{}", file.display()), image)
}

fn layers(server: &Stratad, repository: &str) -> (Vec<u8>, Vec<Value>) {
    let body = server.api().manifest(repository, "v1").expect(200).body;
    let document: Value = serde_json::from_slice(&body).expect("JSON");
    let layers = document["layers"].as_array().expect("layers").clone();
    (body, layers)
}

fn written_blob(place: &Place, server: &Stratad, repository: &str, layer: &Value) -> String {
    let digest = layer["digest"].as_str().expect("text").parse();
    let blob = server.api().blob(repository, &digest.expect("a digest"));
    let path = place.join(format!("{repository}.blob"));
    std::fs::write(&path, blob.expect(200).body).expect("write");
    path.display().to_string()
}

fn run_tool(name: &str, args: &[&str]) -> Ran {
    run(Command::new(tool(name)).args(args))
}

#[test]
fn any_number_of_processors_gives_the_same_blobs_which_all_programs_read() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let clients = Clients::new(&place);
    let strata = Strata::new(&place);
    let (source, image) = archive(&place, &clients);
    for (format, media_type) in [("gzip", "tar+gzip"), ("zstd", "tar+zstd")] {
        let alone = format!("{format}-alone");
        let push = ["push", "--compression-format", format, &source];
        let one = server.reference(&alone, "v1");
        let mut command = Command::new(tool("taskset"));
        let all = strata.command(&push);
        command.args(["-c", "0"]).arg(all.get_program());
        command.args(all.get_args()).arg(&one);
        command.env("STRATA_ROOT", strata.root());
        run(&mut command).ok();
        let two = server.reference(format, "v1");
        strata.run(&[&push[..], &[&two]].concat()).ok();
        let (manifest, listed) = layers(&server, format);
        assert_eq!(manifest, layers(&server, &alone).0, "{format}");
        for layer in &listed {
            let named = layer["mediaType"].as_str().expect("text");
            assert!(named.ends_with(media_type), "{named}");
            let blob = written_blob(&place, &server, format, layer);
            run_tool(format, &["-t", "-q", "-f", &blob]).ok();
        }
        clients.podman_transfer("pull", &two).ok();
        let to = format!("dir:{}", place.join(format!("{format}.dir")).display());
        clients
            .skopeo_copy(&format!("docker://{two}"), &to, &[])
            .ok();
        let fresh = Strata::at(strata.program().to_owned(), place.join(format));
        let diff_ids: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
        let pulled = fresh.pull(&two);
        let got: Vec<String> = pulled.layers.iter().map(|l| l.diff_id.clone()).collect();
        assert_eq!(got, diff_ids);
    }
    let size = |repository| -> u64 {
        let sizes = layers(&server, repository).1;
        sizes.iter().filter_map(|l| l["size"].as_u64()).sum()
    };
    strata
        .run(&[
            "push",
            "--compression-level=1",
            &source,
            &server.reference("quick", "v1"),
        ])
        .ok();
    assert!(size("zstd") < size("gzip") && size("gzip") < size("quick"));
    let wrong = server.reference("wrong", "v1");
    let level = ["push", "--compression-level=10", &source, &wrong];
    strata.run(&level).refused().says("level 10");
    let format = strata.run(&["push", "--compression-format=xz", &source, &wrong]);
    assert_eq!(format.code(), 2, "{}", format.story());
}

/// Pulls into a store of its own, then ends the registry.
fn pulled(place: &Place, image: &Image) -> (Strata, String) {
    let mut server = Stratad::start(&place.join("first"));
    let reference = server.api().push(image, "app", "v1");
    let strata = Strata::new(place);
    strata.pull(&reference);
    server.kill();
    (strata, reference)
}

#[test]
fn layers_that_strata_compressed_or_nobody_keep_their_digests_without_any_registry() {
    let place = Place::new();
    let clients = Clients::new(&place);
    let (source, plain) = archive(&place, &clients);
    let last = Stratad::start(&place.join("last"));
    for format in ["gzip", "zstd"] {
        let mut first = Stratad::start(&place.join(format!("first-{format}")));
        let strata = Strata::at(Strata::new(&place).program().to_owned(), place.join(format));
        let reference = first.reference("app", "v1");
        strata
            .run(&["push", "--compression-format", format, &source, &reference])
            .ok();
        let manifest = first.api().manifest("app", "v1").expect(200).body;
        let fresh = format!("{format}-fresh");
        let elsewhere = Strata::at(strata.program().to_owned(), place.join(&fresh));
        elsewhere.pull(&reference);
        first.kill();
        let target = last.reference(format, "v1");
        let kept = ["push", "--preserve-digests", &reference, &target];
        let ran = elsewhere.run(&kept).ok();
        assert!(!ran.stderr.contains("new digest"), "{}", ran.stderr);
        assert_eq!(layers(&last, format).0, manifest, "{format}");
    }
    let (strata, reference) = pulled(&place, &plain);
    let target = last.reference("plain", "v1");
    strata
        .run(&["push", "--preserve-digests", &reference, &target])
        .ok();
    assert_eq!(layers(&last, "plain").0, plain.manifest);
}

#[test]
fn layers_that_cannot_be_made_again_are_named_before_anything_is_sent() {
    let place = Place::new();
    let image = image(Compression::Gzip);
    let (strata, reference) = pulled(&place, &image);
    let last = Stratad::start(&place.join("last"));
    let wire = Faulty::start(last.address(), |_, _| None);
    let target = wire.reference("app", "v1");
    let kept = ["push", "--preserve-digests", &reference, &target];
    let ran = strata.run(&kept).refused();
    for layer in &image.layers {
        let named = ran.stderr.contains(&layer.digest.to_string());
        assert!(named, "{}", ran.stderr);
    }
    let asked = wire.asked();
    assert!(
        asked
            .iter()
            .all(|a| a.method == "HEAD" || a.method == "GET"),
        "nothing is sent: {asked:?}"
    );
    let ran = strata.run(&["push", &reference, &target]).ok();
    for layer in &image.layers {
        let named = ran.stderr.contains(&layer.digest.to_string());
        assert!(named, "{}", ran.stderr);
    }
    let (manifest, _) = layers(&last, "app");
    let digest = strata_oci::Digest::of(&manifest).to_string();
    assert!(ran.stderr.contains(&digest), "{}", ran.stderr);
    assert_ne!(manifest, image.manifest);
}

#[test]
fn an_image_goes_to_two_registries_and_back_unchanged() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let mut first = Stratad::start(&place.join("first"));
    let second = Stratad::start(&place.join("second"));
    let image = image(Compression::Gzip);
    let reference = first.api().push(&image, "app", "v1");
    strata.pull(&reference);
    let away = second.reference("deep/app", "v1");
    strata
        .run(&["push", "--preserve-digests", &reference, &away])
        .ok();
    assert_eq!(layers(&second, "deep/app").0, image.manifest);
    // The first one is gone, and comes back empty: its layers come from the second.
    first.kill();
    let again = Stratad::start(&place.join("again"));
    let back = again.reference("app", "v1");
    strata
        .run(&["push", "--preserve-digests", &reference, &back])
        .ok();
    assert_eq!(layers(&again, "app").0, image.manifest);
    // And within one registry nothing travels.
    let wire = Faulty::start(again.address(), |_, _| None);
    let here = wire.reference("app", "v1");
    strata.pull(&here);
    let beside = wire.reference("beside", "v1");
    strata.run(&["push", &here, &beside]).ok();
    assert_eq!(layers(&again, "beside").0, image.manifest);
    let config = image.config.len() as u64;
    assert!(wire.tally().uploaded <= config, "{:?}", wire.tally());
}

#[test]
fn layers_are_compressed_otherwise_when_that_is_asked_for() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let strata = Strata::new(&place);
    let image = image(Compression::Gzip);
    let reference = server.api().push(&image, "app", "v1");
    strata.pull(&reference);
    let target = server.reference("zstd", "v1");
    let force = [
        "push",
        "--compression-format=zstd",
        "--force-compression",
        &reference,
        &target,
    ];
    let ran = strata.run(&force).ok();
    assert!(ran.stderr.contains("new digest"), "{}", ran.stderr);
    for layer in layers(&server, "zstd").1 {
        let named = layer["mediaType"].as_str().expect("text");
        assert!(named.ends_with("tar+zstd"), "{named}");
    }
    let fresh = Strata::at(strata.program().to_owned(), place.join("fresh"));
    let diff_ids: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
    let got = fresh.pull(&target).layers;
    assert_eq!(
        got.iter().map(|l| l.diff_id.clone()).collect::<Vec<_>>(),
        diff_ids
    );
    let layout = place.dir("layout");
    image.write_layout(&layout, "v1").expect("write");
    let finished = format!("oci:{}:v1", layout.display());
    let refused = [&force[..3], &[&finished, &target]].concat();
    strata.run(&refused).refused().says("as it is");
}

#[test]
fn blobs_that_are_kept_are_pushed_as_they_came_and_go_with_their_layers() {
    let place = Place::new();
    let image = image(Compression::Gzip);
    let mut first = Stratad::start(&place.join("first"));
    let reference = first.api().push(&image, "app", "v1");
    let strata = Strata::new(&place);
    strata.run(&["pull", "--keep-blobs", &reference]).ok();
    first.kill();
    strata.run(&["system", "check"]).ok();
    let df = || strata.run(&["system", "df"]).ok().out();
    assert!(df().contains("Kept Blobs"), "{}", df());
    let last = Stratad::start(&place.join("last"));
    let target = last.reference("app", "v1");
    // Nothing here can make these blobs again, and nobody else has them.
    strata
        .run(&["push", "--preserve-digests", &reference, &target])
        .ok();
    assert_eq!(layers(&last, "app").0, image.manifest);
    let blobs = || {
        let layers = strata.layers().into_iter();
        let files = layers.flat_map(|layer| {
            std::fs::read_dir(strata.root().join("layers").join(layer)).expect("a layer")
        });
        files
            .filter(|file| {
                let name = file.as_ref().expect("entry").file_name();
                name.to_string_lossy().starts_with("blob-")
            })
            .count()
    };
    assert_eq!(blobs(), 2);
    assert_eq!(strata.leftovers(), [""; 0], "downloads are not kept twice");
    strata.run(&["mount", "--ro", &reference]).ok();
    strata.run(&["system", "prune", "-a", "-f"]).ok();
    assert_eq!((strata.layers().len(), blobs()), (2, 0));
    strata.run(&["umount", "-a"]).ok();
    assert!(!df().contains("Kept Blobs"), "{}", df());
}
