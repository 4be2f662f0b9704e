//! Uploads in every way that the protocol knows, and the ones that were left in the middle.

use std::io::{self, Error};
use std::net::SocketAddr;

use rand::RngExt;
use strata_oci::digest::Digest;

use super::ledger::Key;
use super::{Client, accept, send};
use crate::api::location;
use crate::http::Reply;

/// An upload session.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    repository: String,
    location: String,
    bytes: Vec<u8>,
    /// How many bytes were acknowledged.
    acknowledged: usize,
    /// How many bytes the server may have.
    sent: usize,
    /// Whether its last request may have been taken.
    finishing: bool,
    /// Whether the server has said that it could not take a request: then the session may have ended.
    refused: bool,
}

const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");

impl Upload {
    fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    fn separator(&self) -> char {
        if self.location.contains('?') {
            '&'
        } else {
            '?'
        }
    }

    /// How many bytes a status says (`Range: 0-N`); none and one have the same form, and none is sent of one.
    fn offset(reply: &Reply) -> io::Result<usize> {
        let range = reply.header("range").unwrap_or_default();
        let last = range
            .strip_prefix("0-")
            .and_then(|n| n.parse::<usize>().ok());
        match last {
            Some(0) => Ok(0),
            Some(last) => Ok(last + 1),
            None => Err(Error::other(format!("the range of an upload: {range:?}"))),
        }
    }
}

impl Client {
    /// Pushes a blob: in one request, in two, or in chunks.
    pub(super) fn push_blob(
        &mut self,
        server: SocketAddr,
        repository: &str,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        if self.random.random_ratio(1, 3) {
            let digest = Digest::of(&bytes);
            let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
            let change = [(Key::blob(repository, digest.clone()), Some(digest))];
            let post = || send(server, "POST", &target, &[BYTES], &bytes);
            return self.change(&change, 201, post).map(drop);
        }
        let upload = self.start(server, repository, bytes)?;
        let chunks = self.random.random_range(0..3);
        let mut number = self.uploads.len();
        self.uploads.push(upload);
        for _ in 0..chunks {
            number = self.append(server, number)?;
        }
        self.finish(server, number)
    }

    /// Begins an upload and leaves it.
    pub(super) fn begin_upload(&mut self, server: SocketAddr, repository: &str) -> io::Result<()> {
        let bytes = self.fresh();
        let upload = self.start(server, repository, bytes)?;
        self.uploads.push(upload);
        let mut number = self.uploads.len() - 1;
        for _ in 0..self.random.random_range(0..3) {
            number = self.append(server, number)?;
        }
        Ok(())
    }

    /// Finishes uploads that were left, each with this probability.
    pub(super) fn go_on(&mut self, server: SocketAddr, probability: f64) -> io::Result<()> {
        for number in (0..self.uploads.len()).rev() {
            if self.random.random_bool(probability) {
                self.finish(server, number)?;
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        server: SocketAddr,
        repository: &str,
        bytes: Vec<u8>,
    ) -> io::Result<Upload> {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let reply = accept(send(server, "POST", &target, &[], b"")?, 202)?;
        Ok(Upload {
            repository: repository.to_owned(),
            location: location(&reply),
            bytes,
            acknowledged: 0,
            sent: 0,
            finishing: false,
            refused: false,
        })
    }

    /// Sends some more bytes of an upload, with or without saying where they belong.
    fn append(&mut self, server: SocketAddr, number: usize) -> io::Result<usize> {
        let tell = self.random.random_bool(0.5);
        let upload = &mut self.uploads[number];
        let from = upload.acknowledged;
        // One byte has no form of its own in a status.
        if upload.bytes.len() < from + 4 {
            return Ok(number);
        }
        let to = self.random.random_range(from + 2..upload.bytes.len());
        upload.sent = to;
        let range = format!("{from}-{}", to - 1);
        let told = [BYTES, ("Content-Range", &range)];
        let headers = if tell { &told[..] } else { &told[..1] };
        let reply = send(
            server,
            "PATCH",
            &upload.location,
            headers,
            &upload.bytes[from..to],
        )?;
        upload.refused |= reply.status >= 500;
        let reply = accept(reply, 202)?;
        upload.location = location(&reply);
        upload.acknowledged = Upload::offset(&reply)?;
        if upload.acknowledged != to {
            return Err(Error::other(format!(
                "{} bytes of {to}",
                upload.acknowledged
            )));
        }
        self.acknowledged += 1;
        Ok(number)
    }

    fn finish(&mut self, server: SocketAddr, number: usize) -> io::Result<()> {
        let upload = &mut self.uploads[number];
        upload.sent = upload.bytes.len();
        upload.finishing = true;
        let (upload, digest) = (upload.clone(), upload.digest());
        let target = format!("{}{}digest={digest}", upload.location, upload.separator());
        let rest = &upload.bytes[upload.acknowledged..];
        let change = [(Key::blob(&upload.repository, digest.clone()), Some(digest))];
        let finished = self.change(&change, 201, || {
            send(server, "PUT", &target, &[BYTES], rest)
        });
        match finished {
            Ok(_) => drop(self.uploads.remove(number)),
            Err(error) => {
                self.uploads[number].refused |= error.to_string().starts_with('5');
                return Err(error);
            }
        }
        Ok(())
    }

    /// Asks where the uploads are that were left: none is lost, none has less than was acknowledged. Then
    /// finishes half of them, which proves their bytes.
    pub(super) fn verify_uploads(&mut self, server: SocketAddr) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut left = Vec::new();
        for mut upload in std::mem::take(&mut self.uploads) {
            let reply = send(server, "GET", &upload.location, &[], b"")?;
            let (location, had) = (&upload.location, upload.acknowledged);
            match reply.status {
                204 => {
                    let offset = Upload::offset(&reply)?;
                    if offset < had || offset > upload.sent {
                        wrong.push(format!(
                            "{location}: {offset} bytes, {had} to {} expected",
                            upload.sent
                        ));
                    }
                    upload.acknowledged = offset;
                    upload.sent = offset;
                    left.push(upload);
                }
                // Its bytes may not have been durable; that nothing else is lost is asked below.
                404 if upload.refused => {}
                // It ended together with the blob's coming; that the blob is there is asked below.
                404 if upload.finishing => {
                    let (key, digest) = (
                        Key::blob(&upload.repository, upload.digest()),
                        upload.digest(),
                    );
                    self.ledger.settle(&[(key, Some(digest))]);
                }
                status => wrong.push(format!("{location}: {status}, {had} bytes expected")),
            }
        }
        self.uploads = left;
        for number in (0..self.uploads.len()).rev() {
            let broken_off = self.uploads[number].finishing;
            if !broken_off && self.random.random_bool(0.5) {
                continue;
            }
            if let Err(error) = self.finish(server, number) {
                let upload = self.uploads.remove(number);
                let (location, had) = (upload.location, upload.acknowledged);
                wrong.push(format!("{location} cannot go on from {had}: {error}"));
            }
        }
        Ok(wrong)
    }
}
