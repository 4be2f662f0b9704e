//! The program and its configuration: looked at, served with, read anew, and told to a service manager.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Connection, OCI_IMAGE, image};
use rustix::process::{Pid, Signal, kill_process};
use strata_oci::Digest;

/// How long anything may take.
const LONG: Duration = Duration::from_secs(30);

/// The program, without what this machine's environment would tell it.
fn stratad(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratad"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STRATAD_") {
            command.env_remove(name);
        }
    }
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

struct Serving {
    child: Child,
    lines: Receiver<String>,
    addresses: Vec<SocketAddr>,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("start");
        let stderr = BufReader::new(child.stderr.take().expect("stderr"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut serving = Self {
            child,
            lines,
            addresses: Vec::new(),
        };
        let said = serving.until("data in");
        let addresses = said
            .iter()
            .filter_map(|line| line.split_once("listening on http://"));
        serving.addresses = addresses
            .map(|(_, address)| address.parse().expect("address"))
            .collect();
        serving
    }

    /// The lines up to the one that has these words.
    fn until(&self, words: &str) -> Vec<String> {
        let mut said = Vec::new();
        let end = Instant::now() + LONG;
        loop {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => said.push(line),
                Err(_) => panic!("{words:?} is not said:\n{}", said.join("\n")),
            }
            if said.last().is_some_and(|line| line.contains(words)) {
                return said;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("kill");
    }

    /// The status of a push of a manifest whose blobs are not there.
    fn push_sparse(&self, tag: &str) -> u16 {
        let text = image(&Digest::of(b"absent"), "");
        let path = format!("/v2/a/manifests/{tag}");
        let headers = [("Content-Type", OCI_IMAGE)];
        let mut connection = Connection::new(self.addresses[0]);
        connection
            .send("PUT", &path, &headers, text.as_bytes())
            .status
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("stratad.toml");
    fs::write(&path, text).expect("write");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn check_says_every_mistake_and_serve_refuses_them() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = write(
        dir.path(),
        "[http]\nlisten = \"127.0.0.1:0\"\n[limits]\nconections = 5\n",
    );
    let expected = format!(
        "stratad: {}:4:1: unknown key \"conections\" in [limits]; did you mean \"connections\"?\nstratad: STRATAD_LOG_LEVEL: ",
        path.display()
    );
    for command in [&["config", "check"][..], &["serve"], &["config", "show"]] {
        let mut command = stratad(command);
        command.args(["--config", text(&path)]);
        let output = command.args(["--log-level", "loud"]).output();
        // What was typed wrong is told before anything is read.
        assert_eq!(output.expect("run").status.code(), Some(2));
    }
    for command in [&["config", "check"][..], &["serve"], &["config", "show"]] {
        let mut command = stratad(command);
        command.args(["--config", text(&path)]);
        command.env("STRATAD_LOG_LEVEL", "loud");
        let output = command.output().expect("run");
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).starts_with(&expected), "{}", err(&output));
        assert_eq!(out(&output), "");
    }
    write(dir.path(), "[limits]\nconnections = 5\n");
    let mut right = stratad(&["config", "check"]);
    let output = right
        .env("STRATAD_CONFIG", &path)
        .env("STRATAD_LISTN", "x")
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(out(&output), format!("{} is in order\n", path.display()));
    assert!(
        err(&output).contains("did you mean STRATAD_LISTEN?"),
        "{}",
        err(&output)
    );
}

#[test]
fn show_prints_what_is_in_force_and_where_it_is_from() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = write(dir.path(), "[storage]\ndata = \"/data\"\nsparse = false\n");
    let mut command = stratad(&["config", "show", "--format", "json", "--sparse"]);
    command.args([
        "--config",
        text(&path),
        "--listen",
        "[::1]:7",
        "--listen",
        "[::1]:8",
    ]);
    let output = command
        .env("STRATAD_LISTEN", "[::1]:9")
        .output()
        .expect("run");
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        shown["http"]["listen"]["value"],
        serde_json::json!(["[::1]:7", "[::1]:8"])
    );
    assert_eq!(shown["http"]["listen"]["source"], "--listen");
    assert_eq!(shown["storage"]["data"]["value"], "/data");
    assert_eq!(
        shown["storage"]["data"]["source"],
        format!("{}:2", path.display())
    );
    assert_eq!(shown["storage"]["sparse"]["value"], true);
    let toml = stratad(&["config", "show", "--config", text(&path)])
        .output()
        .expect("run");
    let again = write(dir.path(), &out(&toml));
    let toml = out(&toml);
    assert!(toml.contains("data = \"/data\""), "{toml}");
    let again = stratad(&["config", "check", "--config", text(&again)])
        .output()
        .expect("run");
    assert_eq!(again.status.code(), Some(0), "{}", err(&again));
}

#[test]
fn help_names_the_flags_with_their_variables_and_defaults() {
    let help = out(&stratad(&["serve", "--help"]).output().expect("run"));
    for words in [
        "--config <FILE>",
        "--listen <ADDR:PORT,…>",
        "[env: STRATAD_LISTEN]",
        "[default: 127.0.0.1:5000]",
        "--admin-listen",
        "--sparse",
        "--log-level <LEVEL>",
        "--log-format <human|json>",
    ] {
        assert!(help.contains(words), "{words}\n{help}");
    }
}

#[test]
fn a_hangup_reads_the_file_anew_and_a_wrong_file_changes_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let data = dir.path().join("data");
    let begin = format!("[storage]\ndata = {data:?}\n");
    let listen = |port| format!("[http]\nlisten = \"127.0.0.1:{port}\"\n");
    let path = write(dir.path(), &format!("{begin}{}", listen(0)));
    let serving = Serving::start(stratad(&["serve", "--config", text(&path)]));
    assert_eq!(serving.push_sparse("one"), 404);

    write(dir.path(), &format!("{begin}sparse = true\n{}", listen(1)));
    serving.signal(Signal::HUP);
    let said = serving.until("configuration read").join("\n");
    assert!(
        said.contains("storage.sparse is now true, was false"),
        "{said}"
    );
    assert!(
        said.contains("http.listen stays") && said.contains("restart"),
        "{said}"
    );
    assert_eq!(serving.push_sparse("one"), 201);

    write(
        dir.path(),
        &format!("{begin}sparse = false\nspars = true\n"),
    );
    serving.signal(Signal::HUP);
    let said = serving.until("stays as it was").join("\n");
    assert!(said.contains("stratad.toml:4:1: unknown key"), "{said}");
    assert_eq!(serving.push_sparse("two"), 201);

    fs::remove_file(&path).expect("remove");
    serving.signal(Signal::HUP);
    let said = serving.until("stays as it was").join("\n");
    assert!(said.contains("no such file"), "{said}");
    assert_eq!(serving.push_sparse("three"), 201);
}

#[test]
fn a_hangup_changes_the_level_of_the_log() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = write(dir.path(), "[log]\nlevel = \"off\"\n");
    let mut command = stratad(&["serve", "--listen", "127.0.0.1:0", "--config", text(&path)]);
    command.env("STRATAD_DATA", dir.path().join("data"));
    let serving = Serving::start(command);
    write(dir.path(), "[log]\nlevel = \"info\"\n");
    serving.signal(Signal::HUP);
    serving.until("log.level is now \"info\", was \"off\"");
    write(dir.path(), "[log]\nlevel = \"off\"\n");
    serving.signal(Signal::HUP);
    // What is off says nothing about itself: the next to be said is the end.
    serving.signal(Signal::HUP);
    serving.signal(Signal::TERM);
    let said = serving.until("stopped").join("\n");
    assert!(!said.contains("log.level"), "{said}");
}

#[test]
fn a_service_manager_is_told_of_the_start_a_reload_and_the_end() {
    let dir = tempfile::tempdir().expect("tempdir");
    let socket = UnixDatagram::bind(dir.path().join("notify")).expect("bind");
    socket.set_read_timeout(Some(LONG)).expect("timeout");
    let told = || {
        let mut bytes = [0; 200];
        let length = socket.recv(&mut bytes).expect("told");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let path = write(dir.path(), "");
    let mut command = stratad(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--config",
        text(&path),
        "--data",
    ]);
    command
        .arg(dir.path().join("data"))
        .env("NOTIFY_SOCKET", dir.path().join("notify"));
    let mut serving = Serving::start(command);
    assert_eq!(told(), "READY=1");
    for text in ["[log]\nlevel = \"warn\"\n", "wrong"] {
        write(dir.path(), text);
        serving.signal(Signal::HUP);
        let reloading = told();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let micros: u64 = micros.unwrap_or_default().parse().expect("a number");
        assert!(micros > 0, "{reloading}");
        assert_eq!(told(), "READY=1");
    }
    serving.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(serving.child.wait().expect("wait").code(), Some(0));
}

#[test]
fn several_addresses_are_served_and_their_health_is_told() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut command = stratad(&["serve", "--listen", "127.0.0.1:0,[::1]:0", "--data"]);
    command.arg(dir.path());
    let serving = Serving::start(command);
    assert_eq!(serving.addresses.len(), 2);
    for address in &serving.addresses {
        let status = Connection::new(*address)
            .send("GET", "/v2/", &[], b"")
            .status;
        assert_eq!(status, 200);
        let mut own = stratad(&["health"]);
        let output = own
            .env("STRATAD_LISTEN", address.to_string())
            .output()
            .expect("run");
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let url = format!("http://{address}/v2/none/tags/list");
        let output = stratad(&["health", "--url", &url]).output().expect("run");
        assert_eq!(output.status.code(), Some(1));
        assert!(
            err(&output).contains("answers 404: {\"errors\""),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn a_server_that_is_not_there_is_not_well() {
    let free = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = free.local_addr().expect("address").to_string();
    drop(free);
    let output = stratad(&["health", "--listen", &address])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("cannot reach http://127.0.0.1"),
        "{}",
        err(&output)
    );
}
