//! How a server ends: it drains, within its time, and loses nothing; a second signal does not wait.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use strata_oci::digest::Digest;
use strata_tests::binaries::binary;
use strata_tests::http::{Http, read_reply};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;

const SIZE: usize = 400_000;

fn start(place: &Place, drain: &str) -> Stratad {
    let settings = [("STRATAD_LIMITS_DRAIN", drain)];
    let data = place.join("data");
    Stratad::launch_set(&binary("stratad"), &data, &[], &settings).expect("start")
}

fn bytes() -> Vec<u8> {
    (0..SIZE).map(|n| (n ^ (n >> 8)) as u8).collect()
}

/// Begins a request of `length` bytes, of which `sent` come at once.
fn begin(server: &Stratad, method: &str, target: &str, length: usize, sent: &[u8]) -> TcpStream {
    let length = length.to_string();
    let headers = [("Content-Length", length.as_str())];
    let head = Http::new(server.address()).head(method, target, &headers) + "\r\n";
    let mut stream = TcpStream::connect(server.address()).expect("connect");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("timeout");
    stream.write_all(head.as_bytes()).expect("send");
    stream.write_all(sent).expect("send");
    // Time for the server to take it up.
    thread::sleep(Duration::from_millis(500));
    stream
}

fn refuses_connections(server: &Stratad) {
    let limit = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(server.address()).is_ok() {
        assert!(Instant::now() < limit, "it still accepts");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_upload_under_way_is_finished_while_new_ones_are_refused() {
    let place = Place::new();
    let mut server = start(&place, "1m");
    let bytes = bytes();
    let digest = Digest::of(&bytes);
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    let (first, rest) = bytes.split_at(300_000);
    let mut stream = begin(&server, "POST", &target, SIZE, first);
    server.signal(Signal::TERM);
    refuses_connections(&server);
    stream.write_all(rest).expect("send");
    let reply = read_reply(stream, false).expect("an answer");
    assert_eq!(reply.status, 201);
    assert!(server.wait().success(), "{}", server.log());
    server.start_again();
    let blob = server.api().blob("app", &digest).expect(200);
    assert!(blob.body == bytes);
}

#[test]
fn what_takes_longer_than_the_drain_is_cut_off_and_goes_on_later() {
    let place = Place::new();
    let mut server = start(&place, "300ms");
    let bytes = bytes();
    let location = server.api().start("app");
    server.api().append(&location, &bytes[..100_000]);
    let stream = begin(
        &server,
        "PATCH",
        &location,
        300_000,
        &bytes[100_000..300_000],
    );
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{}", server.log());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    drop(stream);
    server.start_again();
    let status = server.api().0.send("GET", &location, &[], b"");
    let range = status.header("range").expect("a range").to_owned();
    let last: usize = range["0-".len()..].parse().expect("a number");
    assert!(last + 1 > 100_000, "what was cut off is lost: {range}");
    let digest = Digest::of(&bytes).to_string();
    server
        .api()
        .finish(&location, &digest, &bytes[last + 1..])
        .expect(201);
}

#[test]
fn a_second_signal_does_not_wait() {
    let place = Place::new();
    let mut server = start(&place, "1h");
    let location = server.api().start("app");
    let stream = begin(&server, "PATCH", &location, SIZE, &bytes()[..100_000]);
    server.signal(Signal::TERM);
    refuses_connections(&server);
    let begun = Instant::now();
    server.signal(Signal::INT);
    let status = server.wait();
    assert!(!status.success(), "it was not a clean end: {status}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(stream);
    server.start_again();
    assert_eq!(server.api().0.send("GET", &location, &[], b"").status, 204);
}
