//! One client's connection: requests are read one after the other, each is passed on by a connection of its own,
//! and what comes back is spoilt as the plan says.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use rustix::net::sockopt::set_socket_send_buffer_size;

use super::answer::spoil;
use super::request::Body;
use super::{Fault, SOCKET_BUFFER, Shared};
use crate::fake::Asked;
use crate::http::{read_headers, read_reply};

/// Longer bodies of requests are blobs, and not kept.
const MAX_KEPT: u64 = 64 * 1024;

/// Whether the connection can carry another request.
#[derive(PartialEq)]
pub(super) enum After {
    Next,
    Close,
}

pub(super) fn carry(shared: &Shared, client: &TcpStream) {
    let _ = set_socket_send_buffer_size(client, SOCKET_BUFFER);
    let _ = client.set_nodelay(true);
    let mut reader = BufReader::new(client);
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(Some(asked)) = head(&mut reader) else {
            break;
        };
        let exchange = Exchange {
            shared,
            client,
            asked,
        };
        if !matches!(exchange.run(&mut reader), Ok(After::Next)) {
            break;
        }
    }
}

fn head(reader: &mut impl BufRead) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let headers = read_headers(reader)?;
    Ok(Some(Asked {
        method,
        target,
        headers,
        body: Vec::new(),
    }))
}

pub(super) struct Exchange<'a> {
    pub(super) shared: &'a Shared,
    pub(super) client: &'a TcpStream,
    pub(super) asked: Asked,
}

impl Exchange<'_> {
    fn run(mut self, reader: &mut impl BufRead) -> io::Result<After> {
        let small = !self.asked.is_upload() && !self.asked.is_chunked();
        if small {
            let length = self.asked.header("content-length").parse().unwrap_or(0);
            let body = &mut self.asked.body;
            reader
                .by_ref()
                .take(length.min(MAX_KEPT))
                .read_to_end(body)?;
        }
        let fault = self.shared.decide(&self.asked);
        match &fault {
            Some(Fault::Delay(time)) => std::thread::sleep(*time),
            Some(Fault::Answer(bytes)) => {
                self.drain(reader)?;
                self.client.write_all(bytes)?;
                return Ok(After::Close);
            }
            Some(Fault::Pour { head, filler }) => {
                self.pour(head, filler);
                return Ok(After::Close);
            }
            _ => {}
        }
        let mut server = TcpStream::connect(self.shared.target)?;
        server.write_all(&self.head_on(fault.as_ref()))?;
        if small {
            server.write_all(&self.asked.body)?;
        } else if let Some(after) = self.pass_body(reader, &mut server, fault.as_ref())? {
            return Ok(after);
        }
        if matches!(fault, Some(Fault::LoseAnswer)) {
            // Read, so that the registry has surely done what it was asked for.
            let _ = read_reply(&server, self.asked.method == "HEAD");
            return Ok(After::Close);
        }
        if self.asked.blob().is_some() {
            return self.blob(server, fault);
        }
        let mut reply = read_reply(server, self.asked.method == "HEAD")?;
        if let Some(Fault::Corrupt { at, len }) = &fault {
            spoil(&mut reply.body, 0, *at, *len);
        }
        let promised = match self.asked.method.as_str() {
            "HEAD" => reply.header("content-length").map(str::to_owned),
            _ => Some(reply.body.len().to_string()),
        };
        let promised = promised.filter(|_| reply.status != 204);
        self.tell(reply.status, &reply.headers, promised, fault.as_ref())?;
        let sent = match &fault {
            Some(Fault::Cut { after, .. } | Fault::Truncate(after) | Fault::Stall(after)) => {
                reply.body.len().min(*after as usize)
            }
            _ => reply.body.len(),
        };
        self.client.write_all(&reply.body[..sent])?;
        match fault {
            Some(Fault::Stall(_)) => self.silence(),
            Some(Fault::Cut { reset: true, .. }) => self.reset(),
            Some(Fault::Cut { .. } | Fault::Truncate(_)) => {}
            _ => return Ok(After::Next),
        }
        Ok(After::Close)
    }

    /// The request's head as it is passed on.
    fn head_on(&self, fault: Option<&Fault>) -> Vec<u8> {
        let asked = &self.asked;
        let mut head = format!(
            "{} {} HTTP/1.1\r\nConnection: close\r\n",
            asked.method, asked.target
        );
        for (name, value) in &asked.headers {
            let value = match (name.as_str(), fault) {
                ("connection" | "expect", _) | ("range" | "if-range", Some(Fault::Whole)) => {
                    continue;
                }
                ("range", Some(Fault::Earlier(by))) => {
                    let from = asked.from();
                    let wanted = format!("bytes={}-", from.saturating_sub(*by));
                    value.replacen(&format!("bytes={from}-"), &wanted, 1)
                }
                _ => value.clone(),
            };
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Passes a long body on; what comes after when that was not done to the end.
    fn pass_body(
        &self,
        reader: &mut impl BufRead,
        server: &mut TcpStream,
        fault: Option<&Fault>,
    ) -> io::Result<Option<After>> {
        let most = match fault {
            Some(Fault::CutRequest(most) | Fault::StallRequest(most)) => *most,
            _ => u64::MAX,
        };
        let mut passed = 0;
        let mut body = Body::of(&self.asked);
        while let Some(piece) = body.next(reader)? {
            let count = piece.payload as u64;
            self.shared.book().tally.uploaded += count;
            if passed + count > most {
                let rest = piece.bytes.len().min((most - passed) as usize);
                let _ = server.write_all(&piece.bytes[..rest]);
                self.shared.book().tally.cuts += 1;
                if matches!(fault, Some(Fault::StallRequest(_))) {
                    self.silence();
                }
                self.reset();
                return Ok(Some(After::Close));
            }
            passed += count;
            if server.write_all(&piece.bytes).is_err() {
                // The registry has said enough already: its answer is passed on.
                break;
            }
            self.wait(count, self.shared.rate);
        }
        Ok(None)
    }

    fn drain(&self, reader: &mut impl BufRead) -> io::Result<()> {
        if self.asked.is_upload() {
            let mut body = Body::of(&self.asked);
            while let Some(piece) = body.next(reader)? {
                self.shared.book().tally.uploaded += piece.payload as u64;
            }
        }
        Ok(())
    }
}
