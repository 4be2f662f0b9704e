//! Copies to and from archives and layouts: taken up where they broke off, and into the store as if they had been pulled.

use std::time::Duration;

use rustix::process::Signal;
use strata_tests::command::Running;
use strata_tests::entry::Entry;
use strata_tests::home::{Person, copied};
use strata_tests::image::{Image, Layer};
use strata_tests::proxy::{Faults, Proxy};
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::trial::{noise, on_a_base};

#[test]
fn an_archive_that_was_killed_is_taken_up_and_comes_out_the_same() {
    let s = Person::new();
    let server = Stratad::start(&s.place.join("data"));
    let layer = |seed, size| Layer::of(&[Entry::file("file", noise(seed, size))]);
    let base = layer(1, 1_000_000);
    let image = Image::new(&[base.clone(), layer(2, 3_000_000), layer(3, 500_000)]);
    server.api().push(&Image::new(&[base]), "app", "base");
    server.api().push(&image, "app", "v1");
    let archive = |name: &str| format!("oci-archive:{}", s.place.join(name).display());
    let from = server.reference("app", "v1");
    copied(s.copy(&[&server.reference("app", "base"), &archive("base.tar")]));
    let since = s.place.join("base.tar").display().to_string();
    for (own, name) in [(vec![], "whole"), (vec!["--since", &since], "rest")] {
        let all = |from: &str, name: &str| -> Vec<String> {
            let places = [from.to_owned(), archive(name)];
            own.iter()
                .map(|flag| (*flag).to_owned())
                .chain(places)
                .collect()
        };
        let expected = all(&from, &format!("{name}-at-once.tar"));
        let run = |line: &[String]| s.copy(&line.iter().map(String::as_str).collect::<Vec<_>>());
        copied(run(&expected));
        let slow = Faults {
            rate: Some(1_500_000),
            ..Faults::default()
        };
        let wire = Proxy::start(server.address(), slow);
        let file = format!("{name}.tar");
        let line = all(&format!("{}/app:v1", wire.address()), &file);
        let mut args = vec!["copy", "-q"];
        args.extend(line.iter().map(String::as_str));
        let mut running = Running::start(&mut s.home.command(&s.strata, &args));
        while wire.received() < 2_300_000 {
            assert!(running.child.try_wait().expect("wait").is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        running.signal(Signal::KILL);
        running.wait();
        assert!(!s.place.join(&file).exists());
        // The wire notices some time later that nobody takes what it passes on.
        let mut before = 0;
        while before != wire.received() {
            before = wire.received();
            std::thread::sleep(Duration::from_millis(300));
        }
        let report = copied(run(&line));
        let missing = report["bytes_copied"].as_u64().expect("a number");
        let again = wire.received() - before;
        let size: u64 = image.layers[1..].iter().map(|l| l.blob.len() as u64).sum();
        assert!(missing + 900_000 < size, "{missing} of {size}");
        assert!(again < missing + 100_000, "{again} for {missing}");
        let read = |name: &str| std::fs::read(s.place.join(name)).expect("read");
        assert!(
            read(&file) == read(&format!("{name}-at-once.tar")),
            "{name}"
        );
        assert!(!s.place.join(format!("{file}.part")).exists());
    }
}

#[test]
fn bytes_of_an_archive_that_were_spoilt_meanwhile_are_fetched_again() {
    let s = Person::new();
    let server = Stratad::start(&s.place.join("data"));
    let image = on_a_base(1);
    server.api().push(&image, "app", "v1");
    let archive = format!("oci-archive:{}", s.place.join("a.tar").display());
    copied(s.copy(&[&server.reference("app", "v1"), &archive]));
    // As a power cut might have left it.
    let right = std::fs::read(s.place.join("a.tar")).expect("read");
    let mut spoilt = right.clone();
    let middle = spoilt.len() / 2;
    spoilt[middle..middle + 9000].fill(0);
    std::fs::write(s.place.join("a.tar.part"), spoilt).expect("write");
    std::fs::remove_file(s.place.join("a.tar")).expect("remove");
    copied(s.copy(&[&server.reference("app", "v1"), &archive]));
    assert!(std::fs::read(s.place.join("a.tar")).expect("read") == right);
}

#[test]
fn layouts_and_archives_go_into_the_store_as_if_they_had_been_pulled() {
    let s = Person::new();
    let server = Stratad::start(&s.place.join("data"));
    let image = on_a_base(1);
    server.api().push(&image, "app", "v1");
    let from = server.reference("app", "v1");
    let path = |name: &str| s.place.join(name).display().to_string();
    let places = [
        format!("oci:{}:v1", path("layout")),
        format!("oci-archive:{}:v1", path("oci.tar")),
        format!("docker-archive:{}:app:v1", path("docker.tar")),
    ];
    for (number, place) in places.iter().enumerate() {
        copied(s.copy(&[&from, place]));
        let store = Strata::at(
            s.strata.program().to_owned(),
            s.place.join(format!("store-{number}")),
        );
        let name = format!("here.example/app:v{number}");
        let to = format!("store:{name}");
        let copy = |store: &Strata| {
            let ran = s.home.run(store, &["copy", "--format", "json", place, &to]);
            copied(ran)
        };
        let report = copy(&store);
        assert_eq!(report["bytes_present"], 0, "{place}");
        assert_eq!(store.layers().len(), 2, "{place}");
        assert!(
            store.images().to_string().contains("here.example/app"),
            "{place}"
        );
        assert!(store.leftovers().is_empty(), "{:?}", store.leftovers());
        for layer in &image.layers {
            assert!(store.layer(&layer.diff_id).join("fs").is_dir(), "{place}");
        }
        // What is here is not unpacked again, wherever it comes from.
        assert_eq!(copy(&store)["bytes_copied"], 0, "{place}");
        let pulled = s
            .home
            .run(&store, &["pull", "--format", "json", &from])
            .ok();
        assert!(
            pulled.out().contains("\"bytes_fetched\": 0"),
            "{}",
            pulled.story()
        );
    }
    // An incremental one needs what it builds on.
    let base = Image::new(&image.layers[..1]);
    server.api().push(&base, "app", "base");
    let (whole, rest) = (path("base.tar"), path("rest.tar"));
    copied(s.copy(&[
        &server.reference("app", "base"),
        &format!("oci-archive:{whole}"),
    ]));
    let archive = format!("oci-archive:{rest}");
    copied(s.copy(&["--since", &whole, &from, &archive]));
    let to = "store:here.example/rest:v1";
    s.copy(&[&archive, to])
        .refused()
        .says(image.layers[0].digest.hex());
    assert!(
        s.strata.layers().is_empty(),
        "nothing is shown before all is there"
    );
    copied(s.copy(&[
        &format!("oci-archive:{whole}"),
        "store:here.example/base:v1",
    ]));
    assert_eq!(
        copied(s.copy(&[&archive, to]))["digest"],
        image.digest.to_string()
    );
}

#[test]
fn a_layout_with_wrong_bytes_does_not_get_into_the_store() {
    let s = Person::new();
    let image = on_a_base(1);
    image
        .write_layout(&s.place.join("here"), "v1")
        .expect("write");
    let digest = &image.layers[1].digest;
    let blob = s.place.join(format!("here/blobs/sha256/{}", digest.hex()));
    let mut bytes = std::fs::read(&blob).expect("read");
    // The checksum of gzip's end, which no unpacker needs.
    let last = bytes.len() - 6;
    bytes[last] ^= 1;
    std::fs::write(&blob, bytes).expect("write");
    let ran = s.copy(&[&s.layout("here"), "store:here.example/app:v1"]);
    ran.refused().says(digest.hex());
    assert!(s.strata.layers().is_empty() && s.strata.leftovers().is_empty());
    s.copy(&["store:a", "store:b"]).refused();
}
