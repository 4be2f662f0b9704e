use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use strata_oci::media;

use super::*;
use crate::layer::LayerMeta;

pub(super) struct Fixture {
    pub(super) dir: tempfile::TempDir,
}

/// A layer of one file whose bytes stand for its digest.
pub(super) fn meta(content: &str) -> LayerMeta {
    LayerMeta {
        diff_id: Digest::of(content.as_bytes()),
        tar_size: 1024,
        content_size: content.len() as u64,
        entries: 1,
        implied: Vec::new(),
        rebuildable: true,
    }
}

pub(super) fn new_image(layers: &[&str], reference: Option<&str>) -> NewImage {
    let diff_ids: Vec<String> = layers.iter().map(|l| meta(l).diff_id.to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let layers: Vec<_> = layers
        .iter()
        .map(|l| {
            let blob = Digest::of(format!("compressed {l}").as_bytes());
            serde_json::json!({"mediaType": media::OCI_LAYER_GZIP, "digest": blob, "size": 7})
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": media::OCI_CONFIG, "digest": Digest::of(&config), "size": config.len()},
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    NewImage {
        reference: reference.map(str::to_owned),
        resolved: Digest::of(&manifest),
        manifest,
        media_type: media::OCI_MANIFEST.to_owned(),
        config,
        origin: Some(("registry.test".to_owned(), "base/app".to_owned())),
    }
}

pub(super) fn stage(store: &Store, content: &str) -> (Staging, LayerMeta) {
    let staging = store.stage().expect("stage");
    fs::create_dir(staging.path().join("fs")).expect("fs");
    fs::write(staging.path().join("fs/file"), content).expect("write");
    let meta = meta(content);
    let text = serde_json::to_vec(&meta).expect("json");
    fs::write(staging.path().join("layer.json"), text).expect("layer.json");
    (staging, meta)
}

pub(super) fn publish(store: &Store, layers: &[&str], reference: Option<&str>) -> Image {
    let staged = layers.iter().map(|content| stage(store, content));
    let image = new_image(layers, reference);
    store.publish(staged.collect(), image).expect("publish")
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        Self { dir }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(super) fn open(&self) -> Store {
        Store::open(&self.root(), Privilege::Root).expect("open")
    }

    pub(super) fn entries(&self, directory: &str) -> Vec<String> {
        let read = fs::read_dir(self.root().join(directory)).expect("read");
        let mut names: Vec<String> = read
            .map(|e| e.expect("entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }
}

#[test]
fn an_image_is_found_by_its_names_and_ids() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = publish(
        &store,
        &["base", "app"],
        Some("docker.io/library/debian:latest"),
    );
    assert_eq!(image.references, ["docker.io/library/debian:latest"]);
    assert_eq!(image.size(), 7);
    let short = image.id.short();
    let by_digest = format!("debian@{}", image.digest);
    let id = image.id.to_string();
    for text in [
        "debian",
        "debian:latest",
        short,
        &short[..4],
        &id,
        &by_digest,
        image.id.hex(),
    ] {
        let found = store.image(text).expect("no error").expect(text);
        assert_eq!(found, image, "{text}");
    }
    for text in [
        "debian:12",
        "ubuntu",
        "ffff",
        "de",
        "sha256:zz",
        "Not a name",
        "",
    ] {
        assert_eq!(store.image(text).expect("no error"), None, "{text}");
    }
    let (found, resolved) = store
        .image_by_reference("docker.io/library/debian:latest")
        .expect("no error")
        .expect("there");
    assert_eq!(
        (found.digest, resolved),
        (image.digest.clone(), image.digest.clone())
    );
    let blob = &image.manifest.layers[0].digest;
    let place = ("registry.test".to_owned(), "base/app".to_owned());
    assert_eq!(
        store.origins(blob).expect("origins"),
        std::slice::from_ref(&place)
    );
    store
        .remove_origin(blob, &place.0, &place.1)
        .expect("forget");
    assert!(store.origins(blob).expect("origins").is_empty());
    let stack = store.stack(&image).expect("stack");
    assert_eq!(fs::read(stack[0].join("file")).expect("read"), b"app");
    assert_eq!(fs::read(stack[1].join("file")).expect("read"), b"base");
    let mode = fs::metadata(fixture.root()).expect("root").mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(store);
    assert_eq!(fixture.open().images().expect("images"), [image]);
}

#[test]
fn only_missing_layers_are_brought_and_repeated_ones_stack_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    publish(&store, &["base"], Some("a"));
    let staged = vec![stage(&store, "top")];
    let image = new_image(&["base", "top", "base"], Some("b"));
    let image = store.publish(staged, image).expect("publish");
    assert_eq!(image.layers.len(), 3);
    let stack = store.stack(&image).expect("stack");
    let base = store.layer_dir(&meta("base").diff_id).join("fs");
    let top = store.layer_dir(&meta("top").diff_id).join("fs");
    assert_eq!(stack, [base, top]);
}

#[test]
fn what_does_not_fit_together_is_not_published() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut other = new_image(&["base"], None);
    other.config = b"{}".to_vec();
    let staged = vec![stage(&store, "base")];
    let error = store
        .publish(staged, other)
        .expect_err("wrong configuration");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    let error = store.publish(Vec::new(), new_image(&["base"], Some("a")));
    assert!(
        matches!(error, Err(StoreError::MissingLayers(missing)) if missing == [meta("base").diff_id])
    );
    let mut index = new_image(&["base"], None);
    index.manifest = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    index.media_type = media::OCI_INDEX.to_owned();
    assert!(store.publish(Vec::new(), index).is_err());
    assert!(store.images().expect("images").is_empty());
    assert!(fixture.entries("layers").is_empty());
    assert!(fixture.entries("staging").is_empty());
}

#[test]
fn a_moved_name_leaves_the_old_image_dangling() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let old = publish(&store, &["base", "old"], Some("app:v1"));
    let new = publish(&store, &["base", "new"], Some("app:v1"));
    assert_eq!(
        store.image("app:v1").expect("no error").expect("there"),
        new
    );
    let images = store.images().expect("images");
    assert_eq!(images.len(), 2);
    let dangling = store
        .image(old.id.short())
        .expect("no error")
        .expect("there");
    assert!(dangling.references.is_empty());
    let tagged = store.tag(&dangling, "app:v1").expect("tag");
    assert_eq!(tagged.dangling, Some(new.id));
    assert!(store.tag(&dangling, &format!("a@{}", old.digest)).is_err());
}

#[test]
fn removal_takes_names_then_the_image_then_its_own_layers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let first = publish(&store, &["base", "first"], Some("first"));
    publish(&store, &["base", "second"], Some("second"));
    store.tag(&first, "also").expect("tag");

    let removed = store.remove_image("first", false).expect("untag");
    assert_eq!(removed.untagged, ["docker.io/library/first:latest"]);
    assert!(removed.images.is_empty() && removed.layers.is_empty());

    store.tag(&first, "third").expect("tag");
    let error = store
        .remove_image(first.id.short(), false)
        .expect_err("two names");
    assert!(
        matches!(error, StoreError::Conflict { .. }) && error.is_refusal(),
        "{error}"
    );
    assert!(
        error.to_string().contains("also:latest, third:latest"),
        "{error}"
    );
    let removed = store.remove_image(first.id.short(), true).expect("forced");
    assert_eq!(removed.images, [first.id]);
    assert_eq!(removed.layers, [meta("first").diff_id]);
    assert_eq!(removed.freed, 5);
    assert!(!store.layer_dir(&meta("first").diff_id).exists());
    assert!(
        store
            .layer_dir(&meta("base").diff_id)
            .join("fs/file")
            .exists()
    );

    store.remove_image("second", false).expect("last name");
    assert!(fixture.entries("layers").is_empty());
    let error = store.remove_image("second", true).expect_err("gone");
    assert!(matches!(error, StoreError::NoSuchImage(_)));
}

#[test]
fn the_next_open_sweeps_what_a_crash_left_and_nothing_else() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = publish(&store, &["base"], Some("a"));
    let live = stage(&store, "live");
    let root = fixture.root();
    // Killed while unpacking: directory and lock file without an owner; or only the lock file.
    fs::create_dir_all(root.join("staging/dead/fs")).expect("dead");
    fs::write(root.join("staging/dead.lock"), b"").expect("dead");
    fs::write(root.join("staging/early.lock"), b"").expect("early");
    // Killed between the rename and the rows, and between the rows and the removal.
    let orphan = store.layer_dir(&meta("orphan").diff_id);
    fs::create_dir_all(orphan.join("fs")).expect("orphan");
    fs::create_dir_all(root.join("trash/old/fs/a/b")).expect("trash");
    let (old, fresh) = (meta("old").diff_id, meta("fresh").diff_id);
    for blob in [&old, &fresh] {
        fs::write(store.partial_path(blob), b"bytes").expect("partial");
    }
    let eight_days = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let file = fs::File::options()
        .write(true)
        .open(store.partial_path(&old))
        .expect("open");
    file.set_modified(eight_days).expect("age");

    fs::write(root.join("locks").join(old.hex()), b"").expect("lock file");
    let held = store.lock_layer(&fresh).expect("lock");

    let again = fixture.open();
    let mut locks = [fresh.hex(), "containers", "index", "migrate", "trash"];
    locks.sort_unstable();
    assert_eq!(fixture.entries("locks"), locks);
    drop(held);
    let name = live
        .0
        .path()
        .file_name()
        .expect("name")
        .to_str()
        .expect("text")
        .to_owned();
    assert_eq!(
        fixture.entries("staging"),
        [name.clone(), format!("{name}.lock")]
    );
    assert_eq!(fixture.entries("layers"), [meta("base").diff_id.hex()]);
    again.empty_trash(Urgency::Now).expect("empty");
    assert!(fixture.entries("trash").is_empty());
    assert_eq!(fixture.entries("partial"), [fresh.hex()]);
    assert_eq!(again.images().expect("images"), [image]);
    drop(live);
    assert!(fixture.entries("staging").is_empty());
}

#[test]
fn an_unswept_orphan_does_not_stand_in_the_way() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let orphan = store.layer_dir(&meta("base").diff_id);
    fs::create_dir_all(orphan.join("fs")).expect("orphan");
    fs::write(orphan.join("fs/file"), b"torn").expect("write");
    publish(&store, &["base"], Some("a"));
    assert_eq!(fs::read(orphan.join("fs/file")).expect("read"), b"base");
}

#[test]
fn racing_publishers_leave_one_whole_layer() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let barrier = Barrier::new(6);
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (fixture, barrier) = (&fixture, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let store = fixture.open();
                let own = format!("own {number}");
                let reference = format!("image{number}");
                publish(&store, &["base", &own], Some(&reference));
                if number % 2 == 0 {
                    store.remove_image(&reference, false).expect("remove");
                }
            });
        }
    });
    let store = fixture.open();
    let images = store.images().expect("images");
    assert_eq!(images.len(), 3);
    for image in &images {
        for directory in store.stack(image).expect("stack") {
            assert!(directory.join("file").exists(), "{}", directory.display());
        }
    }
    assert_eq!(fixture.entries("layers").len(), 4);
    assert!(fixture.entries("staging").is_empty());
    store.empty_trash(Urgency::Now).expect("empty");
    assert!(fixture.entries("trash").is_empty());
}

#[test]
fn a_newer_index_is_refused_and_left_alone() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let later =
        "INSERT INTO refinery_schema_history VALUES (9999, 'later', '2030-01-01T00:00:00Z', '1')";
    store.db().execute(later, []).expect("insert");
    drop(store);
    let error = Store::open(&fixture.root(), Privilege::Root).expect_err("newer");
    assert!(
        matches!(error, StoreError::Newer { found: 9999, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("newer strata"), "{error}");
}

#[test]
fn the_other_privilege_and_other_directories_are_refused() {
    let fixture = Fixture::new();
    drop(fixture.open());
    let error = Store::open(&fixture.root(), Privilege::UserNamespace).expect_err("root's store");
    assert!(
        matches!(error, StoreError::Privilege { .. }) && error.is_refusal(),
        "{error}"
    );
    let home = fixture.dir.path().join("home");
    fs::create_dir(&home).expect("home");
    fs::write(home.join("notes.txt"), b"mine").expect("notes");
    let error = Store::open(&home, Privilege::Root).expect_err("not a store");
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(fs::read_dir(&home).expect("read").count(), 1);
}

#[test]
fn several_manifests_of_one_image_go_by_one_id() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let gzip = publish(&store, &["base"], Some("a"));
    let mut zstd = new_image(&["base"], Some("b"));
    zstd.manifest = String::from_utf8(zstd.manifest)
        .expect("text")
        .replace("+gzip", "+zstd")
        .into_bytes();
    let zstd = store.publish(Vec::new(), zstd).expect("publish");
    assert_eq!(gzip.id, zstd.id);
    assert_ne!(gzip.digest, zstd.digest);
    let removed = store.remove_image(gzip.id.short(), true).expect("remove");
    assert_eq!((removed.images.len(), removed.untagged.len()), (1, 2));
    assert!(store.images().expect("images").is_empty());
}
