//! Container engines with daemons of their own: docker and containerd push to the server and pull from it.

use std::thread;

use strata_oci::media;
use strata_tests::clients::Clients;
use strata_tests::clients::containerd::Containerd;
use strata_tests::clients::docker::Docker;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer, architecture, index};
use strata_tests::place::Place;
use strata_tests::recorder::Recorder;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;

/// An image with a layer that others have too and one of its own.
fn image(own: &str) -> Image {
    let shared = [Entry::dir("usr/"), Entry::file("usr/shared", "shared\n")];
    let own = [Entry::dir("app/"), Entry::file("app/name", own)];
    Image::new(&[Layer::of(&shared), Layer::of(&own)])
}

/// The digest under which the server has a tag.
#[track_caller]
fn served(server: &Stratad, repository: &str, tag: &str) -> String {
    let reply = server.api().manifest(repository, tag).expect(200);
    let digest = reply.header("docker-content-digest");
    digest.expect("a digest").to_owned()
}

#[test]
fn docker_loads_pushes_mounts_removes_and_pulls_the_same_image() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let wire = Recorder::start(server.address());
    let docker = Docker::new(&place);
    let image = image("docker");
    image
        .write_layout(&place.dir("layout"), "v1")
        .expect("write");
    let first = wire.reference("team/first", "v1");
    let archive = place.join("archive.tar").display().to_string();
    Clients::new(&place)
        .skopeo_copy(
            &format!("oci:{}:v1", place.join("layout").display()),
            &format!("docker-archive:{archive}:{first}"),
            &[],
        )
        .ok();
    docker.run(&["load", "--quiet", "--input", &archive]).ok();
    let id = docker.id(&first);

    let pushed = docker.push(&first);
    assert_eq!(pushed, served(&server, "team/first", "v1"));
    let manifest = server.api().manifest("team/first", "v1").json();
    assert_eq!(manifest["mediaType"], media::DOCKER_MANIFEST);
    assert_eq!(manifest["config"]["digest"], id.as_str());
    let stored = server.stored();

    // A second repository: docker knows where it pushed the layers to, and asks for them to be mounted.
    let second = wire.reference("team/second", "v2");
    docker.run(&["tag", &first, &second]).ok();
    assert_eq!(docker.push(&second), pushed);
    assert_eq!(
        wire.mounts("team/second").len(),
        2,
        "{:#?}",
        wire.requests()
    );
    let sent = wire.uploads("team/second").len();
    assert!(sent <= 2, "only the configuration is sent: {sent}");
    assert_eq!(server.stored(), stored, "nothing is stored twice");

    docker.run(&["image", "rm", &first, &second]).ok();
    let gone = docker.run(&["image", "inspect", &first]);
    assert!(!gone.status.success(), "{}", gone.story());
    docker.run(&["pull", "--quiet", &first]).ok();
    assert_eq!(docker.id(&first), id);
    let by_digest = format!("{}/team/second@{pushed}", wire.address());
    docker.run(&["pull", "--quiet", &by_digest]).ok();
    assert_eq!(docker.id(&by_digest), id);

    let pulled = Strata::new(&place).pull(&server.reference("team/second", "v2"));
    let trees: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
    let got: Vec<String> = pulled.layers.iter().map(|l| l.diff_id.clone()).collect();
    assert_eq!(got, trees);
}

#[test]
fn docker_pulls_oci_images_and_indexes_and_pushes_many_at_once() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let docker = Docker::new(&place);
    let api = server.api();
    let (mine, other) = (image("mine"), image("other").made_for("s390x"));
    let plain = api.push(&mine, "multi", "mine");
    api.push(&other, "multi", "other");
    let both = index(&[(&other, "s390x"), (&mine, architecture())]);
    api.put_manifest("multi", "all", media::OCI_INDEX, &both)
        .expect(201);
    let all = api.reference("multi", "all");
    docker.run(&["pull", "--quiet", &all]).ok();
    assert_eq!(docker.id(&all), mine.id().to_string());
    docker.run(&["pull", "--quiet", &plain]).ok();
    assert_eq!(docker.id(&plain), mine.id().to_string());

    let names: Vec<String> = (0..6).map(|n| format!("many/{}", n % 3)).collect();
    let targets: Vec<String> = (0..6)
        .map(|n| server.reference(&names[n], &format!("t{n}")))
        .collect();
    for target in &targets {
        docker.run(&["tag", &plain, target]).ok();
    }
    let pushed: Vec<String> = thread::scope(|scope| {
        let docker = &docker;
        let pushes: Vec<_> = targets
            .iter()
            .map(|target| scope.spawn(move || docker.push(target)))
            .collect();
        let done = pushes.into_iter();
        done.map(|push| push.join().expect("a push")).collect()
    });
    for (n, digest) in pushed.iter().enumerate() {
        assert_eq!(*digest, served(&server, &names[n], &format!("t{n}")));
        assert_eq!(*digest, pushed[0]);
    }
}

#[test]
fn ctr_pulls_all_platforms_of_an_index_and_pushes_them_with_mounts() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let wire = Recorder::start(server.address());
    let containerd = Containerd::new(&place);
    let api = server.api();
    let (mine, other) = (image("mine"), image("other").made_for("s390x"));
    api.push(&mine, "multi", "mine");
    api.push(&other, "multi", "other");
    let both = index(&[(&other, "s390x"), (&mine, architecture())]);
    api.put_manifest("multi", "all", media::OCI_INDEX, &both)
        .expect(201);
    let digest = served(&server, "multi", "all");
    let stored = server.stored();

    let source = wire.reference("multi", "all");
    let native = ["--snapshotter", "native"];
    let all = [&native[..], &["--all-platforms", &source]].concat();
    containerd.images("pull", &all).ok();
    let content = containerd.ctr(&["content", "ls", "--quiet"]).ok().out();
    for image in [&mine, &other] {
        for blob in image.blobs().chain([image.manifest.as_slice()]) {
            let digest = strata_oci::digest::Digest::of(blob).to_string();
            assert!(content.contains(&digest), "{digest} in {content}");
        }
    }
    let listed = containerd.ctr(&["images", "ls"]).ok().out();
    assert!(listed.contains(&digest), "{listed}");

    let target = wire.reference("copy/of-multi", "again");
    containerd.images("push", &[&target, &source]).ok();
    assert_eq!(served(&server, "copy/of-multi", "again"), digest);
    assert!(
        !wire.mounts("copy/of-multi").is_empty(),
        "{:#?}",
        wire.requests()
    );
    assert_eq!(wire.uploads("copy/of-multi"), [""; 0]);
    assert_eq!(server.stored(), stored, "nothing is stored twice");

    containerd.ctr(&["images", "rm", &source]).ok();
    let single = [&native[..], &[&target]].concat();
    containerd.images("pull", &single).ok();
    let listed = containerd.ctr(&["images", "ls", "--quiet"]).ok().out();
    assert_eq!(listed, target);
}
