//! Pulling with the real programs: what travels, what is reused, what a broken pull leaves.

use std::time::Duration;

use rand::RngExt;
use serde_json::json;
use strata_tests::command::Running;
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::image::{Image, Layer};
use strata_tests::proxy::{Faults, Proxy};
use strata_tests::scene::Scene;

/// A layer with one file of `size` bytes that do not compress.
fn random_layer(name: &str, size: usize) -> Layer {
    let mut bytes = vec![0u8; size];
    rand::rng().fill(bytes.as_mut_slice());
    Layer::of(&[Entry::file(name, bytes)])
}

#[test]
fn a_second_image_fetches_only_its_own_layers() {
    let s = Scene::new();
    let shared = [random_layer("base", 400_000), random_layer("lib", 300_000)];
    let own = |name: &str| random_layer(name, 20_000);
    let a = Image::new(&[shared[0].clone(), shared[1].clone(), own("a")]);
    let b = Image::new(&[shared[0].clone(), shared[1].clone(), own("b1"), own("b2")]);
    let (a_ref, b_ref) = (
        s.server.api().push(&a, "a", "v1"),
        s.server.api().push(&b, "b", "v1"),
    );

    let first = s.strata.pull(&a_ref);
    assert_eq!((first.fetched(), first.reused()), (3, 0));
    assert_eq!(
        (first.bytes_fetched, first.bytes_reused),
        (a.layer_bytes(), 0)
    );
    assert_eq!(
        (first.image.as_str(), first.digest.clone()),
        (a_ref.as_str(), a.digest.to_string())
    );
    for (told, layer) in first.layers.iter().zip(&a.layers) {
        let same = (
            layer.diff_id.to_string(),
            layer.digest.to_string(),
            layer.blob.len() as u64,
        );
        assert_eq!((told.diff_id.clone(), told.digest.clone(), told.size), same);
    }
    let wire = Proxy::start(s.server.address(), Faults::default());
    let through = b_ref.replace(&s.server.address().to_string(), &wire.address().to_string());
    let second = s.strata.pull(&through);
    assert_eq!((second.fetched(), second.reused()), (2, 2));
    let own_bytes: u64 = b.layers[2..].iter().map(|l| l.blob.len() as u64).sum();
    assert_eq!(second.bytes_fetched, own_bytes);
    assert_eq!(second.bytes_reused, b.layer_bytes() - own_bytes);
    let overhead = wire.received() - own_bytes;
    assert!(
        overhead < 20_000,
        "{overhead} bytes travelled beside the two layers"
    );
    assert_eq!(s.strata.layers().len(), 5);
}

#[test]
fn a_pull_of_what_is_there_fetches_nothing() {
    let s = Scene::new();
    let image = Image::new(&[random_layer("file", 500_000)]);
    let reference = s.server.api().push(&image, "app", "v1");
    s.strata.pull(&reference);
    let wire = Proxy::start(s.server.address(), Faults::default());
    let through = reference.replace(&s.server.address().to_string(), &wire.address().to_string());
    s.strata.pull(&through);
    let before = wire.received();
    let again = s.strata.pull(&through);
    assert_eq!((again.fetched(), again.bytes_fetched), (0, 0));
    assert_eq!(again.bytes_reused, image.layer_bytes());
    assert!(wire.received() - before < 5_000, "no blob travels");
}

#[test]
fn a_moved_tag_is_followed_and_a_digest_is_not_moved() {
    let s = Scene::new();
    let (one, two) = (
        Image::new(&[random_layer("1", 100)]),
        Image::new(&[random_layer("2", 100)]),
    );
    let reference = s.server.api().push(&one, "app", "latest");
    let short = reference.trim_end_matches(":latest");
    assert_eq!(s.strata.pull(short).digest, one.digest.to_string());
    s.server.api().push(&two, "app", "latest");
    assert_eq!(s.strata.pull(&reference).digest, two.digest.to_string());
    let pinned = format!("{short}@{}", one.digest);
    assert_eq!(s.strata.pull(&pinned).digest, one.digest.to_string());
    let missing = format!("{short}:nothing");
    s.strata.run(&["pull", &missing]).refused().says("nothing");
    s.strata.run(&["pull", "Not/A/Valid//Name"]).refused();
}

#[test]
fn each_compression_is_read() {
    let s = Scene::new();
    for (n, how) in [Compression::Plain, Compression::Gzip, Compression::Zstd]
        .into_iter()
        .enumerate()
    {
        let entries = [Entry::file(format!("file{n}"), vec![b'x'; 100_000])];
        let image = Image::new(&[Layer::new(&tar(&entries), how)]);
        let reference = s.server.api().push(&image, "app", &format!("v{n}"));
        s.strata.pull(&reference);
        let file = s
            .strata
            .layer(&image.layers[0].diff_id)
            .join(format!("fs/file{n}"));
        assert_eq!(
            std::fs::metadata(file).expect("extracted").len(),
            100_000,
            "{how:?}"
        );
    }
}

#[test]
fn a_gzip_of_several_members_is_one_layer() {
    let s = Scene::new();
    let whole = tar(&[Entry::file("file", vec![b'y'; 50_000])]);
    let (head, tail) = whole.split_at(20_000);
    let mut layer = Layer::new(&whole, Compression::Gzip);
    layer.blob = [Compression::Gzip.apply(head), Compression::Gzip.apply(tail)].concat();
    layer.digest = strata_oci::digest::Digest::of(&layer.blob);
    let image = Image::new(&[layer]);
    s.strata.pull(&s.server.api().push(&image, "app", "v1"));
    let file = s.strata.layer(&image.layers[0].diff_id).join("fs/file");
    assert_eq!(std::fs::metadata(file).expect("extracted").len(), 50_000);
}

#[test]
fn an_image_without_layers_and_one_layer_twice_are_images() {
    let s = Scene::new();
    let none = s.server.api().push(&Image::new(&[]), "none", "v1");
    assert_eq!(s.strata.pull(&none).layers.len(), 0);
    let layer = random_layer("same", 5000);
    let twice = s
        .server
        .api()
        .push(&Image::new(&[layer.clone(), layer]), "twice", "v1");
    let pulled = s.strata.pull(&twice);
    assert_eq!(pulled.layers.len(), 2);
    assert_eq!(s.strata.layers().len(), 1);
}

#[test]
fn two_pulls_at_once_do_the_work_once() {
    let s = Scene::new();
    let image = Image::new(&[random_layer("big", 3_000_000), random_layer("small", 1000)]);
    let reference = s.server.api().push(&image, "app", "v1");
    let wire = Proxy::start(
        s.server.address(),
        Faults {
            rate: Some(3_000_000),
            ..Faults::default()
        },
    );
    let through = reference.replace(&s.server.address().to_string(), &wire.address().to_string());
    let pull = || Running::start(&mut s.strata.command(&["pull", "--format", "json", &through]));
    let (one, two) = (pull(), pull());
    let (one, two) = (one.wait().ok(), two.wait().ok());
    assert!(!one.stdout.is_empty() && !two.stdout.is_empty());
    let once = image.layer_bytes();
    assert!(
        wire.received() < once + once / 2,
        "{} bytes for {once}",
        wire.received()
    );
    assert_eq!(s.strata.layers().len(), 2);
    assert_eq!(s.strata.leftovers(), [""; 0]);
}

#[test]
fn a_killed_pull_shows_nothing_and_the_next_one_goes_on_from_there() {
    let s = Scene::new();
    let image = Image::new(&[random_layer("small", 1000), random_layer("big", 4_000_000)]);
    let reference = s.server.api().push(&image, "app", "v1");
    let wire = Proxy::start(
        s.server.address(),
        Faults {
            rate: Some(2_000_000),
            ..Faults::default()
        },
    );
    let through = reference.replace(&s.server.address().to_string(), &wire.address().to_string());
    let mut pull = Running::start(&mut s.strata.command(&["pull", &through]));
    while wire.received() < 2_000_000 {
        std::thread::sleep(Duration::from_millis(10));
        assert!(
            pull.child.try_wait().expect("wait").is_none(),
            "ended too early"
        );
    }
    pull.child.kill().expect("kill");
    pull.wait();
    assert_eq!(
        s.strata.layers(),
        [""; 0],
        "nothing is shown before it is proved"
    );
    assert_eq!(s.strata.images(), json!([]));
    let before = wire.received();
    let pulled = s.strata.pull(&through);
    assert_eq!(pulled.digest, image.digest.to_string());
    let rest = wire.received() - before;
    assert!(
        rest < 3_000_000,
        "no byte is fetched twice: {rest} bytes after {before}"
    );
    assert_eq!(s.strata.layers().len(), 2);
    assert_eq!(s.strata.leftovers(), [""; 0]);
}

#[test]
fn a_connection_that_breaks_is_taken_up_again() {
    let s = Scene::new();
    let image = Image::new(&[random_layer("big", 3_000_000)]);
    let reference = s.server.api().push(&image, "app", "v1");
    let faults = Faults {
        cut_after: Some(1_000_000),
        cuts: Some(2),
        rate: None,
    };
    let wire = Proxy::start(s.server.address(), faults);
    let through = reference.replace(&s.server.address().to_string(), &wire.address().to_string());
    let pulled = s.strata.pull(&through);
    assert_eq!((pulled.fetched(), wire.cuts()), (1, 2));
    let extra = wire.received() - image.layer_bytes();
    assert!(
        extra < 500_000,
        "what had come was kept: {extra} bytes too many"
    );
}

#[test]
fn a_wire_that_always_breaks_is_given_up_with_a_reason() {
    let s = Scene::new();
    let image = Image::new(&[random_layer("big", 3_000_000)]);
    let reference = s.server.api().push(&image, "app", "v1");
    let wire = Proxy::start(
        s.server.address(),
        Faults {
            cut_after: Some(10),
            ..Faults::default()
        },
    );
    let through = reference.replace(&s.server.address().to_string(), &wire.address().to_string());
    let ran = s.strata.run(&["pull", &through]);
    assert!(
        !ran.status.success() && !ran.stderr.is_empty(),
        "{}",
        ran.story()
    );
    assert_eq!(s.strata.layers(), [""; 0]);
}

#[test]
fn quiet_plain_and_json_output() {
    let s = Scene::new();
    let image = Image::new(&[random_layer("file", 50_000)]);
    let reference = s.server.api().push(&image, "app", "v1");
    let plain = s.strata.run(&["pull", &reference]).ok();
    let said = plain.out() + &plain.stderr;
    assert!(
        !said.contains('\u{1b}'),
        "no terminal, no escapes: {said:?}"
    );
    assert!(said.contains("fetched"), "{said}");
    let again = s.strata.run(&["pull", &reference]).ok();
    assert!(
        (again.out() + &again.stderr).contains("reused"),
        "{}",
        again.story()
    );
    let quiet = s.strata.run(&["pull", "-q", &reference]).ok();
    assert!(quiet.stderr.is_empty(), "{}", quiet.story());
    let json = s
        .strata
        .run(&["pull", "-q", "--format", "json", &reference])
        .ok();
    assert!(
        strata_tests::strata::Pulled::parse(&json.stdout).is_some(),
        "{}",
        json.story()
    );
}

#[test]
fn images_are_listed_tagged_and_removed_and_shared_layers_stay() {
    let s = Scene::new();
    let base = random_layer("base", 10_000);
    let a = Image::new(&[base.clone(), random_layer("a", 100)]);
    let b = Image::new(&[base, random_layer("b", 100)]);
    let (a_ref, b_ref) = (
        s.server.api().push(&a, "a", "v1"),
        s.server.api().push(&b, "b", "v1"),
    );
    s.strata.pull(&a_ref);
    s.strata.pull(&b_ref);
    assert_eq!(s.strata.layers().len(), 3);
    s.strata.run(&["tag", &a_ref, "localhost/kept:1"]).ok();
    s.strata.run(&["rmi", &a_ref]).ok();
    assert_eq!(s.strata.layers().len(), 3, "another name is left");
    let listed = s.strata.run(&["images"]).ok().out();
    assert!(
        listed.contains("localhost/kept") && !listed.contains(&a_ref),
        "{listed}"
    );
    s.strata.run(&["inspect", "localhost/kept:1"]).ok();
    s.strata.run(&["rmi", "localhost/kept:1"]).ok();
    assert_eq!(s.strata.layers().len(), 2, "the shared layer stays");
    s.strata.run(&["inspect", &a_ref]).refused();
    s.strata.run(&["rmi", &a_ref]).refused();
    s.strata.run(&["rmi", &b_ref]).ok();
    assert_eq!(s.strata.layers(), [""; 0]);
    assert_eq!(s.strata.images(), json!([]));
}
