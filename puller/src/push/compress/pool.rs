//! Threads that compress blocks, whose results come out in the order in which the blocks went in.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Compression, block};

/// More threads than this would hold more memory than a transfer should.
const MAX_THREADS: usize = 8;

struct Job {
    block: Vec<u8>,
    window: usize,
    reply: Sender<io::Result<Vec<u8>>>,
}

/// Its threads end when it is dropped.
pub(super) struct Pool {
    compression: Compression,
    threads: usize,
    /// None: the caller's thread does the work.
    jobs: Option<Sender<Job>>,
    /// What is under way, the oldest first.
    results: VecDeque<Receiver<io::Result<Vec<u8>>>>,
}

impl Pool {
    pub(super) fn new(compression: Compression, threads: usize) -> io::Result<Self> {
        let threads = threads.clamp(1, MAX_THREADS);
        let mut pool = Self {
            compression,
            threads,
            jobs: None,
            results: VecDeque::new(),
        };
        if threads > 1 {
            let (sender, receiver) = mpsc::channel();
            let queue = Arc::new(Mutex::new(receiver));
            for _ in 0..threads {
                let queue = queue.clone();
                let named = std::thread::Builder::new().name("compress".to_owned());
                named.spawn(move || work(&queue, compression))?;
            }
            pool.jobs = Some(sender);
        }
        Ok(pool)
    }

    /// Whether a result has to be taken before another block is sent. One more than there are threads keeps
    /// all of them busy.
    pub(super) fn is_full(&self) -> bool {
        self.results.len() > self.threads
    }

    pub(super) fn send(&mut self, block: Vec<u8>, window: usize) -> io::Result<()> {
        let (reply, result) = mpsc::channel();
        match &self.jobs {
            None => {
                // The receiver is here: it cannot be gone.
                let _ = reply.send(block::compress(&block, window, self.compression));
            }
            Some(jobs) => {
                let job = Job {
                    block,
                    window,
                    reply,
                };
                jobs.send(job).map_err(|_| ended())?;
            }
        }
        self.results.push_back(result);
        Ok(())
    }

    /// Writes the oldest result, when it is there; `false`: none is under way.
    pub(super) fn next(&mut self, out: &mut dyn Write) -> io::Result<bool> {
        let Some(result) = self.results.pop_front() else {
            return Ok(false);
        };
        out.write_all(&result.recv().map_err(|_| ended())??)?;
        Ok(true)
    }
}

fn ended() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

fn work(queue: &Mutex<Receiver<Job>>, compression: Compression) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let result = block::compress(&job.block, job.window, compression);
        // When nobody waits any more the whole has been given up.
        let _ = job.reply.send(result);
    }
}
