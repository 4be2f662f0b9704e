//! The large blob: put by curl, fetched by one client and by many.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use strata_oci::{Algorithm, Digest, Digester};

use super::figures::{Turn, Unit};
use super::load::REPOSITORY;
use super::plan::Plan;
use super::server::{Kind, Server};
use crate::command::run;

/// Clients at a time, as in the project's target.
const CROWD: usize = 64;

/// Downloads of one turn: the clock of CPU time ticks only every 10 ms.
const DOWNLOADS: u32 = 3;

/// The large blob: random, so that nothing can compress it.
pub(super) struct Content {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Content {
    pub(super) fn make(directory: impl AsRef<Path>, size: u64) -> Result<Self> {
        let path = directory.as_ref().join("large");
        let mut file = File::create(&path)?;
        let mut digester = Digester::new(Algorithm::Sha256);
        let (mut block, mut random) = (vec![0; 1024 * 1024], rand::rng());
        let mut left = size;
        while left > 0 {
            let part = &mut block[..left.min(1024 * 1024) as usize];
            random.fill_bytes(part);
            digester.update(part);
            file.write_all(part)?;
            left -= part.len() as u64;
        }
        file.sync_all()?;
        Ok(Self {
            path,
            digest: digester.finish(),
            size,
        })
    }

    fn blob(&self) -> String {
        format!("/v2/{REPOSITORY}/blobs/{}", self.digest)
    }
}

/// Puts the large blob by curl; how long the PUT took.
pub(super) fn put(server: &Server, repository: &str, content: &Content) -> Result<Duration> {
    let location = server.api().start(repository);
    let separator = if location.contains('?') { '&' } else { '?' };
    let url = format!(
        "http://{}{location}{separator}digest={}",
        server.address(),
        content.digest
    );
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--output",
        "/dev/null",
    ]);
    curl.args(["--write-out", "%{http_code} %{time_total}"]);
    curl.args([
        "--header",
        "Content-Type: application/octet-stream",
        "--upload-file",
    ]);
    curl.arg(&content.path).arg(url);
    let said = run(&mut curl).ok().out();
    let (status, seconds) = said.split_once(' ').context("curl says nothing")?;
    ensure!(status == "201", "a PUT was answered with {status}");
    Ok(Duration::from_secs_f64(seconds.parse()?))
}

/// One upload to a server of its own that has nothing yet.
pub(super) fn upload(
    kind: &Kind,
    plan: &Plan,
    content: &Content,
    turn: &mut Turn<'_>,
) -> Result<()> {
    let server = kind.start(&plan.directory)?;
    let cpu = server.cpu()?;
    let took = put(&server, REPOSITORY, content)?;
    let name = "PUT of the large blob by curl";
    let full = content.size == 777_000_000;
    turn.add(
        name,
        Unit::Seconds,
        full.then_some(0.75),
        took.as_secs_f64(),
    );
    let gigabytes = content.size as f64 / 1e9;
    turn.add(
        name,
        Unit::SecondsPerGigabyte,
        None,
        (server.cpu()? - cpu) / gigabytes,
    );
    turn.add(name, Unit::Megabytes, Some(32.0), server.memory("VmHWM")?);
    Ok(())
}

/// Downloads by one client, from the page cache.
pub(super) fn download(server: &Server, content: &Content, turn: &mut Turn<'_>) -> Result<()> {
    fetch(server.address(), content, content.size)?;
    let (cpu, began) = (server.cpu()?, Instant::now());
    for _ in 0..DOWNLOADS {
        fetch(server.address(), content, content.size)?;
    }
    let times = f64::from(DOWNLOADS);
    let gigabytes = content.size as f64 / 1e9;
    let name = "GET of the large blob, hot";
    turn.add(
        name,
        Unit::Seconds,
        None,
        began.elapsed().as_secs_f64() / times,
    );
    let cpu = (server.cpu()? - cpu) / times;
    turn.add(name, Unit::SecondsPerGigabyte, Some(0.10), cpu / gigabytes);
    Ok(())
}

/// The most memory while many take of the blob at once.
pub(super) fn crowd(
    server: &Server,
    plan: &Plan,
    content: &Content,
    turn: &mut Turn<'_>,
) -> Result<()> {
    server.reset_peak()?;
    std::thread::scope(|scope| {
        let work = || fetch(server.address(), content, plan.crowd);
        let clients: Vec<_> = (0..CROWD).map(|_| scope.spawn(work)).collect();
        clients.into_iter().try_for_each(|client| {
            let joined = client.join();
            joined.unwrap_or_else(|_| Err(anyhow::anyhow!("a client ended badly")))
        })
    })?;
    let peak = server.memory("VmHWM")?;
    turn.add(
        "GET of the large blob, 64 at once",
        Unit::Megabytes,
        Some(64.0),
        peak,
    );
    Ok(())
}

/// Takes the first `wanted` bytes of the blob, then leaves.
fn fetch(address: SocketAddr, content: &Content, wanted: u64) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let path = content.blob();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 200"), "{path}: {line}");
    while line != "\r\n" {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "{path}: no whole head");
    }
    let mut body = reader.take(wanted);
    let mut got = 0;
    loop {
        let count = body.fill_buf()?.len();
        if count == 0 {
            break;
        }
        got += count as u64;
        body.consume(count);
    }
    ensure!(got == wanted, "{path}: {got} of {wanted} bytes");
    Ok(())
}
