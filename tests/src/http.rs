//! A client of HTTP/1.1 that can say wrong things: one connection a request, bytes as they are given.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, no longer chunked.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("not JSON ({error}): {self:?}"),
        }
    }

    /// The protocol's error code in the body (distribution-spec, "Error Codes").
    #[track_caller]
    pub fn error_code(&self) -> String {
        let json = self.json();
        let code = json["errors"][0]["code"].as_str();
        code.unwrap_or_else(|| panic!("no error code: {json}"))
            .to_owned()
    }

    /// Asserts the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]).into_owned();
        assert_eq!(self.status, status, "{:?}\n{body}", self.headers);
        self
    }

    /// Asserts the status and the protocol's error code.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.error_code(), code);
        reply
    }
}

/// A server to talk to.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    address: SocketAddr,
}

impl Http {
    /// Talks to `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request with a body of known length.
    #[track_caller]
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = self.head(method, target, headers);
        let bodiless = body.is_empty() && matches!(method, "GET" | "HEAD" | "DELETE");
        if !bodiless {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let bytes = [head.as_bytes(), body].concat();
        self.raw(method, &bytes)
    }

    /// Sends a request without a body to a server that may not answer.
    pub fn try_send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = self.head(method, target, headers) + "\r\n";
        stream.write_all(head.as_bytes())?;
        read_reply(stream, method == "HEAD")
    }

    /// Sends a request whose body is chunked (RFC 9112, 7.1), as clients do that do not know its length.
    #[track_caller]
    pub fn send_chunked(&self, method: &str, target: &str, chunks: &[&[u8]]) -> Reply {
        let mut bytes = self.head(method, target, &[("Transfer-Encoding", "chunked")]);
        bytes.push_str("\r\n");
        let mut bytes = bytes.into_bytes();
        for chunk in chunks {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(*chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        self.raw(method, &bytes)
    }

    /// The request line and headers, without the empty line behind them.
    pub fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Sends bytes as they are and reads one reply.
    #[track_caller]
    pub fn raw(&self, method: &str, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A server may answer and close before it has read everything.
        let _ = stream.write_all(bytes);
        match read_reply(stream, method == "HEAD") {
            Ok(reply) => reply,
            Err(error) => panic!("{method} to {}: no whole reply: {error}", self.address),
        }
    }

    /// Sends bytes, closes the connection for writing and says whether any reply came: for requests that
    /// break off.
    pub fn break_off(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("write");
        let _ = stream.shutdown(Shutdown::Write);
        read_reply(stream, false).ok()
    }

    /// An open connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).expect("set a time limit");
        stream.set_write_timeout(limit).expect("set a time limit");
        stream
    }
}

/// Reads one reply from a connection.
pub fn read_reply(stream: impl Read, bodiless: bool) -> io::Result<Reply> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("status line {line:?}")))?;
    let headers = read_headers(&mut reader)?;
    let mut reply = Reply {
        status,
        headers,
        body: Vec::new(),
    };
    if bodiless || status == 204 || status == 304 {
        return Ok(reply);
    }
    let length = reply
        .header("content-length")
        .and_then(|v| v.parse::<usize>().ok());
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = read_chunks(&mut reader)?;
    } else if let Some(length) = length {
        reader.take(length as u64).read_to_end(&mut reply.body)?;
        if reply.body.len() != length {
            let got = reply.body.len();
            return Err(io::Error::other(format!("{got} of {length} bytes")));
        }
    } else {
        reader.read_to_end(&mut reply.body)?;
    }
    Ok(reply)
}

/// Reads header lines up to the empty one; names in lower case.
pub(crate) fn read_headers(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(headers);
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        let wanted = body.len() as u64 + size;
        reader.take(size).read_to_end(&mut body)?;
        if body.len() as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_whole_or_not_at_all() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(
            read_reply(whole.as_slice(), false).expect("whole").body,
            b"abc"
        );
        assert!(read_reply(&whole[..whole.len() - 1], false).is_err());
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(
            read_reply(chunked.as_slice(), false).expect("whole").body,
            b"abc"
        );
    }
}
