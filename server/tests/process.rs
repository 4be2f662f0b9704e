//! The `stratad` program: how it starts, how it refuses to, how it ends, and what a kill leaves.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Connection, content};
use rustix::process::{Pid, Signal, kill_process};
use strata_oci::Digest;

struct Stratad {
    child: Child,
    address: SocketAddr,
    stderr: Option<BufReader<ChildStderr>>,
}

fn command(data: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratad"));
    command
        .args(["serve", "--listen", listen, "--data"])
        .arg(data);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.env_remove("RUST_LOG");
    command
}

impl Stratad {
    fn start(data: &Path) -> Self {
        let mut child = command(data, "127.0.0.1:0").spawn().expect("start");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("line");
        let address = line.trim().strip_prefix("stratad: listening on http://");
        let address = address.unwrap_or_else(|| panic!("{line}"));
        let address = address.parse().expect("address");
        line.clear();
        stderr.read_line(&mut line).expect("line");
        assert_eq!(line.trim(), format!("stratad: data in {}", data.display()));
        Self {
            child,
            address,
            stderr: Some(stderr),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("pid"), signal).expect("kill");
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> common::Reply {
        Connection::new(self.address).send(method, path, &[], body)
    }
}

impl Drop for Stratad {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The message of a server that does not start.
fn refusal(mut command: Command) -> String {
    let output = command.output().expect("run");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_ends_well_when_asked_to() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut server = Stratad::start(&dir.path().join("new/data"));
        // A client that keeps its connection open does not hold the server up.
        let mut idle = Connection::new(server.address);
        assert_eq!(idle.send("GET", "/v2/", &[], b"").status, 200);
        server.signal(signal);
        assert_eq!(server.child.wait().expect("wait").code(), Some(0));
    }
}

#[test]
fn a_closed_stderr_does_not_end_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut server = Stratad::start(dir.path());
    server.stderr = None;
    let mut connection = Connection::new(server.address);
    assert_eq!(connection.send("GET", "/v2/", &[], b"").status, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.child.wait().expect("wait").code(), Some(0));
}

#[test]
fn it_says_why_it_does_not_start() {
    let dir = tempfile::tempdir().expect("tempdir");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("address").to_string();
    let message = refusal(command(dir.path(), &address));
    assert!(
        message.contains(&address) && message.contains("in use"),
        "{message}"
    );

    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("write");
    let message = refusal(command(&file, "127.0.0.1:0"));
    assert!(
        message.contains("data directory") && message.contains("file"),
        "{message}"
    );

    let data = dir.path().join("data");
    let first = Stratad::start(&data);
    let message = refusal(command(&data, "127.0.0.1:0"));
    assert!(message.contains("in use by another stratad"), "{message}");
    drop(first);

    let db = rusqlite::Connection::open(data.join("stratad.db")).expect("open");
    let newer = "UPDATE refinery_schema_history SET version = 4000
        WHERE version = (SELECT max(version) FROM refinery_schema_history)";
    db.execute(newer, []).expect("update");
    drop(db);
    let message = refusal(command(&data, "127.0.0.1:0"));
    assert!(
        message.contains("4000") && message.contains("newer"),
        "{message}"
    );
}

#[test]
fn a_kill_in_the_middle_of_an_upload_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().expect("tempdir");
    let server = Stratad::start(dir.path());
    let bytes = content(900_000);
    let digest = Digest::of(&bytes);
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"kept"));
    assert_eq!(server.send("POST", &path, b"kept").status, 201);
    let started = server.send("POST", "/v2/a/blobs/uploads/", b"");
    let location = started.header("location").to_owned();
    assert_eq!(
        server.send("PATCH", &location, &bytes[..300_000]).status,
        202
    );
    let mut connection = Connection::new(server.address);
    connection.head("PATCH", &location, &[("Content-Length", "600000")]);
    connection.write(&bytes[300_000..700_000]);
    thread::sleep(Duration::from_millis(100));
    server.signal(Signal::KILL);
    drop(server);

    let server = Stratad::start(dir.path());
    let kept = server.send("GET", &format!("/v2/a/blobs/{}", Digest::of(b"kept")), b"");
    assert_eq!(kept.body, b"kept");
    let status = server.send("GET", &location, b"");
    assert_eq!((status.status, status.header("range")), (204, "0-299999"));
    let path = format!("{location}?digest={digest}");
    assert_eq!(server.send("PUT", &path, &bytes[300_000..]).status, 201);
    let reply = server.send("GET", &format!("/v2/a/blobs/{digest}"), b"");
    assert!(reply.body == bytes);
}

#[test]
fn nothing_is_logged_when_all_is_well() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut server = Stratad::start(dir.path());
    assert_eq!(server.send("GET", "/v2/none/tags/list", b"").status, 404);
    server.signal(Signal::TERM);
    let mut rest = String::new();
    let mut stderr = server.stderr.take().expect("stderr");
    stderr.read_to_string(&mut rest).expect("stderr");
    assert_eq!(rest, "stratad: stopping\nstratad: stopped\n");
}

/// The most memory that a process had, in megabytes.
fn peak(process: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
    let status = status.expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes.expect("VmHWM").parse::<u64>().expect("number") / 1024
}

#[test]
fn memory_does_not_grow_with_what_many_clients_send_and_take_at_once() {
    const CLIENTS: usize = 64;
    let dir = tempfile::tempdir().expect("tempdir");
    let server = Stratad::start(dir.path());
    let bytes = content(8_000_000);
    let digest = Digest::of(&bytes);
    let all = std::sync::Barrier::new(CLIENTS);
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (server, bytes, digest, all) = (&server, &bytes, &digest, &all);
            scope.spawn(move || {
                let path = format!("/v2/r{n}/blobs/uploads/");
                let location = server
                    .send("POST", &path, b"")
                    .header("location")
                    .to_owned();
                let mut connection = Connection::new(server.address);
                let length = bytes.len().to_string();
                let path = format!("{location}?digest={digest}");
                connection.head("PUT", &path, &[("Content-Length", &length)]);
                // All are in the middle at once.
                connection.write(&bytes[..6_000_000]);
                all.wait();
                connection.write(&bytes[6_000_000..]);
                assert_eq!(connection.reply(false).map(|r| r.status), Some(201));
                let mut connection = Connection::new(server.address);
                connection.head("GET", &format!("/v2/r{n}/blobs/{digest}"), &[]);
                // None is read before all have been asked for.
                all.wait();
                let reply = connection.reply(false).expect("a reply");
                assert!(reply.body == *bytes);
            });
        }
    });
    let peak = peak(&server.child);
    // 512 MB came and went.
    assert!(peak < 160, "{peak} MB");
}
