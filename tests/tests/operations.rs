//! What an operator sees of a server: its log and its numbers.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::Value;
use strata_oci::digest::Digest;
use strata_tests::entry::Entry;
use strata_tests::http::{Http, Reply};
use strata_tests::image::{Image, Layer};
use strata_tests::living::found;
use strata_tests::place::Place;
use strata_tests::scrape::Scrape;
use strata_tests::stratad::Stratad;
use strata_tests::trial::noise;

const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0"];

const JSON: &[&str] = &["--log-format", "json", "--log-level", "info,request=debug"];

fn image() -> Image {
    Image::new(&[Layer::of(&[Entry::file("small", "small")])])
}

/// The lines of requests in a log of JSON; each line must be an object.
fn requests(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Value::Object(object),
        other => panic!("{line:?}: {other:?}"),
    });
    lines.filter(|line| line["message"] == "request").collect()
}

/// The one line that says all of this.
#[track_caller]
fn the_line(server: &Stratad, wanted: &[(&str, Value)]) -> Value {
    let says = |line: &Value| wanted.iter().all(|(field, value)| line[*field] == *value);
    let mut found = found(&format!("a line with {wanted:?}"), || {
        let found: Vec<Value> = requests(&server.log()).into_iter().filter(says).collect();
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn people_read_a_line_for_each_change_and_none_for_a_read() {
    let place = Place::new();
    let mut server = Stratad::start(&place.join("data"));
    let api = server.api();
    let image = image();
    api.push(&image, "team/app", "v1");
    api.manifest("team/app", "v1").expect(200);
    api.manifest("team/app", "v2").expect(404);
    api.put_manifest("team/app", "v3", image.media_type(), b"{")
        .expect(400);
    assert!(server.stop().success());
    let log = server.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" request "))
        .collect();
    let changes = image.blobs().count() + 2;
    assert_eq!(lines.len(), changes, "{log}");
    assert!(
        !log.contains("method=GET") && !log.contains('\x1b'),
        "{log}"
    );
    let size = format!("bytes_in={}", image.manifest.len());
    let put = lines
        .iter()
        .find(|line| line.contains("reference=v1"))
        .expect(&log);
    for part in [
        " INFO ",
        "method=PUT",
        "route=manifest",
        "repository=team/app",
        "status=201",
        &size,
        "bytes_out=0",
        "seconds=0.",
        "remote=127.0.0.1:",
        "id=",
    ] {
        assert!(put.contains(part), "{part}: {put}");
    }
    let refused = lines
        .iter()
        .find(|line| line.contains("reference=v3"))
        .expect(&log);
    assert!(
        refused.contains("status=400 code=MANIFEST_INVALID"),
        "{refused}"
    );
}

#[test]
fn programs_read_an_object_a_line_with_the_bytes_that_were_really_sent() {
    let place = Place::new();
    let server = Stratad::start_with(&place.join("data"), JSON);
    let (api, content) = (server.api(), noise(1, 3_000_000));
    let digest = api.push_blob("app", &content);
    // Sent by the kernel, and sent from memory.
    assert!(api.blob("app", &digest).expect(200).body == content);
    let small = api.push_blob("app", b"small");
    api.blob("app", &small).expect(200);
    let blob = |digest: &Digest| {
        let reference = digest.to_string().into();
        [("route", "blob".into()), ("reference", reference)]
    };
    let line = the_line(&server, &blob(&digest));
    assert_eq!(line["bytes_out"], content.len(), "{line}");
    assert_eq!(line["status"], 200);
    assert_eq!(line["level"], "DEBUG");
    assert_eq!(line["repository"], "app");
    assert!(line["aborted"].is_null(), "{line}");
    assert_eq!(the_line(&server, &blob(&small))["bytes_out"], 5);
    let wanted = [("status", 201.into()), ("bytes_in", content.len().into())];
    let line = the_line(&server, &wanted);
    assert_eq!(
        (&line["method"], &line["level"]),
        (&"PUT".into(), &"INFO".into())
    );
    // An error's body counts, that of HEAD is not sent.
    let target = "/v2/app/manifests/none";
    let reply = api.0.send("GET", target, &[], b"").expect(404);
    let wanted = [
        ("method", "GET".into()),
        ("code", "MANIFEST_UNKNOWN".into()),
    ];
    assert_eq!(the_line(&server, &wanted)["bytes_out"], reply.body.len());
    api.0.send("HEAD", target, &[], b"").expect(404);
    let line = the_line(
        &server,
        &[("method", "HEAD".into()), ("status", 404.into())],
    );
    assert_eq!(line["bytes_out"], 0);
    assert!(line["aborted"].is_null(), "{line}");
}

#[test]
fn a_download_that_breaks_off_is_logged_with_what_was_sent() {
    let place = Place::new();
    let server = Stratad::start_with(&place.join("data"), &[JSON, ADMIN].concat());
    let (api, size) = (server.api(), 60_000_000);
    let digest = api.push_blob("app", &noise(2, size));
    let mut stream = api.0.connect();
    let target = format!("/v2/app/blobs/{digest}");
    let head = format!("{}\r\n", api.0.head("GET", &target, &[]));
    stream.write_all(head.as_bytes()).expect("write");
    let mut some = vec![0; 1_000_000];
    stream.read_exact(&mut some).expect("read");
    stream.shutdown(Shutdown::Both).expect("shutdown");
    drop(stream);
    let line = the_line(&server, &[("route", "blob".into())]);
    assert_eq!(
        (&line["aborted"], &line["level"]),
        (&true.into(), &"INFO".into())
    );
    let sent = line["bytes_out"].as_u64().expect("a number");
    assert!((900_000..size as u64).contains(&sent), "{sent}");
    let scrape = Scrape::of(server.admin());
    let aborted = scrape.get("stratad_http_aborted_total", &[("route", "blob")]);
    assert!((aborted - 1.0).abs() < 0.5, "{aborted}");
}

#[test]
fn a_requests_id_is_told_and_logged_and_a_strange_one_replaced() {
    let place = Place::new();
    let server = Stratad::start_with(&place.join("data"), JSON);
    let ask = |id: &str| -> Reply {
        let http: Http = server.api().0;
        http.send("GET", "/v2/", &[("X-Request-Id", id)], b"")
            .expect(200)
    };
    let given = "7f3c1a7e-2c1b.from_proxy";
    assert_eq!(ask(given).header("x-request-id"), Some(given));
    the_line(&server, &[("id", given.into())]);
    let reply = ask("\"} {\"level\":\"none");
    let made = reply.header("x-request-id").expect("an id").to_owned();
    assert!(
        made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()),
        "{made}"
    );
    the_line(&server, &[("id", made.into())]);
}

#[test]
fn nothing_secret_and_nothing_that_forges_a_line_gets_into_the_log() {
    let place = Place::new();
    for format in ["human", "json"] {
        let options = ["--log-level", "trace", "--log-format", format];
        let mut server = Stratad::start_with(&place.join("data"), &options);
        let api = server.api();
        let id = api.start("app");
        let id = id.rsplit('/').next().expect("an id").to_owned();
        let agent = format!("evil\" \u{9b}31m\\n {}", "x".repeat(5000));
        let headers = [
            ("Authorization", "Basic c2VjcmV0OnNlY3JldA=="),
            ("Cookie", "session=secretcookie"),
            ("User-Agent", agent.as_str()),
            ("X-Forwarded-For", "secretheader"),
        ];
        let query = "_state=secretstate&X-Amz-Signature=secretsignature&token=secrettoken";
        let session = format!("/v2/app/blobs/uploads/{id}");
        for (method, path) in [
            ("GET", "/v2/none/tags/list"),
            ("GET", "/nowhere/%1b[2Jx"),
            ("GET", "/v2/app/blobs/uploads/x"),
            ("POST", session.as_str()),
            ("PUT", session.as_str()),
        ] {
            let target = format!("{path}?{query}");
            let reply = api.0.send(method, &target, &headers, b"");
            assert!((400..500).contains(&reply.status), "{}", reply.status);
        }
        assert!(server.stop().success());
        let log = server.log();
        for secret in ["c2VjcmV0", "secret", &id, "_state", "\u{9b}", "\u{1b}"] {
            assert!(!log.contains(secret), "{secret}:\n{log}");
        }
        assert!(log.contains("evil\\\"") && log.contains(&id[..8]), "{log}");
        assert!(log.lines().all(|line| line.len() < 1000), "bounded:\n{log}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    use std::process::Stdio;
    let place = Place::new();
    // A pipe that is never emptied holds far less than these lines.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let program = strata_tests::binaries::binary("stratad");
    let mut command = strata_tests::stratad::serve(&program, &place.join("data"), address);
    command
        .args(["--log-level", "debug"])
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("start");
    let up = || std::net::TcpStream::connect(address).ok();
    found("the server", up);
    let http = Http::new(address);
    let begun = Instant::now();
    for _ in 0..2000 {
        http.send("GET", "/v2/", &[("User-Agent", &"x".repeat(150))], b"")
            .expect(200);
    }
    let took = begun.elapsed();
    let _ = child.kill();
    let _ = child.wait();
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn numbers_move_by_exactly_what_was_done() {
    let place = Place::new();
    let server = Stratad::start_with(&place.join("data"), ADMIN);
    let (api, content) = (server.api(), noise(3, 200_000));
    let digest = api.push_blob("one", &content);
    api.push_blob("two", &content);
    let image = image();
    api.push(&image, "one", "v1");
    api.put_manifest("one", "v2", image.media_type(), &image.manifest)
        .expect(201);
    for _ in 0..3 {
        api.blob("one", &digest).expect(200);
    }
    assert!(!api.has_blob("three", &digest));
    api.0
        .send("GET", "/v2/one/tags/list?n=x", &[], b"")
        .expect(400);
    api.0
        .send("GET", "/some/path/of/an/attacker", &[], b"")
        .expect(404);
    api.0.send("SURPRISE", "/v2/", &[], b"").expect(405);
    let _open = api.start("one");
    // A number moves when a response has left, which may be a moment after it was read.
    let count = |scrape: &Scrape, route, method, status| {
        let labels = [("route", route), ("method", method), ("status", status)];
        scrape.get("stratad_http_requests_total", &labels)
    };
    let scrape = found("the last request", || {
        let scrape = Scrape::of(server.admin());
        let blobs = image.blobs().count() as f64;
        (count(&scrape, "upload", "POST", "202") > blobs + 2.5).then_some(scrape)
    });
    let blobs = image.blobs().count() as f64;
    let image_bytes: usize = image.blobs().map(|blob| blob.len()).sum();
    let one = |route: &'static str| [("route", route)];
    for (what, is, expected) in [
        ("GET blob", count(&scrape, "blob", "GET", "200"), 3.0),
        ("HEAD blob", count(&scrape, "blob", "HEAD", "404"), 1.0),
        (
            "PUT blob",
            count(&scrape, "upload", "PUT", "201"),
            2.0 + blobs,
        ),
        (
            "PUT manifest",
            count(&scrape, "manifest", "PUT", "201"),
            2.0,
        ),
        ("bad tags", count(&scrape, "tags", "GET", "400"), 1.0),
        ("no path", count(&scrape, "unknown", "GET", "404"), 1.0),
        ("no method", count(&scrape, "unknown", "other", "405"), 1.0),
        (
            "bytes out",
            scrape.get("stratad_http_response_bytes_total", &one("blob")),
            600_000.0,
        ),
        (
            "bytes in",
            scrape.get("stratad_http_request_bytes_total", &one("upload")),
            (400_000 + image_bytes) as f64,
        ),
        (
            "durations",
            scrape.get("stratad_http_request_duration_seconds_count", &one("blob")),
            4.0,
        ),
        (
            "in flight",
            scrape.get("stratad_http_requests_in_flight", &one("upload")),
            0.0,
        ),
        ("repositories", scrape.get("stratad_repositories", &[]), 2.0),
        ("manifests", scrape.get("stratad_manifests", &[]), 1.0),
        ("tags", scrape.get("stratad_tags", &[]), 2.0),
        ("blobs", scrape.get("stratad_blobs", &[]), 1.0 + blobs),
        (
            "blob bytes",
            scrape.get("stratad_blob_bytes", &[]),
            (200_000 + image_bytes) as f64,
        ),
        ("links", scrape.get("stratad_blob_links", &[]), 2.0 + blobs),
        (
            "linked bytes",
            scrape.get("stratad_blob_linked_bytes", &[]),
            (400_000 + image_bytes) as f64,
        ),
        ("sessions", scrape.get("stratad_upload_sessions", &[]), 1.0),
    ] {
        assert!((is - expected).abs() < 1e-6, "{what}: {is}, not {expected}");
    }
    assert!(scrape.get("stratad_dedup_ratio", &[]) > 1.9);
    assert!(scrape.get("stratad_database_commit_duration_seconds_count", &[]) >= 4.0);
    assert!(scrape.get("stratad_database_read_duration_seconds_count", &[]) >= 4.0);
    assert!(scrape.get("process_resident_memory_bytes", &[]) > 1e6);
    assert!(scrape.get("process_start_time_seconds", &[]) > 1.7e9);
    let attackers = |value: &str| value.contains("attacker") || value == "SURPRISE";
    assert!(
        !scrape.label_values().any(attackers),
        "labels are ours alone"
    );
}

#[test]
fn names_follow_the_conventions_and_openmetrics_is_given_to_whoever_asks() {
    let place = Place::new();
    let server = Stratad::start_with(&place.join("data"), ADMIN);
    let scrape = Scrape::of(server.admin());
    let mut count = 0;
    for name in scrape.families() {
        assert!(
            name.starts_with("stratad_") || name.starts_with("process_"),
            "{name}"
        );
        assert!(
            !name.contains("milli") && !name.contains("micro"),
            "base units: {name}"
        );
        count += 1;
    }
    assert!(count > 25, "{count}");
    let accept = [(
        "Accept",
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    )];
    let reply = server
        .admin()
        .send("GET", "/metrics", &accept, b"")
        .expect(200);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(reply.header("content-type"), Some(kind));
    let text = String::from_utf8(reply.body).expect("UTF-8");
    assert!(text.ends_with("\n# EOF\n") && text.contains("# TYPE stratad_http_requests counter\n"));
}
