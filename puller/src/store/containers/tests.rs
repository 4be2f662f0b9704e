use strata_oci::config::ImageConfig;

use super::*;
use crate::store::NewImage;
use crate::userns::Privilege;

fn store() -> (tempfile::TempDir, Store, Image) {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(&dir.path().join("store"), Privilege::Root).expect("open");
    let config = serde_json::to_vec(&ImageConfig::default()).expect("json");
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config), "size": config.len(),
        },
        "layers": [],
    });
    let manifest = serde_json::to_vec(&manifest).expect("json");
    let image = NewImage {
        reference: Some("docker.io/library/empty:latest".into()),
        resolved: Digest::of(&manifest),
        manifest,
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        config,
        origin: None,
    };
    let image = store.publish(Vec::new(), image).expect("publish");
    (dir, store, image)
}

fn new<'a>(image: &'a Image, name: Option<&'a str>) -> NewContainer<'a> {
    NewContainer {
        name,
        kind: Kind::Container,
        image,
        image_name: "empty",
        ephemeral: false,
        command: vec!["sh".into(), "-c".into(), "a \"b\"".into()],
    }
}

#[test]
fn a_container_is_found_by_name_id_and_beginning() {
    let (_dir, store, image) = store();
    let (one, _lock) = store
        .create_container(&new(&image, Some("one")))
        .expect("made");
    assert_eq!(
        (one.state, one.command.len(), one.id.len()),
        (State::Created, 3, 64)
    );
    for text in ["one", &one.id, one.short_id(), &one.id[..1]] {
        assert_eq!(store.container(text).expect("found"), one, "{text}");
    }
    for text in ["two", "", "on", "%", "xyz", &format!("{}0", one.id)] {
        assert!(
            matches!(store.container(text), Err(ContainerError::NoSuch(_))),
            "{text}"
        );
    }
    let mut locks = Vec::new();
    for _ in 0..16 {
        locks.push(store.create_container(&new(&image, None)).expect("made"));
    }
    // Seventeen ids have sixteen first digits.
    let ambiguous = (0..16).map(|digit| store.container(&format!("{digit:x}")));
    assert!(
        ambiguous
            .into_iter()
            .any(|found| matches!(found, Err(ContainerError::Ambiguous(_))))
    );
}

#[test]
fn names_are_unique_and_checked() {
    let (_dir, store, image) = store();
    let (one, lock) = store
        .create_container(&new(&image, Some("one")))
        .expect("made");
    let error = store
        .create_container(&new(&image, Some("one")))
        .expect_err("taken");
    assert!(error.to_string().contains(&one.id), "{error}");
    assert!(matches!(
        store.create_container(&new(&image, Some("../one"))),
        Err(ContainerError::Name(_))
    ));
    let directories = fs::read_dir(store.root().join("containers"))
        .expect("list")
        .count();
    assert_eq!(directories, 1, "refusals leave nothing");
    store.remove_container(&one, lock).expect("removed");
    store
        .create_container(&new(&image, Some("one")))
        .expect("free again");
}

#[test]
fn what_a_crash_left_is_put_right() {
    let (_dir, store, image) = store();
    let (made, lock) = store
        .create_container(&new(&image, Some("made")))
        .expect("made");
    let own = i32::try_from(std::process::id()).expect("pid");
    store.container_started(&made.id, own).expect("started");
    assert_eq!(
        store.container("made").expect("found").state,
        State::Running
    );
    assert!(matches!(
        store.lock_container(&made),
        Err(ContainerError::Running { .. })
    ));
    drop(lock);
    // The lock is free, but the process is there.
    let running = store.container("made").expect("found");
    assert_eq!(running.state, State::Running);
    assert!(matches!(
        store.lock_container(&running),
        Err(ContainerError::Running { .. })
    ));
    // The same pid with another start time is another process.
    store
        .db()
        .execute("UPDATE containers SET pid_started = pid_started + 1", [])
        .expect("update");
    let found = store.container("made").expect("found");
    assert_eq!(
        (found.state, found.exit_code, found.pid),
        (State::Exited, Some(137), None)
    );
    let lock = store.lock_container(&found).expect("free");
    store.remove_container(&found, lock).expect("removed");
    let passing = NewContainer {
        ephemeral: true,
        ..new(&image, Some("passing"))
    };
    store.create_container(&passing).expect("made");
    assert!(
        matches!(store.container("passing"), Err(ContainerError::NoSuch(_))),
        "gone with its runner"
    );
    fs::create_dir(store.root().join("containers/half-made")).expect("mkdir");
    assert_eq!(store.containers().expect("list"), []);
    assert!(!store.root().join("containers/half-made").exists());
}

#[test]
fn an_image_that_a_container_stands_on_stays() {
    let (_dir, store, image) = store();
    let (one, lock) = store.create_container(&new(&image, None)).expect("made");
    assert!(store.remove_image("empty", true).is_err());
    store.remove_container(&one, lock).expect("removed");
    store.remove_image("empty", true).expect("nothing needs it");
}

#[test]
fn start_times_are_read_whatever_the_name() {
    let stat = "42 (a) b (c) R 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
    assert_eq!(parse_start_time(stat), Some(98765));
    assert_eq!(parse_start_time(&stat.replace(") R", ") Z")), None);
    assert_eq!(parse_start_time("42 (x"), None);
    assert!(start_time(i32::try_from(std::process::id()).expect("pid")).is_some());
}
