//! What a layer must not be able to do to the puller: bytes that are not what was promised, trees that
//! reach out of their directory. Nothing of a refused pull is visible or stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::json;
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::command::Ran;
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::image::{Image, Layer};
use strata_tests::scene::Scene;
use strata_tests::tree::Tree;

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

/// Trees that try to leave: refused whole, or held inside. Never a change outside.
#[test]
fn trees_do_not_reach_out_of_their_directory() {
    let s = Scene::new();
    let outside = s.place.dir("outside");
    fs::write(outside.join("file"), "untouched").expect("write");
    let text = outside.to_str().expect("text").to_owned();
    let absolute = |name: &str| format!("{text}/{name}");
    let up = |name: &str| {
        format!(
            "{}{}",
            "../".repeat(12),
            absolute(name).trim_start_matches('/')
        )
    };
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("dots", vec![Entry::file(up("new"), "x")]),
        ("dots over a file", vec![Entry::file(up("file"), "changed")]),
        (
            "dots in the middle",
            vec![
                Entry::dir("a/"),
                Entry::file(format!("a/{}", up("new")), "x"),
            ],
        ),
        ("absolute", vec![Entry::file(absolute("new"), "x")]),
        (
            "absolute over a file",
            vec![Entry::file(absolute("file"), "changed")],
        ),
        (
            "through an absolute link",
            vec![Entry::symlink("l", &text), Entry::file("l/new", "x")],
        ),
        (
            "through a relative link",
            vec![Entry::symlink("l", up("")), Entry::file("l/new", "x")],
        ),
        (
            "through a link to a link",
            vec![
                Entry::symlink("a", &text),
                Entry::symlink("b", "a"),
                Entry::file("b/new", "x"),
            ],
        ),
        (
            "a directory over a link",
            vec![
                Entry::symlink("l", &text),
                Entry::dir("l/").mode(0o777).owner(5, 5),
            ],
        ),
        (
            "a file over a link",
            vec![
                Entry::symlink("l", absolute("file")),
                Entry::file("l", "changed"),
            ],
        ),
        (
            "a hard link out",
            vec![
                Entry::hardlink("l", absolute("file")),
                Entry::file("l", "changed"),
            ],
        ),
        (
            "a hard link up",
            vec![
                Entry::hardlink("l", up("file")),
                Entry::file("l", "changed"),
            ],
        ),
        (
            "a hard link through a link",
            vec![Entry::symlink("d", &text), Entry::hardlink("l", "d/file")],
        ),
        ("a whiteout up", vec![Entry::file(up(".wh.file"), "")]),
        (
            "a whiteout through a link",
            vec![Entry::symlink("d", &text), Entry::file("d/.wh.file", "")],
        ),
        (
            "an opaque mark through a link",
            vec![
                Entry::symlink("d", &text),
                Entry::file("d/.wh..wh..opq", ""),
            ],
        ),
        ("a whiteout of the parent", vec![Entry::file(".wh...", "")]),
        (
            "a whiteout of itself",
            vec![Entry::dir("d/"), Entry::file("d/.wh..", "")],
        ),
        ("an empty whiteout", vec![Entry::file(".wh.", "")]),
        ("the root as a file", vec![Entry::file("./", "x")]),
        (
            "the root as a link",
            vec![Entry::symlink("./", &text), Entry::file("new", "x")],
        ),
        ("a name of dots", vec![Entry::file("..", "x")]),
        ("a long name", vec![Entry::file("n/".repeat(5000), "x")]),
        ("a long component", vec![Entry::file("n".repeat(300), "x")]),
        (
            "attributes through a link",
            vec![
                Entry::symlink("l", absolute("file"))
                    .mode(0o777)
                    .owner(7, 7)
                    .xattr("user.x", b"1")
                    .mtime(1),
            ],
        ),
        (
            "overlay's own attributes",
            vec![
                Entry::dir("d/").xattr("trusted.overlay.redirect", text.as_bytes()),
                Entry::dir("e/").xattr("user.overlay.redirect", text.as_bytes()),
            ],
        ),
        (
            "a huge file",
            vec![Entry::file("sparse", "x").record("size", b"9223372036854775807")],
        ),
    ];
    let before = Tree::read(&outside);
    for (n, (what, entries)) in cases.into_iter().enumerate() {
        let image = Image::new(&[Layer::of(&entries)]);
        let reference = s.server.api().push(&image, "app", &format!("v{n}"));
        let ran = s.strata.run(&["pull", &reference]);
        assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.story());
        let differences = before.differences(&Tree::read(&outside));
        assert!(
            differences.is_empty(),
            "{what} reached out: {differences:?}"
        );
        if ran.status.success() {
            assert_held_inside(&s, what, &image);
            s.strata.run(&["rmi", &reference]).ok();
        } else {
            let digest = image.layers[0].digest.short();
            assert!(
                ran.stderr.contains(digest),
                "{what}: names the layer: {}",
                ran.stderr
            );
        }
        s.assert_nothing_there();
    }
}

/// What was accepted is inside, has no inode of the outside, and no mark that would redirect overlayfs.
#[track_caller]
fn assert_held_inside(s: &Scene, what: &str, image: &Image) {
    let top = s.strata.layer(&image.layers[0].diff_id).join("fs");
    let outside = fs::metadata(s.place.join("outside/file"))
        .expect("there")
        .ino();
    for (path, node) in &Tree::read(&top).0 {
        let inode = fs::symlink_metadata(top.join(path)).expect("there").ino();
        assert_ne!(inode, outside, "{what}: {}", path.display());
        for name in node.xattrs.keys() {
            let name = String::from_utf8_lossy(name);
            assert!(
                !name.contains("overlay.redirect"),
                "{what}: {name} on {}",
                path.display()
            );
        }
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
