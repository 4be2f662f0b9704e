//! The clients that people have: skopeo, podman and buildah push to the server and pull from it, and
//! strata pulls what each of them pushed.

use std::fs;

use strata_oci::digest::Digest;
use strata_tests::clients::Clients;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::scene::shell_layer;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;

/// A shell, some programs, and one layer more.
fn shell_image() -> Image {
    let own = [Entry::dir("app/"), Entry::file("app/hello", "hello\n")];
    Image::new(&[shell_layer(), Layer::of(&own)])
}

#[test]
fn skopeo_copies_a_layout_in_and_out_unchanged() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let clients = Clients::new(&place);
    let image = shell_image();
    let (from, to) = (place.dir("from"), place.join("to"));
    image.write_layout(&from, "v1").expect("write");
    let remote = format!("docker://{}", server.reference("shell", "v1"));
    let digest_file = place.join("digest");
    let more = ["--digestfile", digest_file.to_str().expect("text")];
    clients
        .skopeo_copy(&format!("oci:{}:v1", from.display()), &remote, &more)
        .ok();
    assert_eq!(
        fs::read_to_string(&digest_file).expect("digest"),
        image.digest.to_string()
    );
    let stored = server.api().manifest("shell", "v1").expect(200);
    assert_eq!(stored.body, image.manifest);
    assert_eq!(
        stored.header("docker-content-digest"),
        Some(image.digest.to_string().as_str())
    );

    clients
        .skopeo_copy(&remote, &format!("oci:{}:v1", to.display()), &[])
        .ok();
    for blob in image.blobs().chain([image.manifest.as_slice()]) {
        let copy = fs::read(to.join("blobs/sha256").join(Digest::of(blob).hex()));
        assert!(
            copy.is_ok_and(|copy| copy == blob),
            "a blob did not come back as it was"
        );
    }
    let inspected = clients
        .skopeo(&["inspect", "--tls-verify=false", &remote])
        .ok();
    assert!(inspected.out().contains(&image.digest.to_string()));
    let tags = clients
        .skopeo(&[
            "list-tags",
            "--tls-verify=false",
            remote.trim_end_matches(":v1"),
        ])
        .ok();
    assert!(tags.out().contains("\"v1\""), "{}", tags.out());
}

#[test]
fn skopeo_pushes_docker_schema_2_and_strata_pulls_it() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let clients = Clients::new(&place);
    let image = shell_image();
    image
        .write_layout(&place.dir("layout"), "v1")
        .expect("write");
    let reference = server.reference("group/sub/shell", "v2s2");
    let from = format!("oci:{}:v1", place.join("layout").display());
    clients
        .skopeo_copy(
            &from,
            &format!("docker://{reference}"),
            &["--format", "v2s2"],
        )
        .ok();
    let stored = server.api().manifest("group/sub/shell", "v2s2").expect(200);
    assert_eq!(
        stored.header("content-type"),
        Some(strata_oci::media::DOCKER_MANIFEST)
    );
    let pulled = Strata::new(&place).pull(&reference);
    let diff_ids: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
    let got: Vec<&String> = pulled.layers.iter().map(|l| &l.diff_id).collect();
    assert_eq!(got, diff_ids.iter().collect::<Vec<_>>());
}

#[test]
fn podman_pulls_and_pushes() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let clients = Clients::new(&place);
    let image = shell_image();
    let first = server.api().push(&image, "shell", "first");
    let second = server.reference("copy/of-shell", "second");
    clients.podman_transfer("pull", &first).ok();
    let listed = clients
        .podman(&["images", "--no-trunc", "--format", "{{.ID}} {{.Digest}}"])
        .ok();
    assert!(
        listed.out().contains(&image.id().to_string()),
        "{}",
        listed.out()
    );
    clients.podman(&["tag", &first, &second]).ok();
    clients.podman_transfer("push", &second).ok();

    let strata = Strata::new(&place);
    strata.pull(&first);
    let again = strata.pull(&second);
    assert_eq!(
        again.fetched(),
        0,
        "podman compresses anew, but the trees are the same: {again:?}"
    );
    let ran = strata
        .run(&["run", "--rm", &second, "cat", "/app/hello"])
        .ok();
    assert_eq!(ran.out(), "hello");
}

#[test]
fn buildah_builds_from_a_served_image_and_strata_runs_the_result() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let clients = Clients::new(&place);
    let base = server.api().push(&shell_image(), "base/shell", "1");
    let context = place.dir("context");
    let built = server.reference("built/app", "1");
    let containerfile = format!(
        "FROM {base}\nCOPY data /srv/data\nRUN echo made > /srv/made && rm /app/hello\n\
         ENV COLOUR=blue\nWORKDIR /srv\nCMD [\"/bin/sh\", \"-c\", \"cat data made; echo $COLOUR\"]\n"
    );
    fs::write(context.join("Containerfile"), containerfile).expect("write");
    fs::write(context.join("data"), "data\n").expect("write");
    clients.build(&context, &built).ok();
    clients
        .buildah(&["push", "-q", "--tls-verify=false", &built])
        .ok();

    let strata = Strata::new(&place);
    strata.pull(&base);
    let pulled = strata.pull(&built);
    assert_eq!(
        pulled.reused(),
        2,
        "the base's layers are there: {pulled:?}"
    );
    let ran = strata.run(&["run", "--rm", &built]).ok();
    assert_eq!(ran.out(), "data\nmade\nblue");
    let gone = strata.run(&["run", "--rm", &built, "ls", "/app/hello"]);
    assert!(
        !gone.status.success(),
        "deleted by the build: {}",
        gone.story()
    );
}

#[test]
fn an_index_of_two_platforms_gives_this_machines_image() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let api = server.api();
    let mine = Image::new(&[Layer::of(&[Entry::file("which", "mine")])]);
    let other = Image::new(&[Layer::of(&[Entry::file("which", "other")])]);
    let machine = strata_tests::image::architecture();
    api.push(&other, "multi", "other");
    api.push(&mine, "multi", "mine");
    let index = strata_tests::image::index(&[(&other, "s390x"), (&mine, machine)]);
    api.put_manifest("multi", "all", strata_oci::media::OCI_INDEX, &index)
        .expect(201);
    let reference = api.reference("multi", "all");

    let strata = Strata::new(&place);
    let pulled = strata.pull(&reference);
    assert_eq!(pulled.layers[0].diff_id, mine.layers[0].diff_id.to_string());
    let clients = Clients::new(&place);
    let copy = format!("oci:{}:all", place.join("copy").display());
    clients
        .skopeo_copy(&format!("docker://{reference}"), &copy, &["--all"])
        .ok();
    let copied = fs::read(
        place
            .join("copy/blobs/sha256")
            .join(Digest::of(&index).hex()),
    );
    assert_eq!(copied.expect("the index"), index);
}

#[test]
fn podman_lists_tags_and_pushes_a_list_of_two_platforms() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let clients = Clients::new(&place);
    let api = server.api();
    let mine = shell_image();
    let other = mine.made_for("s390x");
    let references = [
        api.push(&mine, "team/parts", "mine"),
        api.push(&other, "team/parts", "other"),
    ];
    let plain = "--tls-verify=false";
    clients.podman(&["manifest", "create", "list:1"]).ok();
    for reference in &references {
        let image = format!("docker://{reference}");
        clients
            .podman(&["manifest", "add", plain, "list:1", &image])
            .ok();
    }
    let target = format!("docker://{}", server.reference("team/list", "both"));
    clients
        .podman(&["manifest", "push", "--all", plain, "list:1", &target])
        .ok();
    let list = api.manifest("team/list", "both").expect(200).json();
    let mut digests: Vec<&str> = list["manifests"]
        .as_array()
        .expect("manifests")
        .iter()
        .filter_map(|child| child["digest"].as_str())
        .collect();
    digests.sort_unstable();
    let mut expected = [mine.digest.to_string(), other.digest.to_string()];
    expected.sort();
    assert_eq!(digests, expected);

    let parts = format!("{}/team/parts", server.address());
    let tags = clients
        .podman(&["search", "--list-tags", plain, &parts])
        .ok();
    let tags = tags.out();
    let tags: Vec<&str> = tags
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert!(tags.ends_with(&["mine", "other"]), "{tags:?}");
    let everything = format!("{}/team", server.address());
    let found = clients
        .podman(&["search", plain, "--format", "{{.Name}}", &everything])
        .ok();
    for name in ["team/list", "team/parts"] {
        assert!(found.out().contains(name), "{}", found.out());
    }
}
