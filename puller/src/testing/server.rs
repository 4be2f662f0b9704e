//! An HTTP server whose every answer a test decides: one thread a connection, one answer a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first byte that a Range asks for.
    pub(crate) fn range_from(&self) -> Option<usize> {
        self.range().map(|(from, _)| from)
    }

    /// The first byte that a Range asks for, and the last if it names one.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        let (from, last) = range.split_once('-')?;
        Some((from.parse().ok()?, last.parse().ok()))
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Send only so many bytes of the body, then close the connection.
    pub(crate) cut: Option<usize>,
    /// After the cut, keep the connection open and silent.
    pub(crate) hang: bool,
    /// Send no more than so many bytes of the body each ten milliseconds.
    pub(crate) slow: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            hang: false,
            slow: None,
        }
    }

    /// The bytes of `whole` from `from` to the one before `end`, as a Range is answered.
    pub(crate) fn part(whole: &[u8], from: usize, end: usize) -> Self {
        let range = format!("bytes {from}-{}/{}", end - 1, whole.len());
        Self::new(206, &whole[from..end]).with("Content-Range", range)
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn cut(mut self, at: usize) -> Self {
        self.cut = Some(at);
        self
    }

    pub(crate) fn slow(mut self, bytes: usize) -> Self {
        self.slow = Some(bytes);
        self
    }

    pub(crate) fn hang(mut self, at: usize) -> Self {
        self.hang = true;
        self.cut(at)
    }
}

/// A running server; it stops when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

impl Server {
    /// `answer` is given the request and how many like it (same method and path) came before.
    pub(crate) fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let bytes = Arc::new(AtomicU64::new(0));
        let answer = Arc::new(answer);
        std::thread::spawn({
            let (seen, stop, bytes) = (seen.clone(), stop.clone(), bytes.clone());
            move || {
                for connection in listener.incoming().flatten() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (seen, answer) = (seen.clone(), answer.clone());
                    let bytes = bytes.clone();
                    std::thread::spawn(move || {
                        // A client that goes away is part of many tests.
                        let _ = serve(&connection, &seen, &bytes, &*answer);
                    });
                }
            }
        });
        Self {
            address,
            seen,
            stop,
            bytes,
        }
    }

    /// Bytes of bodies that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Every request until now, in order.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("no panic").clone()
    }

    /// The requests whose `METHOD PATH` begins so.
    pub(crate) fn seen_like(&self, start: &str) -> Vec<Request> {
        let mut seen = self.seen();
        seen.retain(|r| format!("{} {}", r.method, r.path).starts_with(start));
        seen
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    connection: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    bytes: &AtomicU64,
    answer: &(dyn Fn(&Request, usize) -> Reply + Send + Sync),
) -> std::io::Result<()> {
    let Some(request) = read(connection)? else {
        return Ok(());
    };
    let before = {
        let mut seen = seen.lock().expect("no panic");
        let like = |r: &&Request| r.method == request.method && r.path == request.path;
        let before = seen.iter().filter(like).count();
        seen.push(request.clone());
        before
    };
    let reply = answer(&request, before);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    let given = |name: &str| {
        let mut names = reply.headers.iter().map(|(key, _)| key);
        names.any(|key| key.eq_ignore_ascii_case(name))
    };
    if !given("content-length") && !given("transfer-encoding") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut out = connection;
    out.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        let sent = reply.cut.unwrap_or(reply.body.len());
        let body = &reply.body[..sent.min(reply.body.len())];
        for part in body.chunks(reply.slow.unwrap_or(usize::MAX)) {
            out.write_all(part)?;
            bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
            if reply.slow.is_some() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    if reply.hang {
        std::thread::sleep(Duration::from_secs(5));
    }
    connection.shutdown(Shutdown::Write)
}

fn read(connection: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    let length = request.header("content-length").unwrap_or("0").parse();
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    request.body = body;
    Ok(Some(request))
}
