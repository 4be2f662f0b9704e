//! Clients that work on a registry without storage of their own: skopeo, crane, regctl, and oras-go, the library that
//! oras is made of. Each copies, mounts, lists, deletes, and, where it can, attaches and discovers referrers.

use std::fs;
use std::path::Path;

use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::clients::Clients;
use strata_tests::clients::tools::Tool;
use strata_tests::entry::{Entry, tar};
use strata_tests::image::{Image, Layer, architecture, index};
use strata_tests::place::Place;
use strata_tests::recorder::Recorder;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;

/// A server, the wire to it on which requests are noted, and the directory of both.
struct Registry {
    wire: Recorder,
    server: Stratad,
    place: Place,
}

impl Registry {
    #[track_caller]
    fn new() -> Self {
        let place = Place::new();
        let server = Stratad::start(&place.join("data"));
        let wire = Recorder::start(server.address());
        Self {
            wire,
            server,
            place,
        }
    }

    /// `HOST:PORT/NAME` on the wire.
    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.wire.address())
    }

    fn path(&self, name: &str) -> String {
        self.place.join(name).display().to_string()
    }

    /// The digest that the server has a tag under; none for an unknown tag.
    #[track_caller]
    fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        let reply = self.server.api().manifest(repository, tag);
        if reply.status == 404 {
            return None;
        }
        let reply = reply.expect(200);
        assert_eq!(
            reply.header("docker-content-digest"),
            Some(Digest::of(&reply.body).to_string().as_str())
        );
        Some(Digest::of(&reply.body).to_string())
    }

    /// Asserts that `repository` got its blobs by mounting, `sent` of them aside, and that nothing new was stored.
    #[track_caller]
    fn assert_mounted(&self, repository: &str, sent: usize, before: (usize, u64)) {
        let requests = self.wire.requests();
        assert!(
            !self.wire.mounts(repository).is_empty(),
            "no mount: {requests:#?}"
        );
        let mut uploads = self.wire.uploads(repository);
        uploads.retain(|request| request.starts_with("PUT"));
        assert_eq!(uploads.len(), sent, "{requests:#?}");
        assert_eq!(self.server.stored(), before, "a blob is stored twice");
    }

    /// Pushes an index of two platforms with both images to `multi:all`; its digest.
    #[track_caller]
    fn push_index(&self) -> String {
        let api = self.server.api();
        let (mine, other) = (image("mine"), image("other").made_for("s390x"));
        api.push(&mine, "multi", "mine");
        api.push(&other, "multi", "other");
        let both = index(&[(&other, "s390x"), (&mine, architecture())]);
        api.put_manifest("multi", "all", media::OCI_INDEX, &both)
            .expect(201);
        Digest::of(&both).to_string()
    }
}

/// An image with a layer that others have too and one of its own.
fn image(own: &str) -> Image {
    let shared = [Entry::dir("usr/"), Entry::file("usr/shared", "shared\n")];
    let own = [Entry::dir("app/"), Entry::file("app/name", own)];
    Image::new(&[Layer::of(&shared), Layer::of(&own)])
}

/// The lines of a listing.
fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// Asserts that a layout has every blob of an image as it was.
#[track_caller]
fn assert_in_layout(image: &Image, layout: &Path) {
    for blob in image.blobs().chain([image.manifest.as_slice()]) {
        let digest = Digest::of(blob);
        let copy = fs::read(layout.join("blobs/sha256").join(digest.hex()));
        assert!(copy.is_ok_and(|copy| copy == blob), "{digest}");
    }
}

#[test]
fn skopeo_syncs_copies_all_platforms_with_mounts_lists_and_deletes() {
    let registry = Registry::new();
    let clients = Clients::new(&registry.place);
    let digest = registry.push_index();
    let stored = registry.server.stored();
    let plain = [
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--all",
        "--preserve-digests",
    ];
    let source = registry.at("multi");
    let mirror = registry.at("mirror");
    let sync = [
        &["--insecure-policy", "sync", "--src=docker", "--dest=docker"],
        &plain[..],
        &[&source, &mirror],
    ];
    clients.skopeo(&sync.concat()).ok();
    for tag in ["all", "mine", "other"] {
        assert_eq!(
            registry.digest("mirror/multi", tag),
            registry.digest("multi", tag)
        );
    }
    assert_eq!(registry.digest("mirror/multi", "all"), Some(digest.clone()));
    assert_eq!(registry.server.stored(), stored, "a blob is stored twice");

    // By now skopeo knows where on this registry the layers are; configurations it always sends.
    let target = format!("docker://{}", registry.at("again:all"));
    let source = format!("docker://{}", registry.at("multi:all"));
    clients
        .skopeo_copy(&source, &target, &["--all", "--preserve-digests"])
        .ok();
    assert_eq!(registry.digest("again", "all"), Some(digest));
    assert_eq!(registry.wire.mounts("again").len(), 3);
    registry.assert_mounted("again", 2, stored);

    let verify = "--tls-verify=false";
    clients.skopeo(&["delete", verify, &target]).ok();
    assert_eq!(registry.digest("again", "all"), None);
    let repository = format!("docker://{}", registry.at("multi"));
    let listed = clients.skopeo(&["list-tags", verify, &repository]).ok();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed["Tags"], serde_json::json!(["all", "mine", "other"]));
}

#[test]
fn crane_copies_with_mounts_changes_validates_lists_and_deletes() {
    let registry = Registry::new();
    let crane = Tool::crane(&registry.place);
    let digest = registry.push_index();
    let stored = registry.server.stored();
    let (source, copy) = (registry.at("multi:all"), registry.at("copy:all"));
    crane.run(&["copy", &source, &copy]).ok();
    assert_eq!(crane.says(&["digest", &copy]), digest);
    assert_eq!(registry.digest("copy", "all"), Some(digest.clone()));
    registry.assert_mounted("copy", 0, stored);
    crane.run(&["validate", "--remote", &copy]).ok();

    let base = registry.at("multi:mine");
    fs::write(
        registry.place.join("layer.tar"),
        tar(&[Entry::file("more", "more\n")]),
    )
    .expect("write");
    let more = registry.at("copy:more");
    let layer = registry.path("layer.tar");
    let append = ["append", "-b", &base, "-f", &layer, "-t", &more];
    let appended = crane.says(&append);
    let (_, appended) = appended.split_once('@').expect("a digest");
    assert_eq!(registry.digest("copy", "more").as_deref(), Some(appended));
    let labelled = registry.at("copy:labelled");
    crane
        .run(&["mutate", &more, "--label", "a=b", "--tag", &labelled])
        .ok();
    crane.run(&["validate", "--remote", &labelled]).ok();
    let config: serde_json::Value =
        serde_json::from_str(&crane.says(&["config", &labelled])).expect("JSON");
    assert_eq!(config["config"]["Labels"]["a"], "b");
    let pulled = Strata::new(&registry.place).pull(&registry.server.reference("copy", "labelled"));
    assert_eq!(pulled.layers.len(), 3);

    crane.run(&["tag", &more, "also"]).ok();
    let repository = registry.at("copy");
    let tags = crane.says(&["ls", &repository]);
    assert_eq!(lines(&tags), ["all", "also", "labelled", "more"]);
    let repositories = crane.says(&["catalog", &registry.wire.address().to_string()]);
    assert_eq!(lines(&repositories), ["copy", "multi"]);
    crane.run(&["delete", &registry.at("copy:also")]).ok();
    assert_eq!(registry.digest("copy", "also"), None);
    assert_eq!(registry.digest("copy", "more").as_deref(), Some(appended));
    crane
        .run(&["delete", &format!("{repository}@{appended}")])
        .ok();
    assert_eq!(registry.digest("copy", "more"), None);
}

#[test]
fn crane_pushes_a_layout_and_pulls_it_unchanged() {
    let registry = Registry::new();
    let crane = Tool::crane(&registry.place);
    let image = image("crane");
    image
        .write_layout(&registry.place.dir("from"), "v1")
        .expect("write");
    let reference = registry.at("pushed:v1");
    let from = registry.path("from");
    crane.run(&["push", "--index", &from, &reference]).ok();
    let child = registry.at(&format!("pushed@{}", image.digest));
    crane
        .run(&["pull", "--format=oci", &child, &registry.path("to")])
        .ok();
    assert_in_layout(&image, &registry.place.join("to"));
    let config = registry.at(&format!("pushed@{}", image.id()));
    assert_eq!(crane.run(&["blob", &config]).ok().stdout, image.config);
    // Twice: nothing is sent the second time.
    let sent = registry.wire.uploads("pushed").len();
    crane.run(&["push", "--index", &from, &reference]).ok();
    assert_eq!(registry.wire.uploads("pushed").len(), sent);
}

#[test]
fn regctl_copies_images_with_mounts_referrers_and_digest_tags_and_deletes_tags() {
    let registry = Registry::new();
    let regctl = Tool::regctl(&registry.place, registry.wire.address());
    let digest = registry.push_index();
    let source = registry.at("multi:all");
    let put = [
        "artifact",
        "put",
        "--artifact-type=application/spdx+json",
        "--format={{.Manifest.GetDescriptor.Digest}}",
        "--subject",
        &source,
    ];
    let attached = regctl.says_with(&put, b"{}");
    let by_tag = format!("{}.sig", digest.replace(':', "-"));
    let signature = registry.at(&format!("multi:{by_tag}"));
    regctl.says_with(
        &[
            "artifact",
            "put",
            "--artifact-type=application/x-signature",
            &signature,
        ],
        b"signed",
    );
    let list = "--format={{range .Descriptors}}{{.Digest}} {{.ArtifactType}}{{println}}{{end}}";
    let referrers = regctl.says(&["artifact", "list", list, &source]);
    assert_eq!(referrers, format!("{attached} application/spdx+json"));

    let stored = registry.server.stored();
    let copy = registry.at("copy:all");
    let copying = ["image", "copy", "--referrers", "--digest-tags"];
    regctl.run(&[&copying[..], &[&source, &copy]].concat()).ok();
    assert_eq!(regctl.says(&["image", "digest", &copy]), digest);
    assert_eq!(
        regctl.says(&["artifact", "list", list, &copy]),
        referrers,
        "the referrer came along"
    );
    assert_eq!(
        registry.digest("copy", &by_tag),
        registry.digest("multi", &by_tag)
    );
    registry.assert_mounted("copy", 0, stored);

    let host = registry.wire.address().to_string();
    assert_eq!(
        lines(&regctl.says(&["repo", "ls", &host])),
        ["copy", "multi"]
    );
    let repository = registry.at("copy");
    let tags = regctl.says(&["tag", "ls", &repository]);
    assert_eq!(lines(&tags), ["all", by_tag.as_str()]);
    regctl.run(&["tag", "delete", &copy]).ok();
    assert_eq!(registry.digest("copy", "all"), None);
    assert_eq!(registry.digest("copy", &digest), Some(digest.clone()));
    let whole = format!("{repository}@{digest}");
    regctl.run(&["manifest", "delete", &whole]).ok();
    assert_eq!(registry.digest("copy", &digest), None);
}

#[test]
fn regctl_puts_copies_and_deletes_artifacts_and_blobs() {
    let registry = Registry::new();
    let regctl = Tool::regctl(&registry.place, registry.wire.address());
    let artifact = registry.at("things:v1");
    let put = ["artifact", "put", "--artifact-type=application/x-thing"];
    regctl.says_with(&[&put[..], &[&artifact]].concat(), b"a thing");
    assert_eq!(regctl.says(&["artifact", "get", &artifact]), "a thing");

    let (from, to) = (registry.at("things"), registry.at("others"));
    let digest = regctl.says_with(&["blob", "put", &from], b"bytes");
    assert_eq!(digest, Digest::of(b"bytes").to_string());
    assert_eq!(regctl.says(&["blob", "get", &from, &digest]), "bytes");
    let stored = registry.server.stored();
    regctl.run(&["blob", "copy", &from, &to, &digest]).ok();
    registry.assert_mounted("others", 0, stored);
    regctl.run(&["blob", "delete", &from, &digest]).ok();
    let gone = regctl.run(&["blob", "head", &from, &digest]);
    assert!(!gone.status.success(), "{}", gone.story());
    assert_eq!(regctl.says(&["blob", "get", &to, &digest]), "bytes");
}

#[test]
fn oras_go_attaches_discovers_and_copies_referrers_of_referrers() {
    let registry = Registry::new();
    let oras = Tool::orasgo(&registry.place);
    fs::write(registry.place.join("file"), "an artifact\n").expect("write");
    let file = registry.path("file");
    let reference = registry.at("artifacts:v1");
    let pushed = oras.says(&["push", &reference, "application/x-thing", &file]);
    assert_eq!(oras.says(&["digest", &reference]), pushed);
    assert_eq!(registry.digest("artifacts", "v1"), Some(pushed.clone()));
    let signature = oras.says(&["attach", &reference, "application/x-sig", &file]);
    let list = oras.says(&["attach", &reference, "application/x-sbom", &file]);
    let signed = registry.at(&format!("artifacts@{signature}"));
    let counter = oras.says(&["attach", &signed, "application/x-counter", &file]);

    let mut expected = [
        format!("{signature} application/x-sig"),
        format!("{list} application/x-sbom"),
    ];
    expected.sort();
    let discovered = |reference: &str| {
        let text = oras.says(&["discover", reference]);
        let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
        found.sort();
        found
    };
    assert_eq!(discovered(&reference), expected);
    let only = oras.says(&["discover", &reference, "application/x-sig"]);
    assert_eq!(only, format!("{signature} application/x-sig"));

    let stored = registry.server.stored();
    let copy = registry.at("copied/artifacts:v1");
    assert_eq!(oras.says(&["copy", "-r", &reference, &copy]), pushed);
    assert_eq!(discovered(&copy), expected);
    let copied = registry.at(&format!("copied/artifacts@{signature}"));
    let counters = oras.says(&["discover", &copied]);
    assert_eq!(counters, format!("{counter} application/x-counter"));
    registry.assert_mounted("copied/artifacts", 0, stored);

    oras.run(&["pull", &copy, &registry.path("back")]).ok();
    let back = fs::read_to_string(registry.place.join("back")).expect("read");
    assert_eq!(back, "an artifact\n");
    oras.run(&["delete", &signed]).ok();
    let left = oras.says(&["discover", &reference]);
    assert_eq!(left, format!("{list} application/x-sbom"));
    assert_eq!(discovered(&copy), expected, "the copy keeps its own");
}

#[test]
fn oras_go_copies_layouts_pages_through_lists_and_handles_single_blobs() {
    let registry = Registry::new();
    let oras = Tool::orasgo(&registry.place);
    let image = image("oras");
    image
        .write_layout(&registry.place.dir("from"), "v1")
        .expect("write");
    let reference = registry.at("images/oras:v1");
    let pushed = oras.says(&["in", &registry.path("from"), "v1", &reference]);
    assert_eq!(pushed, image.digest.to_string());
    oras.run(&["out", &reference, &registry.path("to")]).ok();
    assert_in_layout(&image, &registry.place.join("to"));

    for tag in ["v2", "v3"] {
        oras.run(&["tag", &reference, tag]).ok();
    }
    // One entry a page: the Link headers are followed.
    let tags = oras.says(&["tags", &registry.at("images/oras")]);
    assert_eq!(lines(&tags), ["v1", "v2", "v3"]);
    oras.run(&["copy", &reference, &registry.at("second:v1")])
        .ok();
    let host = registry.wire.address().to_string();
    let repositories = oras.says(&["repositories", &host]);
    assert_eq!(lines(&repositories), ["images/oras", "second"]);

    fs::write(registry.place.join("blob"), "bytes").expect("write");
    let (one, two) = (registry.at("blobs/one"), registry.at("blobs/two"));
    let digest = oras.says(&["blob-push", &one, &registry.path("blob")]);
    assert_eq!(digest, Digest::of(b"bytes").to_string());
    let stored = registry.server.stored();
    oras.run(&["mount", &two, "blobs/one", &digest]).ok();
    registry.assert_mounted("blobs/two", 0, stored);
    oras.run(&["blob-delete", &format!("{one}@{digest}")]).ok();
    let back = registry.path("back");
    let gone = oras.run(&["blob-fetch", &format!("{one}@{digest}"), &back]);
    assert!(!gone.status.success(), "{}", gone.story());
    oras.run(&["blob-fetch", &format!("{two}@{digest}"), &back])
        .ok();
    assert_eq!(fs::read(back).expect("read"), b"bytes");

    oras.run(&["delete", &reference]).ok();
    assert_eq!(
        registry.digest("images/oras", "v2"),
        None,
        "a manifest takes its tags with it"
    );
    assert_eq!(registry.digest("second", "v1"), Some(pushed));
}
