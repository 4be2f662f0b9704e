//! A registry server of a test's own: the real `stratad`, on a free port, ended with its owner.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::api::Api;
use crate::binaries::binary;
use crate::http::Http;

/// A server under way.
pub struct Stratad {
    process: Option<Child>,
    command: PathBuf,
    data: PathBuf,
    options: Vec<String>,
    settings: Vec<(String, String)>,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Stratad {
    /// Starts a server on a free port with its data in `data`.
    #[track_caller]
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// [`Stratad::start`] with more options of `stratad serve`.
    #[track_caller]
    pub fn start_with(data: &Path, options: &[&str]) -> Self {
        match Self::launch_with(&binary("stratad"), data, options) {
            Ok(server) => server,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// [`Stratad::start`] with the program's path, for those who handle the error.
    pub fn launch(command: &Path, data: &Path) -> Result<Self> {
        Self::launch_with(command, data, &[])
    }

    /// A server that collects what no manifest names after `grace` seconds, and looks for it every second.
    pub fn launch_collecting(command: &Path, data: &Path, grace: u64) -> Result<Self> {
        let grace = format!("{grace}s");
        let settings = [("STRATAD_GC_INTERVAL", "1s"), ("STRATAD_GC_GRACE", &grace)];
        Self::launch_set(command, data, &[], &settings)
    }

    fn launch_with(command: &Path, data: &Path, options: &[&str]) -> Result<Self> {
        Self::launch_set(command, data, options, &[])
    }

    /// [`Stratad::launch`] with more options, and settings in the environment.
    pub fn launch_set(
        command: &Path,
        data: &Path,
        options: &[&str],
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let log = Arc::new(Mutex::new(String::new()));
        let settings: Vec<(String, String)> = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut serve = serve(command, data, any);
        serve.args(&options).envs(settings.iter().cloned());
        let (process, address) = spawn(&mut serve, &log)?;
        Ok(Self {
            process: Some(process),
            command: command.to_owned(),
            data: data.to_owned(),
            options,
            settings,
            address,
            log,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its admin listener, which an option must ask for.
    #[track_caller]
    pub fn admin(&self) -> Http {
        let log = self.log();
        let told = log
            .lines()
            .find_map(|line| address_after(line, "health on "));
        Http::new(told.unwrap_or_else(|| panic!("no admin listener:\n{log}")))
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The protocol, spoken to it by hand.
    pub fn api(&self) -> Api {
        Api(Http::new(self.address))
    }

    /// The reference of an image on it.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        self.api().reference(repository, tag)
    }

    /// All that it has printed so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("log").clone()
    }

    /// Where a blob is on its disk (the data directory's documented form).
    pub fn blob_path(&self, digest: &strata_oci::digest::Digest) -> PathBuf {
        let hex = digest.hex();
        self.data.join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// The number of blobs on its disk and of bytes in them.
    pub fn stored(&self) -> (usize, u64) {
        let mut files = (0, 0);
        count(&self.data.join("blobs"), &mut files);
        files
    }

    /// The most memory that it has had resident, in bytes (proc(5), VmHWM).
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        let process = self.process.as_ref().expect("running");
        crate::command::peak_memory(process.id()).expect("VmHWM")
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Asks it to end, as a service manager would.
    #[track_caller]
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// [`Stratad::terminate`], and waits.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("running");
        kill_process(Pid::from_child(process), signal).expect("signal");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("running");
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = process.try_wait().expect("wait") {
                return status;
            }
            if Instant::now() > limit {
                let _ = process.kill();
                let _ = process.wait();
                panic!("stratad does not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on the same data and the same port.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.kill();
        let mut command = serve(&self.command, &self.data, self.address);
        command
            .args(&self.options)
            .envs(self.settings.iter().cloned());
        match spawn(&mut command, &self.log) {
            Ok((process, _)) => self.process = Some(process),
            Err(error) => panic!("{error:#}"),
        }
    }
}

impl Drop for Stratad {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- stratad\n{}", self.log());
        }
    }
}

/// A server's command line.
pub fn serve(command: &Path, data: &Path, listen: SocketAddr) -> Command {
    let mut serve = Command::new(command);
    serve.arg("serve").arg("--listen").arg(listen.to_string());
    serve.arg("--data").arg(data).stdin(Stdio::null());
    serve
}

fn spawn(command: &mut Command, log: &Arc<Mutex<String>>) -> Result<(Child, SocketAddr)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let (sender, receiver) = channel();
    follow(child.stdout.take(), log, sender.clone());
    follow(child.stderr.take(), log, sender);
    if let Ok(address) = receiver.recv_timeout(Duration::from_secs(30)) {
        return Ok((child, address));
    }
    let _ = child.kill();
    let _ = child.wait();
    let said = log.lock().map(|log| log.clone()).unwrap_or_default();
    bail!("stratad did not say where it is listening on:\n{said}")
}

/// Keeps what is printed and sends the address when it is told.
fn follow(
    pipe: Option<impl Read + Send + 'static>,
    log: &Arc<Mutex<String>>,
    told: Sender<SocketAddr>,
) {
    let (Some(pipe), log) = (pipe, log.clone()) else {
        return;
    };
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Some(address) = listening(&line) {
                let _ = told.send(address);
            }
            if let Ok(mut log) = log.lock() {
                log.push_str(&line);
                log.push('\n');
            }
        }
    });
}

/// The address in a line that says `listening on …`.
fn listening(line: &str) -> Option<SocketAddr> {
    address_after(line, "listening on ")
}

fn address_after(line: &str, words: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(words)?;
    // In a log of JSON a quote ends it.
    let word = rest.split([' ', '"']).next()?;
    let word = word
        .trim_start_matches("http://")
        .trim_end_matches(['/', ',', '.']);
    word.parse().ok()
}

fn count(directory: &Path, files: &mut (usize, u64)) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(kind) if kind.is_dir() => count(&path, files),
            Ok(kind) => *files = (files.0 + 1, files.1 + kind.len()),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_line_is_read() {
        let address = listening("stratad 0.1 listening on http://127.0.0.1:45 (data in /x)");
        assert_eq!(address, Some(SocketAddr::from(([127, 0, 0, 1], 45))));
        let json = r#"{"message":"listening on http://127.0.0.1:45","timestamp":"now"}"#;
        assert_eq!(listening(json), address);
        assert_eq!(listening("listening"), None);
    }
}
