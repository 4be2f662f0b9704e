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
        starting: false,
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
fn what_was_removed_since_it_was_found_is_not_made_again() {
    let (_dir, store, image) = store();
    let made = store.create_container(&new(&image, Some("one")));
    let (one, lock) = made.expect("made");
    store.remove_container(&one, lock).expect("removed");
    let gone = store.lock_container(&one).expect_err("gone");
    assert!(matches!(gone, ContainerError::NoSuch(_)), "{gone}");
    assert!(!store.container_dir(&one.id).exists());
}

#[test]
fn a_lock_is_tried_for_while_the_container_is_removed() {
    let (_dir, store, image) = store();
    for _ in 0..200 {
        let made = store.create_container(&new(&image, Some("one")));
        let (one, lock) = made.expect("made");
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                loop {
                    match store.lock_container(&one) {
                        Err(ContainerError::Running { .. }) => {}
                        other => break other,
                    }
                }
            });
            store.remove_container(&one, lock).expect("removed");
            let last = asking.join().expect("thread").expect_err("gone");
            assert!(matches!(last, ContainerError::NoSuch(_)), "{last}");
        });
        assert!(!store.container_dir(&one.id).exists());
    }
}

#[test]
fn a_lock_that_is_held_for_a_moment_is_waited_for() {
    let (_dir, store, image) = store();
    let made = store.create_container(&new(&image, Some("one")));
    let (one, lock) = made.expect("made");
    let impatient = store.try_lock_container(&one).expect_err("held");
    assert!(
        matches!(impatient, ContainerError::Running { .. }),
        "{impatient}"
    );
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| store.lock_container(&one));
        std::thread::sleep(Duration::from_millis(100));
        drop(lock);
        asking.join().expect("thread").expect("free");
    });
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
    let (passing, lock) = store.create_container(&passing).expect("made");
    drop(lock);
    assert_eq!(
        store.container("passing").expect("found").state,
        State::Created,
        "it waits to be started"
    );
    store
        .container_started(&passing.id, i32::MAX)
        .expect("started");
    assert!(
        matches!(store.container("passing"), Err(ContainerError::NoSuch(_))),
        "gone with its monitor"
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

#[test]
fn what_happens_to_a_container_is_told_and_forgotten_when_it_starts_again() {
    let (_dir, store, image) = store();
    let (made, lock) = store
        .create_container(&new(&image, Some("made")))
        .expect("made");
    let now = || store.container("made").expect("found");
    let own = i32::try_from(std::process::id()).expect("pid");
    assert!(
        !store.container_paused(&made.id, true).expect("recorded"),
        "it does not run"
    );
    store
        .container_failed(&made.id, 127, "not found")
        .expect("recorded");
    let failed = now();
    assert_eq!(
        (failed.status(), failed.exit_code, failed.error.as_str()),
        ("created", Some(127), "not found")
    );
    store.container_started(&made.id, own).expect("recorded");
    assert!(store.container_paused(&made.id, true).expect("recorded"));
    let paused = now();
    assert_eq!(
        (paused.status(), paused.exit_code, paused.error.as_str()),
        ("paused", None, "")
    );
    store
        .container_exited(&made.id, 137, true, "lines were lost")
        .expect("recorded");
    let ended = now();
    assert_eq!(
        (ended.status(), ended.oom_killed, ended.paused),
        ("exited", true, false)
    );
    assert_eq!(ended.error, "lines were lost");
    store.container_started(&made.id, own).expect("recorded");
    assert!(!now().oom_killed);
    drop(lock);
}

#[test]
fn a_container_takes_another_name_that_is_free_and_valid() {
    let (_dir, store, image) = store();
    let (one, _lock) = store
        .create_container(&new(&image, Some("one")))
        .expect("made");
    let (two, _lock) = store
        .create_container(&new(&image, Some("two")))
        .expect("made");
    let error = store.rename_container(&one, "two").expect_err("taken");
    assert!(error.to_string().contains(&two.id), "{error}");
    assert!(matches!(
        store.rename_container(&one, "../x"),
        Err(ContainerError::Name(_))
    ));
    store.rename_container(&one, "three").expect("renamed");
    assert_eq!(store.container("three").expect("found").id, one.id);
    assert!(store.container("one").is_err());
}

#[test]
fn what_a_killed_run_was_about_to_start_goes_if_it_was_to_go_with_its_end() {
    let (_dir, store, image) = store();
    let starting = |name, ephemeral| {
        let new = NewContainer {
            starting: true,
            ephemeral,
            ..new(&image, Some(name))
        };
        store.create_container(&new).expect("made")
    };
    let (passing, lock) = starting("passing", true);
    assert_eq!(
        store.container("passing").expect("found").state,
        State::Created,
        "somebody is about to start it"
    );
    drop(lock);
    let (again, lock) = starting("passing", true);
    assert_ne!(again.id, passing.id, "its name is free again");
    assert!(!store.container_dir(&passing.id).exists());
    drop(lock);
    assert_eq!(store.containers().expect("list"), []);
    let (_staying, lock) = starting("staying", false);
    drop(lock);
    let staying = store.container("staying").expect("found");
    assert_eq!(staying.state, State::Created);
    assert!(staying.error.contains("was to start it"), "{staying:?}");
}
