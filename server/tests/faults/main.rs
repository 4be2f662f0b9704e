//! Disks that fail: at every step of everything that a client does, in turn. The client is told so in the
//! protocol's words, nothing that was acknowledged is lost, and the server goes on when the fault is over.

#[path = "../common/mod.rs"]
mod common;
mod faulty;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use common::{Connection, OCI_IMAGE, Reply, content, image};
use faulty::{Fault, Faults, Faulty, When};
use strata_oci::Digest;
use stratad::blob::Disk;
use stratad::meta::Sqlite;
use stratad::{Config, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// More steps than anything takes.
const MOST: usize = 40;

struct Registry {
    address: std::net::SocketAddr,
    faults: Arc<Faults>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let config = Config::new(dir.path());
        let faults = Arc::new(Faults::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let (send, address) = std::sync::mpsc::channel();
        let (data, plan) = (dir.path().to_owned(), Arc::clone(&faults));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
                let grace = Box::new(|| Duration::from_secs(3600));
                let meta = Sqlite::open(&data.join("stratad.db"), grace).expect("open");
                let blobs = Disk::open(&data).expect("open");
                let faults = Arc::clone(&plan);
                let meta = Arc::new(Faulty {
                    inner: meta,
                    faults,
                });
                let blobs = Arc::new(Faulty {
                    inner: blobs,
                    faults: plan,
                });
                let server = Server::open_with(config, meta, blobs).await.expect("open");
                let address = listener.local_addr().expect("address");
                send.send(address).expect("send");
                let shutdown = async {
                    let _ = stopped.await;
                };
                server.serve(listener, shutdown).await;
            });
        });
        let address = address.recv().expect("the server starts");
        Self {
            address,
            faults,
            stop: Some(stop),
            thread: Some(thread),
            dir,
        }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        Connection::new(self.address).send(method, path, headers, body)
    }

    fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("started").expect("the server ends well");
            let wrong = unsound(&self.dir.path().join("stratad.db"));
            assert_eq!(wrong, 0, "the database is damaged");
        }
    }
}

/// What SQLite finds wrong.
fn unsound(path: &std::path::Path) -> i64 {
    let db = rusqlite::Connection::open(path).expect("open");
    let sql = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'";
    db.query_row(sql, [], |row| row.get(0)).expect("count")
}

/// What a client does, until the first refusal; the bytes that are there afterwards are at `Some(path)`.
type Scene = fn(&Registry, number: u8) -> Result<(), Reply>;

/// A reply that is as it should be, or one that says that the registry has failed.
fn expect(reply: Reply, status: u16) -> Result<Reply, Reply> {
    if reply.status == status {
        Ok(reply)
    } else {
        Err(reply)
    }
}

fn bytes(number: u8) -> Vec<u8> {
    let mut bytes = content(200_000);
    bytes[0] = number;
    bytes
}

fn is_served(registry: &Registry, repository: &str, bytes: &[u8]) {
    let path = format!("/v2/{repository}/blobs/{}", Digest::of(bytes));
    let reply = registry.get(&path);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.body == bytes, "other bytes");
}

fn push_whole(registry: &Registry, repository: &str, bytes: &[u8]) -> Result<(), Reply> {
    let digest = Digest::of(bytes);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    expect(registry.send("POST", &path, &[], bytes), 201).map(drop)
}

fn pushes_whole(registry: &Registry, number: u8) -> Result<(), Reply> {
    push_whole(registry, "whole", &bytes(number))
}

/// In chunks, going on as the server says after every failure; a session that is gone begins anew.
fn pushes_in_chunks(registry: &Registry, number: u8) -> Result<(), Reply> {
    let bytes = bytes(number);
    let path = "/v2/chunks/blobs/uploads/";
    let start = expect(registry.send("POST", path, &[], b""), 202)?;
    let location = start.header("location").to_owned();
    let outcome = go_on(registry, &location, &bytes, 0);
    let Err(refused) = outcome else {
        return Ok(());
    };
    // The fault was one step long: from here on all goes well.
    let status = registry.get(&location);
    let at = match status.status {
        204 => match status.header("range") {
            "0-0" => 0,
            range => range["0-".len()..].parse::<usize>().expect("a number") + 1,
        },
        404 => {
            push_whole(registry, "chunks", &bytes).expect("pushed anew");
            return Err(refused);
        }
        _ => panic!("{}", status.text()),
    };
    go_on(registry, &location, &bytes, at).expect("gone on with");
    is_served(registry, "chunks", &bytes);
    Err(refused)
}

fn go_on(registry: &Registry, location: &str, bytes: &[u8], from: usize) -> Result<(), Reply> {
    let mut at = from;
    for to in [70_000, 140_000] {
        if at < to {
            let patch = registry.send("PATCH", location, &[], &bytes[at..to]);
            expect(patch, 202)?;
            at = to;
        }
    }
    let path = format!("{location}?digest={}", Digest::of(bytes));
    expect(registry.send("PUT", &path, &[], &bytes[at..]), 201).map(drop)
}

fn mounts(registry: &Registry, number: u8) -> Result<(), Reply> {
    let digest = Digest::of(&bytes(number));
    let path = format!("/v2/mounts/blobs/uploads/?mount={digest}&from=kept");
    expect(registry.send("POST", &path, &[], b""), 201).map(drop)
}

fn puts_a_manifest(registry: &Registry, number: u8) -> Result<(), Reply> {
    let text = image(&Digest::of(&bytes(number)), "");
    let headers = [("Content-Type", OCI_IMAGE)];
    let path = format!("/v2/kept/manifests/v{number}");
    expect(registry.send("PUT", &path, &headers, text.as_bytes()), 201)?;
    let reply = expect(registry.get(&path), 200)?;
    assert_eq!(reply.text(), text);
    Ok(())
}

fn deletes(registry: &Registry, number: u8) -> Result<(), Reply> {
    let bytes = bytes(number);
    push_whole(registry, "deleted", &bytes)?;
    let text = image(&Digest::of(&bytes), "");
    let headers = [("Content-Type", OCI_IMAGE)];
    let path = format!("/v2/deleted/manifests/v{number}");
    expect(registry.send("PUT", &path, &headers, text.as_bytes()), 201)?;
    let digest = Digest::of(text.as_bytes());
    for path in [
        path,
        format!("/v2/deleted/manifests/{digest}"),
        format!("/v2/deleted/blobs/{}", Digest::of(&bytes)),
    ] {
        expect(registry.send("DELETE", &path, &[], b""), 202)?;
        expect(registry.get(&path), 404)?;
    }
    Ok(())
}

fn reads(registry: &Registry, number: u8) -> Result<(), Reply> {
    let blob = format!("/v2/kept/blobs/{}", Digest::of(&bytes(number)));
    expect(registry.get(&blob), 200)?;
    let head = registry.send("HEAD", &blob, &[], b"");
    if head.status != 200 {
        assert!(head.status >= 500, "{head:?}");
    }
    expect(registry.get("/v2/kept/tags/list"), 200)?;
    expect(registry.get("/v2/_catalog"), 200).map(drop)
}

/// Fails each step of a scene once, with each fault. Returns how many failures clients were told of.
fn fail_each_step(registry: &Registry, scene: Scene, after: &dyn Fn(u8)) -> usize {
    let faults = [Fault::Full, Fault::Broken, Fault::ReadOnly, Fault::Unsynced];
    let (mut number, mut told) = (0, 0);
    for fault in faults {
        for when in [When::Before, When::After] {
            for step in 0..=MOST {
                assert!(step < MOST, "a scene without an end");
                number += 1;
                let kept = bytes(number);
                push_whole(registry, "kept", &kept).expect("kept");
                registry.faults.plan(step, fault, when);
                let outcome = scene(registry, number);
                let failed = registry.faults.end();
                let story = format!("{fault:?} {when:?} step {step}, {failed:?}");
                match (&outcome, failed) {
                    (Ok(()), None) => break,
                    // What was acknowledged before is swept, or told by the next request.
                    (Ok(()), Some("abort" | "hold_blob" | "drop_upload")) => {}
                    (Ok(()), Some(_)) => panic!("{story}: nobody was told"),
                    (Err(reply), failed) => {
                        failed.unwrap_or_else(|| {
                            panic!("{story}: {} {}", reply.status, reply.text())
                        });
                        let expected = match fault {
                            Fault::Full => 507,
                            Fault::ReadOnly => 503,
                            Fault::Broken | Fault::Unsynced => 500,
                        };
                        assert_eq!(reply.status, expected, "{story}: {reply:?}");
                        assert_eq!(reply.header("content-type"), "application/json");
                        let (_, code) = reply.refusal();
                        assert!(
                            !code.is_empty() && !reply.text().contains("injected"),
                            "{story}"
                        );
                        told += 1;
                    }
                }
                is_served(registry, "kept", &kept);
                // The same again, without a fault.
                after(number);
            }
        }
    }
    told
}

#[test]
fn a_push_that_fails_at_any_step_is_told_and_can_be_done_again() {
    let registry = Registry::start();
    let told = fail_each_step(&registry, pushes_whole, &|number| {
        pushes_whole(&registry, number).expect("pushed");
        is_served(&registry, "whole", &bytes(number));
    });
    assert!(told >= 3 * 8, "{told}");
}

#[test]
fn a_chunked_push_that_fails_at_any_step_goes_on_or_begins_anew() {
    let registry = Registry::start();
    let told = fail_each_step(&registry, pushes_in_chunks, &|number| {
        pushes_in_chunks(&registry, number).expect("pushed");
        is_served(&registry, "chunks", &bytes(number));
    });
    assert!(told >= 9 * 8, "{told}");
}

#[test]
fn a_mount_a_manifest_a_deletion_or_a_read_that_fails_is_told_and_works_afterwards() {
    let registry = Registry::start();
    let told = fail_each_step(&registry, mounts, &|number| {
        mounts(&registry, number).expect("mounted");
        is_served(&registry, "mounts", &bytes(number));
    });
    assert!(told >= 8, "{told}");
    let told = fail_each_step(&registry, puts_a_manifest, &|number| {
        puts_a_manifest(&registry, number).expect("put");
    });
    assert!(told >= 2 * 8, "{told}");
    let told = fail_each_step(&registry, deletes, &|number| {
        deletes(&registry, number).expect("deleted");
    });
    assert!(told >= 6 * 8, "{told}");
    let told = fail_each_step(&registry, reads, &|number| {
        reads(&registry, number).expect("read");
    });
    assert!(told >= 3 * 8, "{told}");
}

/// A failed fsync must not be tried again: the second would say that all is well.
#[test]
fn an_upload_whose_sync_failed_does_not_go_on() {
    let registry = Registry::start();
    let start = registry.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    let location = start.header("location").to_owned();
    let patch = registry.send("PATCH", &location, &[], b"first");
    assert_eq!(patch.status, 202);
    // The session's row, then its bytes.
    registry.faults.plan(1, Fault::Unsynced, When::After);
    let patch = registry.send("PATCH", &location, &[], b"second");
    assert_eq!(registry.faults.end(), Some("append"));
    assert_eq!(patch.status, 500, "{}", patch.text());
    let status = registry.get(&location);
    status.expect_refusal(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(common::files(&registry.dir.path().join("uploads")), 0);
}
