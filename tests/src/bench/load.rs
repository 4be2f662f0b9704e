//! Many small requests at once: a closed loop over connections that stay open.
//!
//! Each thread has half of the connections; it sends one request on each, then reads one answer from each.
//! That is about the least work that a client can have with it, so that the server gets the processors.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use strata_oci::Digest;

use super::figures::{Turn, Unit};
use super::plan::Plan;
use super::server::Server;
use super::transfer::{self, Content};
use crate::api::Api;
use crate::entry::Entry;
use crate::image::{Image, Layer};

/// Connections at a time, as in the project's target.
const CONNECTIONS: usize = 64;
const THREADS: usize = 2;

/// The repository that is asked.
pub(super) const REPOSITORY: &str = "bench/app";

/// Puts an image of a small layer, a blob of 200 bytes and the large one on a server.
pub(super) fn seed(server: &Server, content: &Content) -> Result<()> {
    let api = server.api();
    api.push_blob(REPOSITORY, &small());
    api.push(&image(), REPOSITORY, "latest");
    transfer::put(server, REPOSITORY, content)?;
    Ok(())
}

/// An image of one layer.
pub(super) fn image() -> Image {
    Image::new(&[Layer::of(&[Entry::file("file", "content")])])
}

fn small() -> Vec<u8> {
    (0..200u8).collect()
}

/// Counts the answers to each kind of small request.
pub(super) fn measure(server: &Server, plan: &Plan, turn: &mut Turn<'_>) -> Result<()> {
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", Digest::of(&small()));
    let manifest = format!("/v2/{REPOSITORY}/manifests/latest");
    let requests = [
        (
            "GET manifest by tag, 64 connections",
            "GET",
            &manifest,
            60_000.0,
        ),
        ("HEAD blob, 64 connections", "HEAD", &blob, 60_000.0),
        (
            "GET blob of 200 bytes, 64 connections",
            "GET",
            &blob,
            40_000.0,
        ),
    ];
    for (name, method, path, target) in requests {
        let head = request(&server.api(), method, path);
        let counted = count(server.address(), &head, 0.1)?;
        ensure!(counted > 0.0, "{name}: no answer");
        let (cpu, began) = (server.cpu()?, Instant::now());
        let answers = count(server.address(), &head, plan.seconds)?;
        let (wall, cpu) = (began.elapsed().as_secs_f64(), server.cpu()? - cpu);
        turn.add(name, Unit::PerSecond, Some(target), answers / wall);
        turn.add(name, Unit::Microseconds, None, cpu / answers * 1e6);
    }
    Ok(())
}

fn request(api: &Api, method: &str, path: &str) -> String {
    let accept = strata_oci::media::ACCEPT_MANIFESTS.join(", ");
    let host = api.0.address();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n")
}

/// How many answers came in this many seconds.
fn count(address: SocketAddr, request: &str, seconds: f64) -> Result<f64> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let bodiless = request.starts_with("HEAD");
    let answers = std::thread::scope(|scope| {
        let work = || ask(address, request.as_bytes(), bodiless, until);
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let counts = threads.into_iter().map(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|_| Err(anyhow::anyhow!("a client ended badly")))
        });
        counts.sum::<Result<u64>>()
    })?;
    Ok(answers as f64)
}

fn ask(address: SocketAddr, request: &[u8], bodiless: bool, until: Instant) -> Result<u64> {
    let connect = |_| -> Result<TcpStream> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    };
    let mut streams = (0..CONNECTIONS / THREADS)
        .map(connect)
        .collect::<Result<Vec<_>>>()?;
    let (mut answers, mut buffer) = (0, vec![0; 64 * 1024]);
    while Instant::now() < until {
        for stream in &mut streams {
            stream.write_all(request)?;
        }
        for stream in &mut streams {
            read_answer(stream, &mut buffer, bodiless)?;
            answers += 1;
        }
    }
    Ok(answers)
}

/// Reads one answer, all of it and no more: nothing follows that was not asked for.
fn read_answer(stream: &mut impl Read, buffer: &mut [u8], bodiless: bool) -> Result<()> {
    let mut got = 0;
    loop {
        let count = stream.read(&mut buffer[got..])?;
        ensure!(count > 0, "the connection ended in an answer");
        got += count;
        if let Some(whole) = whole_answer(&buffer[..got], bodiless)?
            && got >= whole
        {
            return Ok(());
        }
    }
}

/// The length of the answer that begins here, once its head is there; an error when it is no success.
fn whole_answer(bytes: &[u8], bodiless: bool) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
    let name = "content-length: ";
    let length = text.lines().find_map(|line| {
        let found = line.get(..name.len())?.eq_ignore_ascii_case(name);
        found.then(|| line[name.len()..].trim())
    });
    let length: usize = length.context("no Content-Length")?.parse()?;
    Ok(Some(head + 4 + if bodiless { 0 } else { length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        let whole = |bytes: &[u8], bodiless| whole_answer(bytes, bodiless).ok().flatten();
        assert_eq!(whole(answer, false), Some(answer.len()));
        assert_eq!(whole(answer, true), Some(answer.len() - 3));
        assert_eq!(whole(&answer[..20], false), None);
        assert!(whole_answer(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", false).is_err());
    }
}
