//! What one client can take of the server, and what the server does when it wants more.

mod common;

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::{Connection, Registry, content};
use strata_oci::Digest;
use stratad::Limits;

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn connections_beyond_the_limit_wait_and_are_served() {
    let registry = Registry::with(Limits {
        connections: 2,
        ..Limits::default()
    });
    let mut first = registry.connect();
    let mut second = registry.connect();
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.send("GET", "/v2/", &[], b"").status, 200);
    }
    let address = registry.address;
    let third = thread::spawn(move || {
        let reply = Connection::new(address).send("GET", "/v2/", &[], b"");
        (reply.status, Instant::now())
    });
    thread::sleep(SHORT);
    assert!(!third.is_finished(), "the limit holds");
    let released = Instant::now();
    drop(first);
    let (status, served) = third.join().expect("thread");
    assert_eq!(status, 200);
    assert!(served >= released);
}

#[test]
fn an_idle_connection_makes_room_for_one_that_waits() {
    let registry = Registry::with(Limits {
        connections: 1,
        head_timeout: SHORT,
        ..Limits::default()
    });
    let mut idle = registry.connect();
    assert_eq!(idle.send("GET", "/v2/", &[], b"").status, 200);
    assert_eq!(
        registry.get("/v2/").status,
        200,
        "served after the idle one"
    );
    assert!(idle.reply(false).is_none(), "the idle one was closed");
}

#[test]
fn heads_are_bounded_in_bytes_and_in_number() {
    let registry = Registry::start();
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(registry.send("GET", "/v2/", &many, b"").status, 431);
    let long = "x".repeat(100_000);
    let reply = registry.send("GET", "/v2/", &[("X-Long", &long)], b"");
    assert_eq!(reply.status, 431);
    let path = format!("/v2/a/tags/list?last={}", "a".repeat(9000));
    let reply = registry.send("GET", &path, &[], b"");
    reply.expect_refusal(414, "UNSUPPORTED");
    let endless = format!("/v2/{}", "a".repeat(200_000));
    let status = registry.send("GET", &endless, &[], b"").status;
    assert!([414, 431].contains(&status), "{status}");
    assert_eq!(registry.get("/v2/").status, 200);
}

#[test]
fn a_head_that_never_ends_is_cut_off_however_it_trickles() {
    let registry = Registry::with(Limits {
        head_timeout: SHORT,
        ..Limits::default()
    });
    let begun = Instant::now();
    let mut slow = registry.connect();
    slow.write(b"GET /v2/ HTTP/1.1\r\n");
    for n in 0..20 {
        slow.write(format!("X-{n}: 1\r\n").as_bytes());
        thread::sleep(SHORT / 6);
    }
    let reply = slow.reply(false);
    assert!(reply.is_none_or(|reply| reply.status == 408));
    assert!(begun.elapsed() < SHORT * 20);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let registry = Registry::with(Limits {
        write_timeout: SHORT,
        ..Limits::default()
    });
    // More than the sockets' buffers hold.
    let bytes = content(40_000_000);
    let digest = registry.push("a", &bytes);
    let mut lazy = registry.connect();
    lazy.head("GET", &format!("/v2/a/blobs/{digest}"), &[]);
    thread::sleep(SHORT * 5);
    assert!(lazy.reply(false).is_none(), "no whole body");
    assert!(registry.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
}

#[test]
fn a_body_that_falls_silent_is_given_up_and_goes_on_later() {
    let registry = Registry::with(Limits {
        body_timeout: SHORT,
        ..Limits::default()
    });
    let bytes = content(1_000_000);
    let location = registry.begin("a");
    let mut silent = registry.connect();
    silent.head("PATCH", &location, &[("Content-Length", "1000000")]);
    silent.write(&bytes[..600_000]);
    let reply = silent.reply(false).expect("a reply");
    reply.expect_refusal(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(registry.range(&location), "0-599999");
    let digest = Digest::of(&bytes);
    let path = format!("{location}?digest={digest}");
    let reply = registry.send("PUT", &path, &[], &bytes[600_000..]);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert!(registry.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
}

#[test]
fn a_trickle_below_the_rate_is_given_up_though_it_is_never_silent() {
    let registry = Registry::with(Limits {
        body_timeout: SHORT,
        body_rate: 1_000_000,
        ..Limits::default()
    });
    let location = registry.begin("a");
    let mut slow = registry.connect();
    slow.head("PATCH", &location, &[("Content-Length", "1000000")]);
    let begun = Instant::now();
    let mut sent = 0;
    // The rate counts by whole seconds.
    while begun.elapsed() < Duration::from_millis(1500) {
        slow.write(b"x");
        sent += 1;
        thread::sleep(SHORT / 10);
    }
    let reply = slow.reply(false).expect("a reply");
    reply.expect_refusal(400, "BLOB_UPLOAD_INVALID");
    let range = registry.range(&location);
    let kept: u64 = range.trim_start_matches("0-").parse().expect("range");
    assert!(kept > 0 && kept < sent, "{range} of {sent}");
}

#[test]
fn requests_in_a_row_are_answered_in_order() {
    let registry = Registry::start();
    let blobs = [content(10), content(100_000), content(20)];
    let mut connection = registry.connect();
    for blob in &blobs {
        let digest = registry.push("a", blob);
        connection.head("GET", &format!("/v2/a/blobs/{digest}"), &[]);
    }
    for blob in &blobs {
        let reply = connection.reply(false).expect("a reply");
        assert!(reply.status == 200 && reply.body == *blob);
    }
}

#[test]
fn a_body_where_none_belongs_is_passed_over() {
    let registry = Registry::start();
    let mut connection = registry.connect();
    let body = "DELETE /v2/a/manifests/b HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = body.len();
    let whole = format!("GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
    connection.write(whole.as_bytes());
    assert_eq!(connection.reply(false).map(|r| r.status), Some(200));
    let status = connection.send("GET", "/v2/", &[], b"").status;
    assert_eq!(status, 200, "the body was not taken for a request");
    // One that is promised to be endless is not waited for.
    let mut endless = registry.connect();
    endless.head("GET", "/v2/", &[("Content-Length", "1000000000000")]);
    assert_eq!(endless.reply(false).map(|r| r.status), Some(200));
    assert!(endless.reply(false).is_none(), "closed");
}

#[test]
fn http_2_without_tls_is_refused_by_closing() {
    let registry = Registry::start();
    let mut connection = registry.connect();
    // RFC 9113, 3.4: the connection preface and an empty SETTINGS frame.
    connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let begun = Instant::now();
    assert!(connection.reply(false).is_none());
    assert!(begun.elapsed() < Duration::from_secs(5), "closed at once");
    // An upgrade that is offered is not taken (RFC 9110, 7.8).
    let offer = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    ];
    assert_eq!(registry.send("GET", "/v2/", &offer, b"").status, 200);
}

#[test]
fn a_content_encoding_is_not_undone() {
    let registry = Registry::start();
    // The beginning of a gzip stream, then nothing that could be inflated.
    let bytes = [&[0x1f, 0x8b, 8, 0], content(1000).as_slice()].concat();
    let digest = Digest::of(&bytes);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let gzip = [("Content-Encoding", "gzip")];
    assert_eq!(registry.send("POST", &path, &gzip, &bytes).status, 201);
    let reply = registry.get(&format!("/v2/a/blobs/{digest}"));
    assert!(reply.body == bytes && reply.find("content-encoding").is_none());
}

#[test]
fn a_client_that_was_cut_off_leaves_its_place() {
    let registry = Registry::with(Limits {
        connections: 4,
        head_timeout: SHORT,
        body_timeout: SHORT,
        write_timeout: SHORT,
        ..Limits::default()
    });
    let location = registry.begin("a");
    let mut held = Vec::new();
    for n in 0..4 {
        let mut connection = registry.connect();
        if n % 2 == 0 {
            connection.write(b"GET /v2/ HT");
        } else {
            connection.head("PATCH", &location, &[("Content-Length", "10")]);
        }
        held.push(connection);
    }
    assert_eq!(registry.get("/v2/").status, 200);
    drop(held);
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let registry = Registry::with(Limits {
        head_timeout: SHORT,
        ..Limits::default()
    });
    let mut silent = TcpStream::connect(registry.address).expect("connect");
    silent
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("timeout");
    let mut bytes = Vec::new();
    let read = silent.read_to_end(&mut bytes);
    assert!(read.is_ok(), "closed within the limit: {read:?}");
}
