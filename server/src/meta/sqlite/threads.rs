//! The threads that own the connections.
//!
//! A write waits for an fsync; those that queue up meanwhile are committed together, each in a
//! savepoint of its own, so that one that fails takes no other with it. Nobody is answered before the
//! commit is durable.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::{MetaError, Result};
use crate::telemetry::DatabaseMetrics;

/// How many writes share a commit at most: bounds how long the first of them waits.
const BATCH: usize = 128;

/// Answers the caller once the commit's outcome is known.
type Answer = Box<dyn FnOnce(Option<&NotCommitted>) + Send>;
/// Runs in the transaction; also says why, if it has ended the transaction for all who share it.
type WriteJob = Box<dyn FnOnce(&Connection) -> (Answer, Option<NotCommitted>) + Send>;

/// Why a commit failed, for each caller who shared it.
struct NotCommitted {
    make: fn(Box<dyn StdError + Send + Sync>) -> MetaError,
    reason: String,
}

impl NotCommitted {
    fn new(error: &MetaError) -> Self {
        let make = match error {
            MetaError::Full(_) => MetaError::Full,
            MetaError::ReadOnly(_) => MetaError::ReadOnly,
            _ => MetaError::Failed,
        };
        let reason = error.source().map_or(error.to_string(), |s| s.to_string());
        Self { make, reason }
    }

    fn as_error(&self) -> MetaError {
        (self.make)(self.reason.clone().into())
    }
}

/// The thread that writes.
pub(super) struct Writer {
    jobs: mpsc::Sender<WriteJob>,
    thread: thread::JoinHandle<()>,
    metrics: Arc<DatabaseMetrics>,
}

impl Writer {
    pub(super) fn start(db: Connection, metrics: Arc<DatabaseMetrics>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<WriteJob>();
        let thread = thread::Builder::new().name("meta-write".into());
        let counted = Arc::clone(&metrics);
        let thread = thread
            .spawn(move || {
                while let Ok(first) = queue.recv() {
                    let begun = Instant::now();
                    let rest = queue.try_iter().take(BATCH - 1);
                    let jobs = std::iter::once(first).chain(rest);
                    commit(&db, jobs.inspect(|_| counted.waiting.dec()));
                    counted.commits.observe(begun.elapsed());
                }
            })
            .map_err(|error| MetaError::Failed(error.into()))?;
        Ok(Self {
            jobs,
            thread,
            metrics,
        })
    }

    /// Whether the thread runs: it ends before its owner only by a panic.
    pub(super) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Runs `work` in a transaction and waits until it is durable.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let job: WriteJob = Box::new(move |db| {
            let begun = !db.is_autocommit();
            let outcome = if begun {
                in_savepoint(db, work)
            } else {
                // BEGIN failed, or an earlier job's error (a full disk) ended the transaction.
                Err(MetaError::Failed("the transaction was rolled back".into()))
            };
            let ended = match &outcome {
                Err(error) if begun && db.is_autocommit() => Some(NotCommitted::new(error)),
                _ => None,
            };
            let answer = move |failure: Option<&NotCommitted>| {
                let outcome = match (outcome, failure) {
                    (Ok(_), Some(failure)) => Err(failure.as_error()),
                    (Err(_), Some(failure)) if !begun => Err(failure.as_error()),
                    (outcome, _) => outcome,
                };
                // A caller that has gone away does not need the answer.
                drop(sender.send(outcome));
            };
            (Box::new(answer), ended)
        });
        let begun = Instant::now();
        self.metrics.waiting.inc();
        self.jobs.send(job).map_err(|_| MetaError::Closed)?;
        let outcome = answer.await;
        self.metrics.writes.observe(begun.elapsed());
        outcome.map_err(|_| MetaError::Closed)?
    }
}

/// Runs the jobs in one transaction, then answers all of them.
fn commit(db: &Connection, jobs: impl Iterator<Item = WriteJob>) {
    let failed = |error: rusqlite::Error| NotCommitted::new(&error.into());
    let begun = db.execute_batch("BEGIN IMMEDIATE").map_err(failed);
    let (mut answers, mut ended) = (Vec::new(), None);
    for job in jobs {
        let (answer, why) = job(db);
        answers.push(answer);
        ended = ended.or(why);
    }
    // The first reason is the true one: without a transaction COMMIT fails too.
    let committed = match (begun, ended) {
        (Err(why), _) | (Ok(()), Some(why)) => Err(why),
        (Ok(()), None) => db.execute_batch("COMMIT").map_err(failed),
    };
    if committed.is_err() && !db.is_autocommit() {
        // What failed is told below; a transaction left open would fail every later one.
        drop(db.execute_batch("ROLLBACK"));
    }
    let failure = committed.err();
    for answer in answers {
        answer(failure.as_ref());
    }
}

fn in_savepoint<T>(db: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    db.execute_batch("SAVEPOINT job")?;
    let outcome = work(db);
    if outcome.is_err() && !db.is_autocommit() {
        db.execute_batch("ROLLBACK TO job; RELEASE job")?;
    } else if outcome.is_ok() {
        db.execute_batch("RELEASE job")?;
    }
    outcome
}

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// What reads; it never waits for the writer. Lists go to threads. A lookup of a few pages of an index is
/// done where it is asked for: to hand it to a thread and back costs several times the lookup.
pub(super) struct Readers {
    queue: Arc<Queue>,
    here: Mutex<Vec<Connection>>,
    metrics: Arc<DatabaseMetrics>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<ReadJob>,
    idle: usize,
    closed: bool,
}

impl Readers {
    /// `threads` are given a thread each, `here` serve the lookups.
    pub(super) fn start(
        threads: Vec<Connection>,
        here: Vec<Connection>,
        metrics: Arc<DatabaseMetrics>,
    ) -> Result<Self> {
        let queue = Arc::new(Queue::default());
        for (number, db) in threads.into_iter().enumerate() {
            let queue = Arc::clone(&queue);
            let thread = thread::Builder::new().name(format!("meta-read-{number}"));
            thread
                .spawn(move || {
                    while let Some(job) = queue.next() {
                        job(&db);
                    }
                })
                .map_err(|error| MetaError::Failed(error.into()))?;
        }
        let here = Mutex::new(here);
        Ok(Self {
            queue,
            here,
            metrics,
        })
    }

    /// Runs a short lookup, on this thread if a connection is free.
    pub(super) async fn look_up<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let free = self.connections().pop();
        let Some(db) = free else {
            return self.run(work).await;
        };
        let begun = Instant::now();
        let outcome = work(&db);
        self.metrics.reads.observe(begun.elapsed());
        self.connections().push(db);
        outcome
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a connection that cannot write.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let begun = Instant::now();
        let (sender, answer) = oneshot::channel();
        self.queue.push(Box::new(move |db| {
            // Work that nobody waits for any more is not done.
            if !sender.is_closed() {
                drop(sender.send(work(db)));
            }
        }));
        let outcome = answer.await;
        self.metrics.reads.observe(begun.elapsed());
        outcome.map_err(|_| MetaError::Closed)?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: ReadJob) {
        let mut state = self.lock();
        state.jobs.push_back(job);
        let waiting = state.idle > 0;
        drop(state);
        if waiting {
            self.wake.notify_one();
        }
    }

    fn next(&self) -> Option<ReadJob> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(dir: &std::path::Path) -> Connection {
        let db = Connection::open(dir.join("db")).expect("open");
        db.execute_batch("CREATE TABLE t (x INTEGER UNIQUE)")
            .expect("table");
        db
    }

    #[tokio::test]
    async fn one_write_that_fails_takes_no_other_with_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let writer = Writer::start(database(dir.path()), Arc::default()).expect("start");
        let insert = |x: i64| {
            writer.run(move |db| {
                db.execute("INSERT INTO t VALUES (?1)", [x])?;
                Ok(())
            })
        };
        let (a, b, c) = tokio::join!(insert(1), insert(1), insert(2));
        assert!(a.is_ok() && b.is_err() && c.is_ok());
        let count = |db: &Connection| {
            Ok(db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?)
        };
        assert_eq!(writer.run(count).await.expect("count"), 2);
    }
}
