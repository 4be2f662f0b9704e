//! Archives and layers that are compressed in other ways than a registry's usual ones are loaded, copied and pulled.

use std::fs;
use std::io::Read as _;

use strata_tests::command::run_with_input;
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::image::Image;
use strata_tests::saving::{Saving, loaded};
use strata_tests::strata::Strata;

#[test]
fn archives_come_as_streams_and_compressed_as_a_whole() {
    let t = Saving::new();
    let plain = t.s.strata.run(&["save", &t.reference]).ok().stdout;
    let forms = [
        ("plain", plain.clone()),
        ("gzip", Compression::Gzip.apply(&plain)),
        ("zstd", Compression::Zstd.apply(&plain)),
        ("xz", filtered("xz", &plain)),
        ("bzip2", filtered("bzip2", &plain)),
    ];
    for (name, bytes) in forms {
        let store = Strata::at(
            t.s.strata.program().to_owned(),
            t.s.place.join(format!("{name}-in")),
        );
        let told = loaded(run_with_input(&mut store.command(&["load"]), &bytes));
        assert_eq!(told, [format!("Loaded image: {}", t.reference)], "{name}");
        t.assert_has(&store, &t.reference);
        assert_eq!(store.leftovers(), [""; 0]);
        let (path, file) = t.path(&format!("{name}.file"));
        fs::write(&path, &bytes).expect("write");
        loaded(store.run(&["load", "--input", &file]));
        // Other commands that read archives take them, too.
        let copied = t.path(&format!("{name}.layout")).1;
        t.s.strata
            .run(&[
                "copy",
                "-q",
                &format!("docker-archive:{file}"),
                &format!("oci:{copied}:v1"),
            ])
            .ok();
    }
}

/// What a program that compresses makes of some bytes.
#[track_caller]
fn filtered(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut command = std::process::Command::new(program);
    run_with_input(command.arg("-c"), bytes).ok().stdout
}

#[test]
fn layers_of_a_docker_archive_may_be_compressed_in_any_way_that_docker_takes() {
    let t = Saving::new();
    let layers: Vec<Vec<u8>> = t
        .image
        .layers
        .iter()
        .map(|layer| {
            let mut tar = Vec::new();
            let mut gzip = flate2::read::GzDecoder::new(&layer.blob[..]);
            gzip.read_to_end(&mut tar).expect("gzip");
            tar
        })
        .collect();
    for program in ["xz", "bzip2"] {
        let names: Vec<String> = (0..layers.len())
            .map(|n| format!("{n}/layer.tar"))
            .collect();
        let manifest = serde_json::json!([{
            "Config": "config.json", "RepoTags": ["example.test/packed:1"], "Layers": names,
        }]);
        let mut entries = vec![
            Entry::file("manifest.json", manifest.to_string()),
            Entry::file("config.json", t.image.config.clone()),
        ];
        for (name, layer) in names.iter().zip(&layers) {
            entries.push(Entry::file(name.as_str(), filtered(program, layer)));
        }
        let store = Strata::at(
            t.s.strata.program().to_owned(),
            t.s.place.join(format!("{program}-layers")),
        );
        let told = loaded(run_with_input(
            &mut store.command(&["load"]),
            &tar(&entries),
        ));
        assert_eq!(told, ["Loaded image: example.test/packed:1"]);
        t.assert_has(&store, "example.test/packed:1");
        let (path, file) = t.path(&format!("{program}-layers.tar"));
        fs::write(path, tar(&entries)).expect("write");
        let to = t.s.server.reference("packed", program);
        t.s.strata
            .run(&["copy", "-q", &format!("docker-archive:{file}"), &to])
            .ok();
        t.assert_has(&t.s.fresh_store(), &{
            t.s.fresh_store().pull(&to);
            to
        });
    }
}

#[test]
fn layers_that_are_not_passed_on_and_those_that_no_media_type_names_are_loaded_and_pulled() {
    let t = Saving::new();
    let mut layers = t.image.layers.clone();
    layers[0].media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    for (layer, program) in layers.iter_mut().zip(["bzip2", "xz"]) {
        let mut tar = Vec::new();
        let mut gzip = flate2::read::GzDecoder::new(&layer.blob[..]);
        gzip.read_to_end(&mut tar).expect("gzip");
        layer.blob = filtered(program, &tar);
        layer.digest = strata_oci::Digest::of(&layer.blob);
    }
    let image = Image::of_config(&layers, t.image.config.clone());
    let (path, file) = t.path("layout");
    image
        .write_layout(&path, "example.test/own:1")
        .expect("written");
    let store = Strata::at(
        t.s.strata.program().to_owned(),
        t.s.place.join("layout-store"),
    );
    let told = loaded(store.run(&["load", "-q", "-i", &file]));
    assert_eq!(told, ["Loaded image: example.test/own:1"]);
    t.assert_has(&store, "example.test/own:1");
    let fresh = t.s.fresh_store();
    let reference = t.s.push(&image, "v2");
    fresh.pull(&reference);
    t.assert_has(&fresh, &reference);
}
