//! Whether a server is alive and ready, as its operator's tools ask it.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use strata_oci::digest::Digest;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::living::found;
use strata_tests::place::Place;
use strata_tests::scrape::Scrape;
use strata_tests::stratad::Stratad;
use strata_tests::trial::noise;
use strata_tests::user::need_root;

const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0"];

fn image() -> Image {
    Image::new(&[Layer::of(&[Entry::file("small", "small")])])
}

#[test]
fn the_admin_listener_shows_nothing_of_the_registry_and_has_bounds() {
    let place = Place::new();
    let server = Stratad::start_with(&place.join("data"), ADMIN);
    server.api().push(&image(), "app", "v1");
    let admin = server.admin();
    for target in [
        "/",
        "/v2/",
        "/v2/_catalog",
        "/v2/app/manifests/v1",
        "/metrics/",
        "/debug",
    ] {
        admin.send("GET", target, &[], b"").expect(404);
    }
    admin.send("POST", "/metrics", &[], b"").expect(405);
    let main = server.api().0;
    main.send("GET", "/metrics", &[], b"").expect(404);
    for asked in [admin, main] {
        for target in ["/livez", "/readyz"] {
            let reply = asked.send("GET", target, &[], b"").expect(200);
            assert_eq!(reply.body, b"ok\n");
        }
    }
    let reply = admin.send("GET", "/readyz?verbose", &[], b"").expect(200);
    assert_eq!(reply.body, b"serving: ok\ndatabase: ok\ndisk: ok\n");
    let reply = main.send("GET", "/readyz?verbose", &[], b"").expect(200);
    assert_eq!(reply.body, b"ok\n", "details are not for everyone");
    // Whoever takes all connections keeps others out only as long as it holds them.
    let idle: Vec<_> = (0..32).map(|_| admin.connect()).collect();
    let mut late = admin.connect();
    late.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("write");
    late.set_read_timeout(Some(Duration::from_millis(400)))
        .expect("set a time limit");
    let mut byte = [0];
    assert!(late.read(&mut byte).is_err(), "no more than 32 at a time");
    drop(idle);
    late.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("set a time limit");
    assert_eq!(late.read(&mut byte).expect("an answer"), 1);
}

#[test]
fn a_full_disk_is_not_ready_until_there_is_room_again() {
    need_root();
    let place = Place::new();
    let disk = place.dir("disk");
    let size = std::ffi::CString::new("size=24m").expect("no zero");
    mount(
        "tmpfs",
        &disk,
        "tmpfs",
        MountFlags::empty(),
        size.as_c_str(),
    )
    .expect("mount a tmpfs");
    let server = Stratad::start_with(&disk.join("data"), ADMIN);
    let ready = |status: u16| {
        let ask = || server.admin().send("GET", "/readyz?verbose", &[], b"");
        found("readiness", || {
            Some(ask()).filter(|reply| reply.status == status)
        })
    };
    ready(200);
    fill(&disk.join("ballast"));
    let reply = ready(503);
    let said = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(said.contains("disk: is full"), "{said}");
    let main = server.api().0;
    assert_eq!(
        main.send("GET", "/readyz", &[], b"").expect(503).body,
        b"not ok\n"
    );
    server.admin().send("GET", "/livez", &[], b"").expect(200);
    std::fs::remove_file(disk.join("ballast")).expect("remove");
    ready(200);
    server.api().push(&image(), "app", "v1");
}

/// Writes until there is no room.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).expect("create");
    for block in [vec![1u8; 1 << 20], vec![1u8; 4096]] {
        while file.write_all(&block).is_ok() {}
    }
}

#[test]
fn a_server_that_drains_is_alive_and_not_ready() {
    let place = Place::new();
    let server = Stratad::start_with(&place.join("data"), ADMIN);
    let (api, admin) = (server.api(), server.admin());
    let location = api.start("app");
    let content = noise(1, 100_000);
    let mut stream = api.0.connect();
    let target = format!("{location}?digest={}", Digest::of(&content));
    let length = [("Content-Length", "100000")];
    let head = format!("{}\r\n", api.0.head("PUT", &target, &length));
    stream.write_all(head.as_bytes()).expect("write");
    stream.write_all(&content[..50_000]).expect("write");
    let in_flight = || {
        let labels = [("route", "upload")];
        let now = Scrape::of(admin).get("stratad_http_requests_in_flight", &labels);
        (now > 0.5).then_some(())
    };
    found("the upload to be under way", in_flight);
    server.terminate();
    let draining = || {
        let reply = admin.send("GET", "/readyz?verbose", &[], b"");
        (reply.status == 503).then_some(reply)
    };
    let reply = found("the end of readiness", draining);
    let said = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(said.contains("serving: the server is stopping"), "{said}");
    admin.send("GET", "/livez", &[], b"").expect(200);
    stream.write_all(&content[50_000..]).expect("write");
    let reply = strata_tests::http::read_reply(stream, false).expect("an answer");
    assert_eq!(reply.status, 201, "what was under way is finished");
}
