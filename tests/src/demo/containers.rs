//! A shell in a running container that is asked one thing after another.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};

use crate::demo::session::Session;

/// A container under way whose shell reads from us. It ends, and goes, when this is dropped.
pub(super) struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

const END: &str = "-- end of answer";

impl Shell {
    /// Starts a container from an image.
    pub(super) fn start(session: &Session, reference: &str) -> Result<Self> {
        let args = ["run", "--rm", "-i", reference, "/bin/sh"];
        let mut child = session
            .strata
            .command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start strata")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let mut shell = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        shell.ask("true").context("the container did not start")?;
        Ok(shell)
    }

    /// Runs a command line in the container; its output.
    pub(super) fn ask(&mut self, line: &str) -> Result<String> {
        let stdin = self.stdin.as_mut().context("the shell has ended")?;
        writeln!(stdin, "{line}\necho '{END}'")?;
        let mut answer = String::new();
        loop {
            let mut read = String::new();
            let count = self.stdout.read_line(&mut read)?;
            ensure!(count > 0, "the shell ended while it did: {line}");
            if read.trim_end() == END {
                return Ok(answer.trim_end().to_owned());
            }
            answer.push_str(&read);
        }
    }

    /// Ends the shell and expects that all went well.
    pub(super) fn end(mut self) -> Result<()> {
        self.stdin.take();
        let status = self.child.wait()?;
        ensure!(status.success(), "a container ended with {status}");
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The end of its input ends the shell.
        self.stdin.take();
        let _ = self.child.wait();
    }
}
