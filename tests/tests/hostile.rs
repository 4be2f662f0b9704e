//! What a registry and a layer must not be able to do to the puller: bytes that are not what was
//! promised, trees that reach out of their directory. Nothing of a refused pull is visible or stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::command::Ran;
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::fake::{Fake, reply, reply_of_length};
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::tree::Tree;

struct Setup {
    place: Place,
    server: Stratad,
    strata: Strata,
}

fn setup() -> Setup {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let strata = Strata::new(&place);
    Setup {
        place,
        server,
        strata,
    }
}

impl Setup {
    #[track_caller]
    fn assert_nothing_there(&self) {
        assert_eq!(self.strata.layers(), [""; 0]);
        assert_eq!(self.strata.images(), json!([]));
        let staged = self.strata.leftovers();
        let staged: Vec<_> = staged
            .iter()
            .filter(|name| name.starts_with("staging/"))
            .collect();
        assert!(staged.is_empty(), "{staged:?}");
    }

    /// Pulls an image that must be refused.
    #[track_caller]
    fn refused(&self, reference: &str) -> Ran {
        let ran = self.strata.run(&["pull", reference]).refused();
        self.assert_nothing_there();
        ran
    }
}

fn layer() -> Layer {
    Layer::of(&[
        Entry::dir("etc/"),
        Entry::file("etc/file", "content ".repeat(30_000)),
    ])
}

#[test]
fn a_layer_altered_on_the_servers_disk_is_refused_and_works_again_when_repaired() {
    let s = setup();
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
    let s = setup();
    let mut lie = layer();
    lie.diff_id = Digest::of(b"another tree");
    let image = Image::new(&[lie.clone()]);
    let ran = s.refused(&s.server.api().push(&image, "app", "v1"));
    assert!(
        ran.stderr.contains(lie.digest.short()) || ran.stderr.contains(lie.diff_id.short()),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_configuration_that_does_not_fit_the_manifest_is_refused() {
    let s = setup();
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
        s.refused(&s.server.api().push(&image, "app", &format!("v{n}")));
    }
}

#[test]
fn bytes_that_are_not_a_layer_are_refused() {
    let s = setup();
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
        s.refused(&reference);
    }
}

/// Trees that try to leave: refused whole, or held inside. Never a change outside.
#[test]
fn trees_do_not_reach_out_of_their_directory() {
    let s = setup();
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
            s.assert_held_inside(what, &image);
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

impl Setup {
    /// What was accepted is inside, has no inode of the outside, and no mark that would redirect overlayfs.
    #[track_caller]
    fn assert_held_inside(&self, what: &str, image: &Image) {
        let top = self.strata.layer(&image.layers[0].diff_id).join("fs");
        let outside = fs::metadata(self.place.join("outside/file"))
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
}

#[test]
fn a_registry_that_sends_other_bytes_is_refused() {
    let s = setup();
    let image = Image::new(&[layer()]);
    let long = [image.layers[0].blob.as_slice(), b"more"].concat();
    let short = image.layers[0].blob[..1000].to_vec();
    let other = vec![b'x'; image.layers[0].blob.len()];
    for (what, bytes) in [("long", long), ("short", short), ("other", other)] {
        let wanted = image.layers[0].digest.to_string();
        let fake = Fake::of_image(image.clone(), move |asked| {
            asked
                .target
                .ends_with(&wanted)
                .then(|| reply(200, &[], &bytes))
        });
        let ran = s
            .strata
            .run(&["pull", &format!("{}/app:v1", fake.address())]);
        assert!(
            !ran.status.success() && !ran.stderr.contains("panicked"),
            "{what}: {}",
            ran.story()
        );
        assert!(
            ran.stderr.contains(image.layers[0].digest.short()),
            "{what}: {}",
            ran.stderr
        );
        s.assert_nothing_there();
    }
}

#[test]
fn a_registry_that_sends_another_manifest_for_a_digest_is_refused() {
    let s = setup();
    let (asked_for, sent) = (Image::new(&[layer()]), Image::new(&[]));
    let fake = Fake::of_image(sent, |_| None);
    let reference = format!("{}/app@{}", fake.address(), asked_for.digest);
    let ran = s.strata.run(&["pull", &reference]);
    assert!(!ran.status.success(), "{}", ran.story());
    s.assert_nothing_there();
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let s = setup();
    let kind = media::OCI_MANIFEST;
    let descriptor = |size: i64| json!({ "mediaType": media::OCI_LAYER_GZIP, "digest": Digest::of(b"x"), "size": size });
    let config = json!({ "mediaType": media::OCI_CONFIG, "digest": Digest::of(b"x"), "size": 1 });
    let image = |config: &serde_json::Value, layers: serde_json::Value| {
        json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers })
            .to_string()
            .into_bytes()
    };
    let mut large = config.clone();
    large["size"] = json!(1u64 << 62);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("a page", b"<html></html>".to_vec()),
        ("negative size", image(&config, json!([descriptor(-1)]))),
        (
            "bad digest",
            image(
                &json!({ "mediaType": "x", "digest": "sha256:../../x", "size": 1 }),
                json!([]),
            ),
        ),
        ("a huge configuration", image(&large, json!([]))),
        (
            "ten thousand layers",
            image(&config, json!(vec![descriptor(1); 10_000])),
        ),
        (
            "too long",
            [image(&config, json!([])), vec![b' '; 6 << 20]].concat(),
        ),
        (
            "deep",
            [b"[".repeat(200_000), b"]".repeat(200_000)].concat(),
        ),
        (
            "schema 1",
            br#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#.to_vec(),
        ),
    ];
    for (what, bytes) in cases {
        let fake = Fake::start(move |asked| match asked.target.as_str() {
            "/v2/" => reply(200, &[], b"{}"),
            target if target.contains("/manifests/") => {
                let body: &[u8] = if asked.method == "HEAD" { b"" } else { &bytes };
                reply_of_length(200, &[("Content-Type", kind)], bytes.len(), body)
            }
            _ => reply(404, &[], b""),
        });
        let ran = s
            .strata
            .run(&["pull", &format!("{}/app:v1", fake.address())]);
        assert!(
            !ran.status.success() && !ran.stderr.contains("panicked"),
            "{what}: {}",
            ran.story()
        );
        assert!(!ran.stderr.trim().is_empty(), "{what}: no reason");
        s.assert_nothing_there();
    }
}

#[test]
fn an_index_without_this_machine_says_what_there_is() {
    let s = setup();
    let image = Image::new(&[]);
    s.server.api().push(&image, "app", "child");
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [{
        "mediaType": image.media_type(), "digest": image.digest, "size": image.manifest.len(),
        "platform": { "os": "plan9", "architecture": "mips" },
    }] });
    let bytes = index.to_string().into_bytes();
    s.server
        .api()
        .put_manifest("app", "index", media::OCI_INDEX, &bytes)
        .expect(201);
    s.refused(&s.server.reference("app", "index"))
        .says("plan9/mips");
}

#[test]
fn a_registry_that_is_ill_for_a_moment_is_asked_again() {
    let s = setup();
    let image = Image::new(&[layer()]);
    let failures = AtomicU32::new(0);
    let fake = Fake::of_image(image.clone(), move |asked| {
        let ill = asked.target.contains("/blobs/") && failures.fetch_add(1, Ordering::Relaxed) < 2;
        ill.then(|| reply(503, &[("Retry-After", "0")], b""))
    });
    let pulled = s.strata.pull(&format!("{}/app:v1", fake.address()));
    assert_eq!(pulled.fetched(), 1);
    let dead = Fake::of_image(image, |asked| {
        asked
            .target
            .contains("/blobs/")
            .then(|| reply(500, &[], b"out of order"))
    });
    let fresh = Strata::at(s.strata.program().to_owned(), s.place.join("fresh"));
    let ran = fresh.run(&["pull", &format!("{}/app:v1", dead.address())]);
    assert!(
        !ran.status.success() && ran.stderr.contains("500"),
        "{}",
        ran.story()
    );
}

#[test]
fn a_server_that_ignores_ranges_does_not_spoil_a_resumed_pull() {
    let s = setup();
    let image = Image::new(&[layer()]);
    let blob = image.layers[0].blob.clone();
    let wanted = image.layers[0].digest.to_string();
    let asked_before = AtomicU32::new(0);
    // First half of the bytes, then always all of them with 200, whatever range is asked for.
    let fake = Fake::of_image(image.clone(), move |asked| {
        let first =
            asked.target.ends_with(&wanted) && asked_before.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| reply_of_length(200, &[], blob.len(), &blob[..blob.len() / 2]))
    });
    let pulled = s.strata.pull(&format!("{}/app:v1", fake.address()));
    assert_eq!(pulled.digest, image.digest.to_string());
    let file = s.strata.layer(&image.layers[0].diff_id).join("fs/etc/file");
    assert_eq!(fs::metadata(file).expect("there").len(), 240_000);
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let s = setup();
    let image = Image::new(&[layer()]);
    let storage = Fake::of_image(image.clone(), |_| None);
    let target = format!(
        "http://{}/blobs/{}",
        storage.address(),
        image.layers[0].digest
    );
    let wanted = image.layers[0].digest.to_string();
    let fake = Fake::of_image(image, move |asked| {
        let known = asked
            .headers
            .iter()
            .any(|(name, _)| name == "authorization");
        if !known {
            return Some(reply(
                401,
                &[("WWW-Authenticate", "Basic realm=\"x\"")],
                b"",
            ));
        }
        asked
            .target
            .ends_with(&wanted)
            .then(|| reply(307, &[("Location", &target)], b""))
    });
    let home = s.place.dir("home");
    fs::create_dir_all(home.join(".docker")).expect("make");
    let auth = json!({ "auths": { fake.address().to_string(): { "auth": "dXNlcjpwYXNz" } } });
    fs::write(home.join(".docker/config.json"), auth.to_string()).expect("write");
    let mut command = s
        .strata
        .command(&["pull", &format!("{}/app:v1", fake.address())]);
    strata_tests::command::run(command.env("HOME", &home)).ok();
    assert!(!storage.asked().is_empty());
    for asked in storage.asked() {
        assert!(
            asked
                .headers
                .iter()
                .all(|(name, _)| name != "authorization"),
            "{asked:?}"
        );
    }
}

#[test]
fn nothing_listens_and_the_message_says_so() {
    let s = setup();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let ran = s.strata.run(&["pull", &format!("{address}/app:v1")]);
    assert!(!ran.status.success(), "{}", ran.story());
    ran.says(&address.to_string());
}

#[test]
fn a_store_of_a_newer_program_is_refused() {
    let s = setup();
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
