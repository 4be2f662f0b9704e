//! What is counted, and how it is called where it is read.

use super::labels::{METHODS, Noun, STATUSES, status_text};
use super::number::{Counter, DATABASE_BOUNDS, Gauge, Histogram, REQUEST_BOUNDS};
use super::text::Exposition;

const NOUNS: usize = Noun::ALL.len();

/// The numbers of requests and connections.
#[derive(Debug)]
pub struct Metrics {
    requests: Box<[Counter]>,
    nouns: [OfNoun; NOUNS],
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that were accepted.
    pub accepted: Counter,
}

/// What is counted for each noun, whatever the method and the outcome.
#[derive(Debug)]
pub(super) struct OfNoun {
    pub(super) in_flight: Gauge,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    pub(super) aborted: Counter,
    pub(super) duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let slots = NOUNS * METHODS.len() * STATUSES.len();
        Self {
            requests: (0..slots).map(|_| Counter::default()).collect(),
            nouns: std::array::from_fn(|_| OfNoun {
                in_flight: Gauge::default(),
                received: Counter::default(),
                sent: Counter::default(),
                aborted: Counter::default(),
                duration: Histogram::new(REQUEST_BOUNDS),
            }),
            connections: Gauge::default(),
            accepted: Counter::default(),
        }
    }
}

impl Metrics {
    pub(super) fn of(&self, noun: Noun) -> &OfNoun {
        &self.nouns[noun as usize]
    }

    /// The counter of requests with these labels.
    pub(super) fn requests(&self, noun: Noun, method: usize, status: usize) -> &Counter {
        &self.requests[(noun as usize * METHODS.len() + method) * STATUSES.len() + status]
    }

    /// Writes all of them.
    pub fn write(&self, text: &mut Exposition) {
        self.write_requests(text);
        let each = |of: fn(&OfNoun) -> &Counter| {
            let nouns = self.nouns.iter().map(of).map(Counter::get);
            ROUTES.iter().map(|l| l.as_slice()).zip(nouns)
        };
        text.counters(
            "stratad_http_request_bytes_total",
            "Bytes of request bodies that were received.",
            each(|noun| &noun.received),
        );
        text.counters(
            "stratad_http_response_bytes_total",
            "Bytes of response bodies that were sent.",
            each(|noun| &noun.sent),
        );
        text.counters(
            "stratad_http_aborted_total",
            "Requests whose client went away, or was cut off, before the response had ended.",
            each(|noun| &noun.aborted),
        );
        let routes = || ROUTES.iter().map(|labels| labels.as_slice());
        text.gauges(
            "stratad_http_requests_in_flight",
            "Requests that are under way; those of route upload bring blobs.",
            routes().zip(self.nouns.iter().map(|noun| noun.in_flight.get())),
        );
        text.histograms(
            "stratad_http_request_duration_seconds",
            "From a request's head to the last byte of its response.",
            routes().zip(self.nouns.iter().map(|noun| &noun.duration)),
        );
        text.gauge(
            "stratad_http_connections",
            "Connections that are open.",
            self.connections.get(),
        );
        text.counter(
            "stratad_http_connections_accepted_total",
            "Connections that were accepted.",
            self.accepted.get(),
        );
    }

    /// Only combinations that have occurred: most of the thousands cannot.
    fn write_requests(&self, text: &mut Exposition) {
        let statuses: Vec<String> = (0..STATUSES.len()).map(status_text).collect();
        let mut samples = Vec::new();
        for (noun, route) in Noun::ALL.into_iter().zip(ROUTES) {
            for (method, name) in METHODS.iter().enumerate() {
                for (status, code) in statuses.iter().enumerate() {
                    let count = self.requests(noun, method, status).get();
                    if count > 0 {
                        let labels = [route[0], ("method", *name), ("status", code)];
                        samples.push((labels, count));
                    }
                }
            }
        }
        text.counters(
            "stratad_http_requests_total",
            "Requests that have ended. Status 499: the client went away before there was an answer.",
            samples.iter().map(|(labels, count)| (labels.as_slice(), count)),
        );
    }
}

/// The label `route` of each noun.
const ROUTES: [[(&str, &str); 1]; NOUNS] = {
    let mut routes = [[("route", "")]; NOUNS];
    let mut at = 0;
    while at < NOUNS {
        routes[at] = [("route", Noun::ALL[at].as_str())];
        at += 1;
    }
    routes
};

/// The numbers of a database.
#[derive(Debug)]
pub struct DatabaseMetrics {
    /// Reads, from the question to the answer.
    pub reads: Histogram,
    /// Writes, from the request to its durable end: the wait for others, and the commit.
    pub writes: Histogram,
    /// Commits, each of one or more writes.
    pub commits: Histogram,
    /// Writes that wait for a commit.
    pub waiting: Gauge,
}

impl Default for DatabaseMetrics {
    fn default() -> Self {
        Self {
            reads: Histogram::new(DATABASE_BOUNDS),
            writes: Histogram::new(DATABASE_BOUNDS),
            commits: Histogram::new(DATABASE_BOUNDS),
            waiting: Gauge::default(),
        }
    }
}

impl DatabaseMetrics {
    /// Writes all of them.
    pub fn write(&self, text: &mut Exposition) {
        let none: &[(&str, &str)] = &[];
        text.histograms(
            "stratad_database_read_duration_seconds",
            "Reads of the database, from the question to the answer.",
            [(none, &self.reads)],
        );
        text.histograms(
            "stratad_database_write_duration_seconds",
            "Writes to the database, from the request to its durable end.",
            [(none, &self.writes)],
        );
        text.histograms(
            "stratad_database_commit_duration_seconds",
            "Commits of the database, each of one or more writes.",
            [(none, &self.commits)],
        );
        text.gauge(
            "stratad_database_writes_waiting",
            "Writes that wait for a commit.",
            self.waiting.get(),
        );
    }
}
