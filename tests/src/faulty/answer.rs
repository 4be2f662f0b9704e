//! What comes back: the registry's answer, or what a fault makes of it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

use super::Fault;
use super::wire::{After, Exchange};
use crate::http::read_headers;

/// Bytes that are passed on at a time.
const PIECE: usize = 16 * 1024;

impl Exchange<'_> {
    /// Passes a blob on.
    pub(super) fn blob(&self, server: TcpStream, fault: Option<Fault>) -> io::Result<After> {
        let mut reader = BufReader::new(server);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|s| s.parse::<u16>().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let headers = read_headers(&mut reader)?;
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.and_then(|(_, value)| value.parse::<u64>().ok());
        let length = length.ok_or(io::ErrorKind::InvalidData)?;
        let stop = match &fault {
            Some(Fault::Cut { after, .. } | Fault::Truncate(after) | Fault::Stall(after)) => {
                length.min(*after)
            }
            _ => length,
        };
        let promised = match &fault {
            Some(Fault::Truncate(_)) => stop,
            _ => length,
        };
        self.excuse(status, length, stop, fault.as_ref());
        self.tell(status, &headers, Some(promised.to_string()), fault.as_ref())?;
        let counts = matches!(status, 200 | 206);
        let sent = self.body(&mut reader, stop, counts, fault.as_ref());
        if sent < stop && fault.is_none() {
            self.shared.book().tally.left += 1;
        }
        match fault {
            Some(Fault::Cut { reset: true, .. }) => self.reset(),
            Some(Fault::Stall(_)) => self.silence(),
            Some(Fault::Cut { .. } | Fault::Header(..) | Fault::Status(_)) => {}
            _ if sent == stop => return Ok(After::Next),
            _ => {}
        }
        Ok(After::Close)
    }

    /// Notes what a fault will cost.
    fn excuse(&self, status: u16, length: u64, stop: u64, fault: Option<&Fault>) {
        let (200 | 206, Some(digest)) = (status, self.asked.blob()) else {
            return;
        };
        let mut book = self.shared.book();
        let book = &mut *book;
        let from = self.asked.from();
        let known = book.blobs.entry(digest.to_owned()).or_default();
        if from == 0 && known.doubted {
            // Nobody has to go on believing a registry that lied about ranges.
            book.tally.spoilt += known.reached;
        }
        match fault {
            // What is there cannot be told from what is wrong: all of the blob so far, and this.
            Some(Fault::Corrupt { at, .. }) if *at < length => {
                let before = book.tally.sent.get(digest);
                book.tally.spoilt += before.copied().unwrap_or_default() + length;
            }
            Some(Fault::Whole) => book.tally.spoilt += from,
            Some(Fault::Earlier(_) | Fault::Header(..) | Fault::Status(_)) => {
                known.doubted = true;
                book.tally.cuts += 1;
            }
            Some(Fault::Crawl { .. }) => book.tally.cuts += 1,
            _ if stop < length => book.tally.cuts += 1,
            _ => {}
        }
        if fault.is_none() || stop < length {
            known.reached = known.reached.max(from + stop);
        }
    }

    pub(super) fn tell(
        &self,
        status: u16,
        headers: &[(String, String)],
        length: Option<String>,
        fault: Option<&Fault>,
    ) -> io::Result<()> {
        let status = match fault {
            Some(Fault::Status(other)) => *other,
            _ => status,
        };
        let mut head = format!("HTTP/1.1 {status} x\r\n");
        let (replaced, says) = match fault {
            Some(Fault::Header(name, value)) => (*name, value.as_str()),
            _ => ("", ""),
        };
        let hidden = [
            "content-length",
            "transfer-encoding",
            "connection",
            replaced,
        ];
        for (name, value) in headers
            .iter()
            .filter(|(n, _)| !hidden.contains(&n.as_str()))
        {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = length.filter(|_| replaced != "content-length") {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        if !replaced.is_empty() {
            head.push_str(&format!("{replaced}: {says}\r\n"));
        }
        head.push_str("\r\n");
        let mut client = self.client;
        client.write_all(head.as_bytes())
    }

    /// Sends `stop` bytes of the body, which counts if it is a blob's; how many went before the client left.
    fn body(&self, reader: &mut impl Read, stop: u64, counts: bool, fault: Option<&Fault>) -> u64 {
        let rate = match fault {
            Some(Fault::Crawl { rate }) => Some(*rate),
            _ => self.shared.rate,
        };
        let most = rate.map_or(PIECE, |rate| (rate as usize / 20).clamp(1, PIECE));
        let mut buffer = vec![0; most];
        let digest = self.asked.blob().unwrap_or_default();
        let mut client = self.client;
        let mut sent = 0;
        while sent < stop && !self.shared.stop.load(Ordering::Relaxed) {
            let most = buffer.len().min((stop - sent) as usize);
            let Ok(count @ 1..) = reader.read(&mut buffer[..most]) else {
                break;
            };
            if let Some(Fault::Corrupt { at, len }) = fault {
                spoil(&mut buffer[..count], sent, *at, *len);
            }
            if counts {
                // Before it is sent: who has the answer finds it counted.
                let mut book = self.shared.book();
                *book.tally.sent.entry(digest.to_owned()).or_default() += count as u64;
            }
            if client.write_all(&buffer[..count]).is_err() {
                break;
            }
            sent += count as u64;
            self.wait(count as u64, rate);
        }
        sent
    }

    pub(super) fn pour(&self, head: &[u8], filler: &[u8]) {
        let mut client = self.client;
        let mut next = client.write_all(head);
        let piece = filler.repeat(PIECE.div_ceil(filler.len()));
        while next.is_ok() && !self.shared.stop.load(Ordering::Relaxed) {
            next = client.write_all(&piece);
            self.shared.book().tally.poured += piece.len() as u64;
        }
    }

    pub(super) fn wait(&self, count: u64, rate: Option<u64>) {
        if let Some(rate) = rate {
            std::thread::sleep(Duration::from_secs_f64(count as f64 / rate as f64));
        }
    }

    /// Says nothing until the client has gone, whatever it has still to say.
    pub(super) fn silence(&self) {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        while !self.shared.stop.load(Ordering::Relaxed) {
            let mut fds = [PollFd::new(self.client, PollFlags::RDHUP)];
            if poll(&mut fds, Some(&pause)).is_err() || fds[0].revents().intersects(gone) {
                return;
            }
        }
    }

    /// Closing sends a RST.
    pub(super) fn reset(&self) {
        let _ = set_socket_linger(self.client, Some(Duration::ZERO));
    }
}

/// Inverts the bytes `at..at+len` of a body, of which `piece` begins at `from`.
pub(super) fn spoil(piece: &mut [u8], from: u64, at: u64, len: u64) {
    for (n, byte) in piece.iter_mut().enumerate() {
        let place = from + n as u64;
        if place >= at && place - at < len {
            *byte = !*byte;
        }
    }
}
