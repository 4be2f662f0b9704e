//! A proxy in which nobody can trust would prove nothing.

use super::*;
use crate::fake::{Fake, reply};
use crate::http::{Http, Reply};
use std::time::{Duration, Instant};

const BLOB: &str = "/v2/app/blobs/sha256:00";

/// A registry of one blob of 100 kB that knows ranges, and a proxy before it.
fn behind(plan: impl Fn(&Asked, usize) -> Option<Fault> + Send + Sync + 'static) -> (Fake, Faulty) {
    let registry = Fake::start(|asked| {
        let all: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let from = asked.from() as usize;
        match asked.blob() {
            Some(_) if from > 0 => {
                let range = format!("bytes {from}-99999/100000");
                reply(206, &[("Content-Range", &range)], &all[from..])
            }
            Some(_) => reply(200, &[("X-Is", "it")], &all),
            None => reply(201, &[], asked.body_text().as_bytes()),
        }
    });
    let proxy = Faulty::start(registry.address(), plan);
    (registry, proxy)
}

fn get(proxy: &Faulty, headers: &[(&str, &str)]) -> Reply {
    Http::new(proxy.address()).send("GET", BLOB, headers, b"")
}

/// Whether no whole reply comes.
fn breaks(proxy: &Faulty) -> bool {
    let head = Http::new(proxy.address()).head("GET", BLOB, &[]) + "\r\n";
    Http::new(proxy.address())
        .break_off(head.as_bytes())
        .is_none()
}

#[test]
fn without_a_fault_all_passes_and_is_counted() {
    let (registry, proxy) = behind(|_, _| None);
    assert_eq!(get(&proxy, &[]).body.len(), 100_000);
    let rest = get(&proxy, &[("Range", "bytes=99990-")]);
    assert_eq!((rest.status, rest.body.len()), (206, 10));
    let sent = proxy.tally().sent;
    assert_eq!(sent["sha256:00"], 100_010);
    let http = Http::new(proxy.address());
    let target = "/v2/app/blobs/uploads/1?digest=x";
    let echoed = http.send_chunked("PUT", target, &[b"ab", b"cde"]);
    assert_eq!(echoed.status, 201);
    http.send("PATCH", target, &[], b"1234").expect(201);
    assert_eq!(proxy.tally().uploaded, 9);
    assert_eq!(proxy.tally().cuts + proxy.tally().faults, 0);
    assert_eq!(registry.asked().len(), 4);
}

#[test]
fn each_fault_is_done_as_it_is_told() {
    let faults = |asked: &Asked, before| {
        assert_eq!(asked.path(), BLOB);
        Some(match before {
            0 => Fault::Cut {
                after: 500,
                reset: false,
            },
            1 => Fault::Cut {
                after: 500,
                reset: true,
            },
            2 => Fault::Truncate(70),
            3 => Fault::Corrupt { at: 20_000, len: 1 },
            4 => Fault::Header("x-is", "not".to_owned()),
            5 => Fault::Status(206),
            6 => Fault::Whole,
            7 => Fault::Earlier(10),
            8 => Fault::Answer(reply(429, &[("Retry-After", "7")], b"")),
            9 => Fault::Delay(Duration::from_millis(300)),
            10 => Fault::Crawl { rate: 400_000 },
            _ => Fault::Header("content-length", "100001".to_owned()),
        })
    };
    let (registry, proxy) = behind(faults);
    assert!(breaks(&proxy), "cut");
    assert!(breaks(&proxy), "reset");
    assert_eq!(get(&proxy, &[]).body.len(), 70);
    assert_eq!(get(&proxy, &[]).body[20_000], !(20_000u32 as u8));
    assert_eq!(get(&proxy, &[]).header("x-is"), Some("not"));
    assert_eq!(get(&proxy, &[]).status, 206);
    let range = [("Range", "bytes=50-")];
    assert_eq!(get(&proxy, &range).body.len(), 100_000);
    let earlier = get(&proxy, &range);
    assert_eq!(
        earlier.header("content-range"),
        Some("bytes 40-99999/100000")
    );
    assert_eq!(get(&proxy, &[]).header("retry-after"), Some("7"));
    for _ in 0..2 {
        let began = Instant::now();
        assert_eq!(get(&proxy, &[]).body.len(), 100_000);
        assert!(began.elapsed() > Duration::from_millis(200));
    }
    assert!(breaks(&proxy), "a length that lies");
    assert_eq!(proxy.tally().faults, 12);
    assert_eq!(registry.asked().len(), 11, "one was answered here");
}

#[test]
fn silence_lasts_and_endless_answers_end_with_the_client() {
    let (_registry, proxy) = behind(|_, before| {
        Some(match before {
            0 => Fault::Stall(10),
            _ => Fault::Pour {
                head: b"HTTP/1.1 200 OK\r\nX: ".to_vec(),
                filler: b"a".to_vec(),
            },
        })
    });
    let head = Http::new(proxy.address()).head("GET", BLOB, &[]) + "\r\n";
    for seen in [10, 1_000_000] {
        use std::io::{Read as _, Write as _};
        let mut stream = TcpStream::connect(proxy.address()).expect("connect");
        stream.write_all(head.as_bytes()).expect("write");
        let limit = Duration::from_millis(500);
        stream.set_read_timeout(Some(limit)).expect("a limit");
        let mut bytes = Vec::new();
        let _ = stream.take(seen + 1000).read_to_end(&mut bytes);
        assert!(bytes.len() as u64 > seen && bytes.len() as u64 <= seen + 1000);
    }
    let poured = proxy.tally().poured;
    assert!(poured >= 1_000_000);
    std::thread::sleep(Duration::from_millis(300));
    assert!(proxy.tally().poured < 20_000_000, "it has ended");
}

#[test]
fn uploads_are_cut_and_answers_lost() {
    let (registry, proxy) = behind(|_, before| match before {
        0 => Some(Fault::CutRequest(3)),
        1 => Some(Fault::LoseAnswer),
        _ => None,
    });
    let http = Http::new(proxy.address());
    let target = "/v2/app/blobs/uploads/1";
    let request = http.head("PATCH", target, &[("Content-Length", "10")]) + "\r\n0123456789";
    assert!(http.break_off(request.as_bytes()).is_none());
    assert!(http.break_off(request.as_bytes()).is_none());
    assert_eq!(http.send("PATCH", target, &[], b"0123456789").status, 201);
    let got: Vec<String> = registry.asked().iter().map(Asked::body_text).collect();
    assert!(got.contains(&"012".to_owned()) && got.ends_with(&["0123456789".to_owned()]));
}
