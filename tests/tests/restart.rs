//! What is acknowledged stays: over a restart, over kill -9 in the middle of an upload; and a server that
//! cannot start says why.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use strata_oci::digest::Digest;
use strata_tests::binaries::binary;
use strata_tests::command::{Ran, run};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::program;
use strata_tests::strata::Strata;
use strata_tests::stratad::{Stratad, serve};
use strata_tests::user::{User, need_root};

fn image() -> Image {
    Image::new(&[
        Layer::of(&[Entry::file("a", "a")]),
        Layer::of(&[Entry::file("b", "b")]),
    ])
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Runs a server that must not start.
fn does_not_start(place: &Place, listen: SocketAddr) -> Ran {
    let ran = run(&mut serve(&binary("stratad"), &place.join("data"), listen));
    assert!(
        !ran.status.success() && !ran.stderr.contains("panicked"),
        "{}",
        ran.story()
    );
    ran
}

#[test]
fn a_restart_between_push_and_pull() {
    let place = Place::new();
    let mut server = Stratad::start(&place.join("data"));
    let image = image();
    let reference = server.api().push(&image, "app", "v1");
    let upload = server
        .api()
        .append(&server.api().start("app"), b"begun before ");
    assert!(server.stop().success(), "SIGTERM is a clean end");
    server.start_again();
    let pulled = Strata::new(&place).pull(&reference);
    assert_eq!(pulled.digest, image.digest.to_string());
    // An upload that was under way goes on.
    let digest = Digest::of(b"begun before and ended after").to_string();
    server
        .api()
        .finish(&upload, &digest, b"and ended after")
        .expect(201);
}

#[test]
fn kill_9_in_the_middle_of_uploads_loses_nothing_acknowledged() {
    let place = Place::new();
    let mut server = Stratad::start(&place.join("data"));
    let api = server.api();
    let image = image();
    let mut acknowledged = vec![api.push_blob("app", b"acknowledged")];
    let upload = api.append(&api.start("app"), &[b'x'; 100_000]);
    for round in 0..5u8 {
        // A body that is under way when the power goes.
        let content = [
            ("Content-Length", "10000000"),
            ("Content-Type", "application/octet-stream"),
        ];
        let head = api.0.head("PATCH", &api.start("app"), &content) + "\r\n";
        let mut stream = api.0.connect();
        stream.write_all(head.as_bytes()).expect("write");
        stream
            .write_all(&vec![round; 1_000_000 * usize::from(round)])
            .expect("write");
        acknowledged.push(api.push_blob("app", &vec![round; 50_000]));
        std::thread::sleep(Duration::from_millis(20 * u64::from(round)));
        server.kill();
        server.start_again();
        for digest in &acknowledged {
            let blob = api.blob("app", digest).expect(200).body;
            assert!(digest.matches(&blob), "{digest} is not what was pushed");
        }
    }
    // The one upload whose offset was acknowledged goes on from there.
    let path = upload.split('?').next().expect("a path");
    let status = api.0.send("GET", path, &[], b"").expect(204);
    assert_eq!(status.header("range"), Some("0-99999"));
    let whole = [vec![b'x'; 100_000], b"end".to_vec()].concat();
    let next = strata_tests::api::location(&status);
    api.finish(&next, &Digest::of(&whole).to_string(), b"end")
        .expect(201);
    api.push(&image, "app", "v1");
    assert_eq!(
        Strata::new(&place)
            .pull(&server.reference("app", "v1"))
            .layers
            .len(),
        2
    );
}

#[test]
fn a_client_that_pushes_while_the_server_is_killed_can_push_again() {
    let place = Place::new();
    let mut server = Stratad::start(&place.join("data"));
    let strata = Strata::new(&place);
    let random: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let image = Image::new(&[Layer::new(
        &strata_tests::entry::tar(&[Entry::file("big", random)]),
        strata_tests::entry::Compression::Plain,
    )]);
    image
        .write_layout(&place.dir("layout"), "v1")
        .expect("write");
    let source = format!("oci:{}:v1", place.join("layout").display());
    let target = server.reference("app", "v1");
    for wait in [1, 5, 20] {
        let push =
            strata_tests::command::Running::start(&mut strata.command(&["push", &source, &target]));
        std::thread::sleep(Duration::from_millis(wait));
        server.kill();
        server.start_again();
        let _ = push.wait();
    }
    strata.run(&["push", &source, &target]).ok();
    assert_eq!(strata.pull(&target).digest, image.digest.to_string());
}

#[test]
fn the_port_is_free_after_the_end() {
    let place = Place::new();
    let mut server = Stratad::start(&place.join("data"));
    let address = server.address();
    assert!(server.stop().success());
    drop(TcpListener::bind(address).expect("free"));
}

#[test]
fn an_address_in_use_is_named() {
    let place = Place::new();
    let taken = TcpListener::bind(any_port()).expect("bind");
    let address = taken.local_addr().expect("address");
    let ran = does_not_start(&place, address);
    ran.says(&address.to_string());
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let place = Place::new();
    fs::write(place.join("data"), "a file").expect("write");
    does_not_start(&place, any_port()).says("data");
    need_root();
    let user = User::new(&place, 61_001);
    let stratad = place.join("stratad");
    program::copy(&binary("stratad"), &stratad);
    let closed = place.dir("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    let mut command = user.command(&stratad);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&closed);
    let ran = run(&mut command);
    assert!(
        !ran.status.success() && !ran.stderr.contains("panicked"),
        "{}",
        ran.story()
    );
    ran.says("closed");
}

#[test]
fn two_servers_do_not_share_a_data_directory() {
    let place = Place::new();
    let _server = Stratad::start(&place.join("data"));
    does_not_start(&place, any_port());
}

#[test]
fn a_database_of_a_newer_server_is_refused() {
    let place = Place::new();
    let mut server = Stratad::start(&place.join("data"));
    assert!(server.stop().success());
    let files = fs::read_dir(place.join("data"))
        .expect("list")
        .flatten()
        .map(|e| e.path());
    let mut databases =
        files.filter(|path| path.extension().is_some_and(|e| e == "db" || e == "sqlite"));
    let database = databases.next().expect("a database in the data directory");
    let connection = rusqlite::Connection::open(database).expect("open");
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (9999, 'from_the_future', '2030-01-01T00:00:00Z', '1')";
    connection.execute(newer, []).expect("insert");
    drop(connection);
    does_not_start(&place, any_port()).says("newer");
}

#[test]
fn a_damaged_database_is_refused_and_not_replaced() {
    let place = Place::new();
    let mut server = Stratad::start(&place.join("data"));
    server.api().push(&image(), "app", "v1");
    assert!(server.stop().success());
    let files = fs::read_dir(place.join("data"))
        .expect("list")
        .flatten()
        .map(|e| e.path());
    let mut databases =
        files.filter(|path| path.extension().is_some_and(|e| e == "db" || e == "sqlite"));
    let database = databases.next().expect("a database in the data directory");
    // The journal could mend it.
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", database.display()));
    }
    fs::write(
        &database,
        "this is not a database, it is a note of more than a hundred bytes: ".repeat(3),
    )
    .expect("write");
    let ran = does_not_start(&place, any_port());
    ran.says(&database.file_name().expect("named").to_string_lossy());
    assert!(
        fs::read(&database)
            .expect("read")
            .starts_with(b"this is not")
    );
}

#[test]
fn usage_errors_are_told_apart() {
    let program = binary("stratad");
    let mut command = std::process::Command::new(&program);
    let ran = run(command.args(["serve", "--listen", "not-an-address"]));
    assert_eq!(ran.code(), 2, "{}", ran.story());
    let ran = run(std::process::Command::new(&program).arg("--version")).ok();
    assert!(
        ran.out().contains(env!("CARGO_PKG_VERSION")),
        "{}",
        ran.story()
    );
    let ran = run(std::process::Command::new(binary("strata")).arg("no-such-command"));
    assert_eq!(ran.code(), 2, "{}", ran.story());
}
