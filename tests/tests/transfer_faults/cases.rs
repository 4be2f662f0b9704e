//! Each fault alone: what it is, when it comes, and what must come of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use strata_oci::digest::Digest;
use strata_tests::fake::{Asked, Fake, reply};
use strata_tests::faulty::{Fault, Faulty};

use super::Expect::{Either, Refused, Right};
use super::{Between, Case, Decide, Expect, Scene};

/// A case that is a plan and nothing else. The configuration is spared: it is asked for first, and would end most.
fn case(name: &'static str, expect: Expect, plan: Decide) -> Case {
    let between = move |scene: &Scene| {
        let spared = scene.sample.image.id().to_string();
        let plan = move |asked: &Asked, before| {
            let spare = asked.blob() == Some(&spared);
            (!spare).then(|| plan(asked, before)).flatten()
        };
        Between {
            proxy: Faulty::start(scene.server.address(), plan),
            other: None,
            _tokens: None,
            auth: None,
        }
    };
    Case {
        name,
        expect,
        between: Box::new(between),
    }
}

/// A fault of each blob's first answer.
fn once(asked: &Asked, before: usize, fault: Fault) -> Option<Fault> {
    asked.blob().filter(|_| before == 0).map(|_| fault)
}

/// A cut of each blob's first answer, then the fault.
fn behind_a_cut(asked: &Asked, before: usize, fault: Fault) -> Option<Fault> {
    asked.blob()?;
    match before {
        0 => Some(CUT),
        1 => Some(fault),
        _ => None,
    }
}

/// In the middle of even the smallest layer.
const CUT: Fault = Fault::Cut {
    after: 60_000,
    reset: false,
};

pub(super) fn header(name: &'static str, value: &str) -> Fault {
    Fault::Header(name, value.to_owned())
}

pub(super) fn status(status: u16) -> Fault {
    Fault::Answer(reply(status, &[], b""))
}

#[rustfmt::skip]
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("nothing wrong", Right, |_, _| None),
        case("connection closed in a blob, twice", Right, |asked, before| {
            let after = [60_000, 30_000][before.min(1)];
            asked.blob().filter(|_| before < 2).map(|_| Fault::Cut { after, reset: false })
        }),
        case("connection reset in a blob, twice", Right, |asked, before| {
            asked.blob().filter(|_| before < 2).map(|_| Fault::Cut { after: 60_000, reset: true })
        }),
        case("connection closed before a blob's first byte", Right, |asked, before| {
            asked.blob().filter(|_| before < 2).map(|_| Fault::Cut { after: 0, reset: false })
        }),
        case("connection closed 20 times in each blob", Right, |asked, before| {
            asked.blob().filter(|_| before < 20).map(|_| Fault::Cut { after: 25_000, reset: false })
        }),
        case("connection always reset behind 100 bytes", Refused(&["{blob}", "{host}"]), |asked, _| {
            asked.blob().map(|_| Fault::Cut { after: 100, reset: true })
        }),
        case("manifest cut", Right, |asked, before| {
            let cut = asked.is_manifest() && asked.method == "GET" && before == 0;
            cut.then_some(Fault::Cut { after: 50, reset: false })
        }),
        case("answers delayed by 300 ms", Right, |_, _| Some(Fault::Delay(Duration::from_millis(300)))),
        case("a byte of a blob changed once", Either(&["{blob}"]), |asked, before| {
            once(asked, before, Fault::Corrupt { at: 20_000, len: 1 })
        }),
        case("a byte of a blob always changed", Refused(&["{blob}"]), |asked, _| {
            asked.blob().map(|_| Fault::Corrupt { at: 100, len: 1 })
        }),
        case("a byte of the manifest changed", Either(&["manifest"]), |asked, _| {
            (asked.is_manifest()).then_some(Fault::Corrupt { at: 30, len: 1 })
        }),
        case("blob and Content-Length too short", Either(&["{blob}", "bytes"]), |asked, before| {
            once(asked, before, Fault::Truncate(60_000))
        }),
        case("Content-Length too long", Either(&["{blob}", "bytes"]), |asked, before| {
            once(asked, before, header("content-length", "99000000"))
        }),
        case("silence in a blob", Right, |asked, before| once(asked, before, Fault::Stall(60_000))),
        case("500 bytes a second", Right, |asked, before| once(asked, before, Fault::Crawl { rate: 500 })),
        case("Range answered by 200 and the whole", Right, |asked, before| {
            behind_a_cut(asked, before, Fault::Whole)
        }),
        case("Content-Range of other bytes", Either(&["{blob}", "range"]), |asked, before| {
            behind_a_cut(asked, before, header("content-range", "bytes 0-9/10"))
        }),
        case("206 that begins earlier and says so", Either(&["{blob}", "range"]), |asked, before| {
            behind_a_cut(asked, before, Fault::Earlier(1000))
        }),
        case("206 to a request for the whole", Either(&["{blob}", "206"]), |asked, before| {
            once(asked, before, Fault::Status(206))
        }),
        case("416 to a Range", Right, |asked, before| behind_a_cut(asked, before, status(416))),
        case("another Docker-Content-Digest, blob", Either(&["{blob}"]), |asked, _| {
            let other = Digest::of(b"other").to_string();
            asked.blob().map(|_| Fault::Header("docker-content-digest", other))
        }),
        case("another Docker-Content-Digest, manifest", Refused(&["manifest", "digest"]), |asked, _| {
            let other = Digest::of(b"other").to_string();
            asked.is_manifest().then_some(Fault::Header("docker-content-digest", other))
        }),
        case("Content-Type text/html, blob", Right, |asked, _| {
            asked.blob().map(|_| header("content-type", "text/html"))
        }),
        case("Content-Type of an index, image manifest", Either(&["manifest"]), |asked, _| {
            asked.is_manifest().then(|| header("content-type", strata_oci::media::OCI_INDEX))
        }),
        case("Content-Encoding: gzip", Either(&["{blob}", "encoded"]), |asked, before| {
            once(asked, before, header("content-encoding", "gzip"))
        }),
        case("429 with Retry-After: 1", Right, |_, before| {
            (before == 0).then(|| Fault::Answer(reply(429, &[("Retry-After", "1")], b"")))
        }),
        case("500, 502, 503 in turn", Right, |asked, before| {
            asked.blob()?;
            [500, 502, 503].get(before).map(|code| status(*code))
        }),
        case("always 500", Refused(&["500", "{blob}"]), |asked, _| asked.blob().map(|_| status(500))),
        case("404 for a blob", Refused(&["{blob}", "not in the registry"]), |asked, _| asked.blob().map(|_| status(404))),
        case("403 for a blob", Refused(&["{blob}", "{host}"]), |asked, _| asked.blob().map(|_| status(403))),
        case("other content behind a cut", Either(&["{blob}"]), |asked, before| {
            behind_a_cut(asked, before, Fault::Corrupt { at: 0, len: u64::MAX })
        }),
        case("other content from a cut on, always", Refused(&["{blob}"]), |asked, before| {
            asked.blob()?;
            Some(if before == 0 { CUT } else { Fault::Corrupt { at: 0, len: u64::MAX } })
        }),
        of_configuration("the configuration cut", Right, |before| (before < 2).then_some(Fault::Cut { after: 50, reset: true })),
        of_configuration("a byte of the configuration always changed", Refused(&["{blob}"]), |_| {
            Some(Fault::Corrupt { at: 50, len: 1 })
        }),
        redirected("led to another host, cut there", |_, before| (before == 0).then_some(CUT)),
        redirected("led to another host, 500 there", |_, before| (before == 0).then(|| status(500))),
        redirected("led to another host by an address that is good once", |asked, before| {
            // A signature that is used up with the first request is refused with 403, as object stores do.
            if asked.target.ends_with("signed=0") && before > 0 { Some(status(403)) } else { (before == 0).then_some(CUT) }
        }),
        token_runs_out(),
    ]
}

/// Only the configuration is not as it should be.
fn of_configuration(name: &'static str, expect: Expect, plan: fn(usize) -> Option<Fault>) -> Case {
    let between = move |scene: &Scene| {
        let config = scene.sample.image.id().to_string();
        let plan = move |asked: &Asked, before| {
            let is_it = asked.blob() == Some(&config);
            is_it.then(|| plan(before)).flatten()
        };
        Between {
            proxy: Faulty::start(scene.server.address(), plan),
            other: None,
            _tokens: None,
            auth: None,
        }
    };
    Case {
        name,
        expect,
        between: Box::new(between),
    }
}

/// The registry wants a password, and leads to another host for every blob.
fn redirected(name: &'static str, there: Decide) -> Case {
    let between = move |scene: &Scene| {
        let server = scene.server.address();
        let other = Faulty::elsewhere("127.0.0.2", server, there);
        let host = other.address();
        let proxy = Faulty::start(server, move |asked, before| {
            if asked.header("authorization") != "Basic bWU6c2VjcmV0" {
                let challenge = [("WWW-Authenticate", "Basic realm=\"x\"")];
                return Some(Fault::Answer(reply(401, &challenge, b"")));
            }
            let target = format!("http://{host}{}?signed={before}", asked.target);
            let lead = || Fault::Answer(reply(307, &[("Location", &target)], b""));
            asked.blob().map(|_| lead())
        });
        Between {
            proxy,
            other: Some(other),
            _tokens: None,
            auth: Some("bWU6c2VjcmV0"),
        }
    };
    Case {
        name,
        expect: Right,
        between: Box::new(between),
    }
}

/// A blob's answer is cut, and the token that it was asked for with is good no more.
fn token_runs_out() -> Case {
    let between = |scene: &Scene| {
        let server = scene.server.address();
        let good = Arc::new(AtomicU32::new(0));
        let giver = good.clone();
        let tokens = Fake::start(move |_| {
            let number = giver.load(Ordering::SeqCst);
            let token = json!({ "token": format!("t{number}"), "expires_in": 300 });
            reply(200, &[], token.to_string().as_bytes())
        });
        let realm = tokens.address();
        let proxy = Faulty::start(server, move |asked, _| {
            let wanted = format!("Bearer t{}", good.load(Ordering::SeqCst));
            if asked.header("authorization") != wanted {
                let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"x\"");
                let challenge = [("WWW-Authenticate", challenge.as_str())];
                return Some(Fault::Answer(reply(401, &challenge, b"")));
            }
            asked.blob()?;
            // The first token is good for the first blob only, whatever it was promised to be.
            let first = good.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
            first.ok().map(|_| CUT)
        });
        Between {
            proxy,
            other: None,
            _tokens: Some(tokens),
            auth: None,
        }
    };
    Case {
        name: "401 in mid-transfer: the token has run out",
        expect: Right,
        between: Box::new(between),
    }
}
