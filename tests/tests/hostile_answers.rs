//! Answers that do not end, or that lead elsewhere: each is given up in bounded time and memory, and no other host is
//! asked for anything that it must not be asked for.

use std::time::Duration;

use serde_json::{Value, json};
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::command::Running;
use strata_tests::entry::Entry;
use strata_tests::fake::{Asked, Fake, reply, reply_of_length};
use strata_tests::faulty::{Fault, Faulty};
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::trial::{all, show};

/// Bytes of an endless answer that may be taken before it is given up: the longest list of tags, and what is in flight.
const TAKEN: u64 = 80_000_000;
const MEMORY: u64 = 200_000_000;

fn image() -> Image {
    let files = [Entry::file("file", "content ".repeat(50_000))];
    Image::new(&[Layer::of(&files)])
}

/// Which request is answered without end.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Manifest,
    Config,
    Blob,
    Token,
    Tags,
}

struct Case {
    name: &'static str,
    at: At,
    head: &'static str,
    filler: &'static [u8],
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

#[rustfmt::skip]
fn endless() -> Vec<Case> {
    use At::{Blob, Config, Manifest, Tags, Token};
    let all = [("manifest", Manifest), ("configuration", Config), ("blob", Blob), ("token", Token), ("tags", Tags)];
    let mut cases = Vec::new();
    for (name, at) in all {
        cases.push(Case { name, at, head: "HTTP/1.1 200 OK\r\n\r\n", filler: b"    " });
    }
    let more = [
        ("manifest, long by its own account", Manifest, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", b" ".as_slice()),
        ("manifest in chunks", Manifest, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\n    \r\n"),
        ("blob in chunks", Blob, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\n    \r\n"),
        ("length of a chunk", Blob, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"aaaaaaaa"),
        ("one header", Manifest, OK, b"X"),
        ("header lines", Manifest, OK, b"X-More: more\r\n"),
        ("header lines of a blob", Blob, OK, b"X-More: more\r\n"),
        ("status line", Manifest, "HTTP/1.1 200 ", b"ok"),
        ("error's body", Manifest, "HTTP/1.1 404 x\r\n\r\n", b"no such thing "),
        ("error's body, to be tried again", Manifest, "HTTP/1.1 503 x\r\nRetry-After: 0\r\n\r\n", b"later "),
        ("refusal of a token", Token, "HTTP/1.1 401 x\r\n\r\n", b"no "),
    ];
    for (name, at, head, filler) in more {
        cases.push(Case { name, at, head, filler });
    }
    cases
}

fn try_endless(case: &Case) -> Vec<String> {
    let place = Place::new();
    let strata = Strata::new(&place);
    let image = image();
    let config = image.id().to_string();
    let registry = Fake::of_image(image, |_| None);
    let (at, head, filler) = (case.at, case.head, case.filler);
    let tokens = Faulty::start(registry.address(), move |_, _| {
        let head = head.as_bytes().to_vec();
        Some(Fault::Pour {
            head,
            filler: filler.to_vec(),
        })
    });
    let realm = tokens.address();
    let proxy = Faulty::start(registry.address(), move |asked, _| {
        let is_it = match at {
            At::Manifest => asked.is_manifest() && asked.method == "GET",
            At::Config => asked.blob() == Some(&config),
            At::Blob => asked.blob().is_some_and(|blob| blob != config),
            At::Tags => asked.path().ends_with("/tags/list"),
            At::Token => {
                let challenge = format!("Bearer realm=\"http://{realm}/token\"");
                let headers = [("WWW-Authenticate", challenge.as_str())];
                return Some(Fault::Answer(reply(401, &headers, b"")));
            }
        };
        let head = head.as_bytes().to_vec();
        is_it.then(|| Fault::Pour {
            head,
            filler: filler.to_vec(),
        })
    });
    let reference = proxy.reference("app", "v1");
    let layout = format!("oci:{}:v1", place.join("layout").display());
    let commands: Vec<Vec<&str>> = match at {
        At::Tags => vec![vec!["tags", reference.trim_end_matches(":v1")]],
        _ => vec![
            vec!["pull", "-q", &reference],
            vec!["copy", "-q", &reference, &layout],
        ],
    };
    let mut row = vec![case.name.to_owned()];
    for args in commands {
        let before = proxy.tally().poured + tokens.tally().poured;
        let running = Running::start(&mut strata.command(&args));
        let (ran, peak) = running.wait_for_peak();
        let what = format!("{} ({})", case.name, args[0]);
        assert_eq!(ran.code(), 1, "{what}: {}", ran.story());
        let ran = ran.refused();
        assert!(ran.took < Duration::from_secs(60), "{what}: {:?}", ran.took);
        assert!(ran.stderr.len() < 2000, "{what}: {}", ran.stderr);
        let taken = proxy.tally().poured + tokens.tally().poured - before;
        assert!(taken > 0, "{what}: nothing was poured");
        assert!(taken < TAKEN, "{what}: {taken} bytes were taken");
        assert!(peak < MEMORY, "{what}: {peak} bytes of memory");
        row.push(format!(
            "{} {taken} bytes, {} MB, {:.1} s",
            args[0],
            peak / 1_000_000,
            ran.took.as_secs_f64()
        ));
    }
    assert_eq!(strata.layers(), [""; 0]);
    row
}

#[test]
fn answers_without_end_are_given_up() {
    let cases = endless();
    let came = all(&cases, 6, try_endless);
    let wrong: Vec<&String> = came.iter().filter_map(|came| came.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let rows: Vec<_> = came.into_iter().flatten().collect();
    show("answers without end: what was taken, memory, time", &rows);
}

/// Whether a request is of a kind.
type Is = fn(&Asked) -> bool;

/// A registry that answers one kind of request by leading to `target`.
fn leads(what: Is, status: u16, target: String) -> Fake {
    Fake::of_image(image(), move |asked| {
        let headers = [("Location", target.as_str())];
        what(asked).then(|| reply(status, &headers, b""))
    })
}

#[test]
fn nobody_is_led_to_files_metadata_services_or_in_circles() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let layout = format!("oci:{}:v1", place.join("layout").display());
    let what: [(&str, Is); 2] = [
        ("manifest", Asked::is_manifest),
        ("blob", |asked| asked.blob().is_some()),
    ];
    // None of these is ever connected to: the address itself is refused.
    let targets = [
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://127.0.0.1/", "neither http nor https"),
        ("data:text/plain,x", "neither http nor https"),
        ("http://169.254.169.254/latest/meta-data/", "not public"),
        ("http://[::ffff:169.254.169.254]/", "not public"),
        ("http://[fe80::1]/", "not public"),
        ("http://2852039166/", "not public"),
        ("http://0xa9.0xfe.0xa9.0xfe/", "not public"),
        ("http://0.0.0.0/", "not public"),
        ("http://127.0.0.1@169.254.169.254/", "not public"),
        ("http://[::1", "not an address"),
    ];
    for (name, is_it) in what {
        for (target, why) in targets {
            for status in [302, 307] {
                let registry = leads(is_it, status, target.to_owned());
                let reference = format!("{}/app:v1", registry.address());
                for args in [vec!["pull", &reference], vec!["copy", &reference, &layout]] {
                    let ran = strata.run(&args).refused().says(why);
                    assert!(
                        ran.took < Duration::from_secs(5),
                        "{name} {target}: {:?}",
                        ran.took
                    );
                }
            }
        }
    }
    let circle = Fake::start(|asked| {
        let headers = [("Location", asked.target.as_str())];
        reply(307, &headers, b"")
    });
    let reference = format!("{}/app:v1", circle.address());
    strata
        .run(&["pull", &reference])
        .refused()
        .says("redirects");
    assert!(circle.asked().len() < 50, "{}", circle.asked().len());
    assert_eq!(strata.layers(), [""; 0]);
}

#[test]
fn a_realm_that_is_no_place_to_ask_is_not_asked() {
    let place = Place::new();
    let strata = Strata::new(&place);
    for realm in [
        "file:///etc/passwd",
        "http://169.254.169.254/token",
        "http://[fe80::1]/",
        "/token",
        "",
    ] {
        let registry = Fake::start(move |_| {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
            reply(401, &[("WWW-Authenticate", &challenge)], b"")
        });
        let ran = strata.run(&["pull", &format!("{}/app:v1", registry.address())]);
        let ran = ran.refused();
        assert!(ran.took < Duration::from_secs(5), "{realm}: {:?}", ran.took);
    }
}

/// A registry of manifests by name or digest; blobs it has none.
fn of_manifests(manifests: Vec<(String, Vec<u8>)>) -> Fake {
    Fake::start(move |asked| {
        let name = asked.path().rsplit('/').next().unwrap_or_default();
        let found = manifests.iter().find(|(known, _)| known == name);
        let Some((_, bytes)) = found.filter(|_| asked.is_manifest()) else {
            return reply(404, &[], b"");
        };
        let parsed: Value = serde_json::from_slice(bytes).expect("JSON");
        let kind = parsed["mediaType"].as_str().expect("a type");
        let body = if asked.method == "HEAD" {
            &[][..]
        } else {
            bytes
        };
        reply_of_length(200, &[("Content-Type", kind)], bytes.len(), body)
    })
}

fn index(entries: &[Value]) -> Vec<u8> {
    json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries })
        .to_string()
        .into_bytes()
}

fn entry(kind: &str, bytes: &[u8]) -> Value {
    json!({
        "mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len(),
        "platform": { "os": "linux", "architecture": strata_tests::image::architecture() },
    })
}

#[test]
fn manifests_that_unfold_without_end_are_refused() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let image = image();
    // An index in an index, a hundred times.
    let mut deep = vec![image.manifest.clone()];
    for depth in 0..100 {
        let kind = if depth == 0 {
            media::OCI_MANIFEST
        } else {
            media::OCI_INDEX
        };
        deep.push(index(&[entry(kind, &deep[depth])]));
    }
    let top = deep.last().expect("one").clone();
    let mut named: Vec<_> = deep
        .into_iter()
        .map(|m| (Digest::of(&m).to_string(), m))
        .collect();
    named.push(("v1".to_owned(), top));
    // One that is its own child, as far as a digest can be; the registry gives it for any name.
    let child = Digest::of(b"child").to_string();
    let own = index(&[
        json!({ "mediaType": media::OCI_INDEX, "digest": child, "size": 400,
        "platform": { "os": "linux", "architecture": strata_tests::image::architecture() } }),
    ]);
    let itself = vec![("v1".to_owned(), own.clone()), (child, own)];
    // Ten thousand children that nobody has, and ten thousand layers.
    let other = |n: u32| Digest::of(&n.to_le_bytes());
    let many: Vec<Value> = (0..10_000)
        .map(|n| json!({ "mediaType": media::OCI_MANIFEST, "digest": other(n), "size": 500 }))
        .collect();
    let many = vec![("v1".to_owned(), index(&many))];
    let layers: Vec<Value> = (0..10_000)
        .map(|n| json!({ "mediaType": media::OCI_LAYER, "digest": other(n), "size": 500 }))
        .collect();
    let layers = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": layers,
        "config": { "mediaType": media::OCI_CONFIG, "digest": other(0), "size": 500 },
    });
    let layers = vec![("v1".to_owned(), layers.to_string().into_bytes())];
    for (what, manifests) in [
        ("deep", named),
        ("itself", itself),
        ("children", many),
        ("layers", layers),
    ] {
        let registry = of_manifests(manifests);
        let reference = format!("{}/app:v1", registry.address());
        let layout = format!("oci:{}:v1", place.join(what).display());
        for args in [
            vec!["pull", "-q", &reference],
            vec!["copy", "-q", &reference, &layout],
        ] {
            let before = registry.asked().len();
            let running = Running::start(&mut strata.command(&args));
            let (ran, peak) = running.wait_for_peak();
            let ran = ran.refused();
            assert!(ran.took < Duration::from_secs(20), "{what}: {:?}", ran.took);
            assert!(peak < MEMORY, "{what}: {peak} bytes");
            let asked = registry.asked().len() - before;
            assert!(asked < 300, "{what}: {asked} requests");
            assert!(ran.stderr.len() < 4000, "{what}: {}", ran.stderr);
        }
        assert!(!place.join(what).join("index.json").exists());
    }
    assert_eq!(strata.layers(), [""; 0]);
}

#[test]
fn links_and_urls_to_other_hosts_are_not_followed() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let image = image();
    let blob = image.layers[0].blob.clone();
    let elsewhere = Fake::start(move |_| reply(200, &[], &blob));
    let there = format!("http://{}", elsewhere.address());
    // A list of tags goes on at another host by its own account: the path is asked for here.
    let link = format!("<{there}/v2/app/tags/list?last=b>; rel=\"next\"");
    let tags = Fake::start(move |asked| match asked.target.contains("last=") {
        true => reply(200, &[], br#"{"tags":["c"]}"#),
        false => reply(200, &[("Link", &link)], br#"{"tags":["a","b"]}"#),
    });
    let listed = strata
        .run(&["tags", &format!("{}/app", tags.address())])
        .ok();
    assert_eq!(listed.out(), "a\nb\nc");
    // A layer that is said to be elsewhere too.
    let mut manifest: Value = serde_json::from_slice(&image.manifest).expect("JSON");
    for kind in [
        media::OCI_LAYER_GZIP,
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        manifest["layers"][0]["urls"] = json!([format!("{there}/blob")]);
        manifest["layers"][0]["mediaType"] = json!(kind);
        let mut foreign = image.clone();
        foreign.manifest = manifest.to_string().into_bytes();
        foreign.digest = Digest::of(&foreign.manifest);
        let wanted = image.layers[0].digest.to_string();
        let registry = Fake::of_image(foreign, move |asked| {
            asked
                .target
                .ends_with(&wanted)
                .then(|| reply(404, &[], b""))
        });
        let reference = format!("{}/app:v1", registry.address());
        let layout = format!("oci:{}:v1", place.join("layout").display());
        strata.run(&["pull", &reference]).refused();
        let ran = strata.run(&["copy", &reference, &layout]);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.story());
    }
    assert_eq!(elsewhere.asked().len(), 0, "{:?}", elsewhere.asked());
}
