//! What a layer must not be able to do to the puller: be other bytes than were promised. Nothing of a refused pull is
//! visible or stays. What is in a layer has `hostile_images.rs`.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::command::Ran;
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::image::{Image, Layer};
use strata_tests::scene::Scene;

/// Pulls an image that must be refused.
#[track_caller]
fn refused(s: &Scene, reference: &str) -> Ran {
    let ran = s.strata.run(&["pull", reference]).refused();
    s.assert_nothing_there();
    ran
}

fn layer() -> Layer {
    Layer::of(&[
        Entry::dir("etc/"),
        Entry::file("etc/file", "content ".repeat(30_000)),
    ])
}

#[test]
fn a_layer_altered_on_the_servers_disk_is_refused_and_works_again_when_repaired() {
    let s = Scene::new();
    let (good, bad) = (Layer::of(&[Entry::file("good", "good")]), layer());
    let image = Image::new(&[good, bad.clone()]);
    let reference = s.server.api().push(&image, "app", "v1");
    let path = s.server.blob_path(&bad.digest);
    let middle = bad.blob.len() / 2;
    for damage in ["a bit", "cut"] {
        let mut bytes = bad.blob.clone();
        match damage {
            "cut" => bytes.truncate(middle),
            _ => bytes[middle] ^= 1,
        }
        fs::write(&path, bytes).expect("damage");
        let ran = s.strata.run(&["pull", &reference]);
        assert!(
            !ran.status.success() && !ran.stderr.contains("panicked"),
            "{damage}: {}",
            ran.story()
        );
        assert!(
            ran.stderr.contains(bad.digest.short()),
            "{damage}: names the layer: {}",
            ran.stderr
        );
        s.assert_nothing_there();
    }
    fs::write(&path, &bad.blob).expect("repair");
    assert_eq!(s.strata.pull(&reference).layers.len(), 2);
    assert_eq!(s.strata.leftovers(), [""; 0]);
}

#[test]
fn a_tree_that_is_not_the_diff_id_is_refused() {
    let s = Scene::new();
    let mut lie = layer();
    lie.diff_id = Digest::of(b"another tree");
    let image = Image::new(&[lie.clone()]);
    let ran = refused(&s, &s.server.api().push(&image, "app", "v1"));
    assert!(
        ran.stderr.contains(lie.digest.short()) || ran.stderr.contains(lie.diff_id.short()),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_configuration_that_does_not_fit_the_manifest_is_refused() {
    let s = Scene::new();
    let one = layer();
    let config = |diff_ids: serde_json::Value| {
        let document = json!({ "os": "linux", "architecture": strata_tests::image::architecture(),
            "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        document.to_string().into_bytes()
    };
    let wrong = [
        config(json!([])),
        config(json!([one.diff_id, one.diff_id])),
        config(json!(["../../etc"])),
        b"not json".to_vec(),
        b"{}".to_vec(),
    ];
    for (n, bytes) in wrong.into_iter().enumerate() {
        let image = Image::of_config(std::slice::from_ref(&one), bytes);
        refused(&s, &s.server.api().push(&image, "app", &format!("v{n}")));
    }
}

#[test]
fn bytes_that_are_not_a_layer_are_refused() {
    let s = Scene::new();
    let whole = tar(&[Entry::file("file", vec![b'x'; 5000])]);
    let gz = Compression::Gzip.apply(&whole);
    let zst = Compression::Zstd.apply(&whole);
    let mut bad_header = whole.clone();
    bad_header[3] ^= 1;
    let bad_tar = |bytes: &[u8]| Compression::Gzip.apply(bytes);
    let cases: [(&str, Vec<u8>, Vec<u8>); 7] = [
        ("half a gzip", gz[..gz.len() / 2].to_vec(), whole.clone()),
        ("half a zstd", zst[..zst.len() / 2].to_vec(), whole.clone()),
        (
            "half a tar",
            bad_tar(&whole[..2000]),
            whole[..2000].to_vec(),
        ),
        ("a wrong checksum", bad_tar(&bad_header), bad_header.clone()),
        (
            "text",
            b"<html>an error page</html>".to_vec(),
            b"<html>an error page</html>".to_vec(),
        ),
        (
            "compressed text",
            bad_tar(b"just text"),
            b"just text".to_vec(),
        ),
        (
            "gzip of rubbish",
            [&gz[..10], &[0xff; 400]].concat(),
            whole.clone(),
        ),
    ];
    for (n, (what, blob, content)) in cases.into_iter().enumerate() {
        let layer = Layer {
            digest: Digest::of(&blob),
            diff_id: Digest::of(&content),
            tar_size: content.len() as u64,
            media_type: media::OCI_LAYER_GZIP,
            blob,
        };
        let reference = s
            .server
            .api()
            .push(&Image::new(&[layer]), "app", &format!("v{n}"));
        eprintln!("{what}");
        refused(&s, &reference);
    }
}

#[test]
fn a_store_of_a_newer_program_is_refused() {
    let s = Scene::new();
    let image = Image::new(&[layer()]);
    let reference = s.server.api().push(&image, "app", "v1");
    s.strata.pull(&reference);
    let database: PathBuf = s.strata.root().join("strata.db");
    let connection = rusqlite::Connection::open(&database).expect("open");
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (9999, 'from_the_future', '2030-01-01T00:00:00Z', '1')";
    connection.execute(newer, []).expect("insert");
    drop(connection);
    let ran = s.strata.run(&["images"]);
    assert!(!ran.status.success(), "{}", ran.story());
    ran.says("newer");
}
