//! Credential helpers: programs called `docker-credential-NAME` that keep secrets for docker and others. The
//! action is their argument, what it concerns comes on standard input, the answer is JSON
//! (docker-credential-helpers, README "Development").

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Credentials, CredentialsError};

/// A helper may have to ask the person at the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// No answer is longer; `list` names each account.
const MAX_ANSWER: u64 = 1024 * 1024;

/// A helper that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Helper {
    program: String,
    file: PathBuf,
    patience: Duration,
}

/// What goes in and comes out.
#[derive(Serialize, Deserialize)]
struct Account {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(rename = "Username", default)]
    user: String,
    #[serde(rename = "Secret", default)]
    secret: Zeroizing<String>,
}

struct Answer {
    success: bool,
    out: Zeroizing<Vec<u8>>,
    err: Vec<u8>,
}

impl Helper {
    /// The helper of this name.
    ///
    /// # Errors
    /// The name could mean another program than one that is installed as a helper.
    pub(super) fn new(name: &str, file: &Path) -> Result<Self, CredentialsError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || name.len() > 100 || !name.bytes().all(allowed) {
            return Err(CredentialsError::Form {
                path: file.to_owned(),
                why: format!("{name:?} is not the name of a credential helper"),
            });
        }
        Ok(Self {
            program: format!("docker-credential-{name}"),
            file: file.to_owned(),
            patience: PATIENCE,
        })
    }

    /// The program's name.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// What it keeps for a server.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credentials>, CredentialsError> {
        let answer = self.run("get", server.as_bytes())?;
        if !answer.success {
            return self.absent(&answer).map(|()| None);
        }
        let account: Account = serde_json::from_slice(&answer.out)
            .map_err(|_| self.failed("answered something other than an account".to_owned()))?;
        if account.secret.is_empty() {
            return Ok(None);
        }
        let secret = account.secret.to_string();
        Ok(Some(Credentials::new(account.user, secret)))
    }

    /// Gives it something to keep.
    pub(super) fn store(
        &self,
        server: &str,
        credentials: &Credentials,
    ) -> Result<(), CredentialsError> {
        let account = Account {
            server: server.to_owned(),
            user: credentials.user().to_owned(),
            secret: Zeroizing::new(credentials.secret().expose().to_owned()),
        };
        let input = serde_json::to_vec(&account).map(Zeroizing::new);
        let input = input.map_err(|error| self.failed(format!("cannot be told: {error}")))?;
        let answer = self.run("store", &input)?;
        if answer.success {
            return Ok(());
        }
        Err(self.failed(format!("did not store: {}", words(&answer))))
    }

    /// Makes it forget; `false`: it knew nothing.
    pub(super) fn erase(&self, server: &str) -> Result<bool, CredentialsError> {
        let answer = self.run("erase", server.as_bytes())?;
        if answer.success {
            return Ok(true);
        }
        self.absent(&answer).map(|()| false)
    }

    /// The servers that it keeps something for.
    pub(super) fn list(&self) -> Result<Vec<String>, CredentialsError> {
        let answer = self.run("list", b"")?;
        if !answer.success {
            return self.absent(&answer).map(|()| Vec::new());
        }
        let servers: BTreeMap<String, String> = serde_json::from_slice(&answer.out)
            .map_err(|_| self.failed("answered something other than a list".to_owned()))?;
        Ok(servers.into_keys().collect())
    }

    /// Whether a failure means that there is nothing.
    fn absent(&self, answer: &Answer) -> Result<(), CredentialsError> {
        let said = words(answer);
        if said.contains("credentials not found") {
            return Ok(());
        }
        Err(self.failed(format!("failed: {said}")))
    }

    fn failed(&self, why: String) -> CredentialsError {
        CredentialsError::Helper {
            program: self.program.clone(),
            file: self.file.clone(),
            why,
        }
    }

    fn run(&self, action: &str, input: &[u8]) -> Result<Answer, CredentialsError> {
        let spawned = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.failed("is not installed".to_owned()),
            _ => self.failed(format!("cannot be started: {error}")),
        })?;
        let out = collect(child.stdout.take());
        let err = collect(child.stderr.take());
        if let Some(mut stdin) = child.stdin.take() {
            let input = Zeroizing::new(input.to_vec());
            // A helper that does not read is one that answers without.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let ended = self.end(&mut child);
        let until = Duration::from_secs(1);
        let out = out.recv_timeout(until).unwrap_or_default();
        let err = err.recv_timeout(until).unwrap_or_default();
        if out.len() as u64 > MAX_ANSWER {
            return Err(self.failed(format!("answered more than {MAX_ANSWER} bytes")));
        }
        Ok(Answer {
            success: ended?,
            out,
            err: err.to_vec(),
        })
    }

    fn end(&self, child: &mut Child) -> Result<bool, CredentialsError> {
        let started = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok(status.success()),
                Ok(None) if started.elapsed() > self.patience => {
                    // It may have ended by itself meanwhile.
                    let _ = child.kill();
                    let _ = child.wait();
                    let patience = self.patience;
                    return Err(self.failed(format!("did not answer within {patience:?}")));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(self.failed(format!("is lost: {error}"))),
            }
        }
    }
}

/// All that comes through a pipe; what is too much is not kept, and the helper learns of it by SIGPIPE.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::new());
        if let Some(pipe) = pipe {
            // What came before a broken pipe is judged as it is.
            let _ = pipe.take(MAX_ANSWER + 1).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// A helper's own words in one short line: errors come on standard output by the protocol.
fn words(answer: &Answer) -> String {
    let text = if answer.out.trim_ascii().is_empty() {
        &answer.err
    } else {
        &*answer.out
    };
    crate::registry::http::words(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A helper that is this shell script.
    fn script(dir: &Path, text: &str) -> Helper {
        let program = dir.join("docker-credential-test");
        // Written by another process: a program that is open for writing here could not be run.
        let write = format!("cat >'{0}' && chmod 755 '{0}'", program.display());
        let mut sh = Command::new("sh")
            .args(["-c", &write])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh");
        let mut stdin = sh.stdin.take().expect("a pipe");
        write!(stdin, "#!/bin/sh\n{text}\n").expect("write");
        drop(stdin);
        assert!(sh.wait().expect("sh").success());
        Helper {
            program: program.display().to_string(),
            file: PathBuf::from("config.json"),
            patience: Duration::from_millis(500),
        }
    }

    #[test]
    fn a_name_is_never_a_path() {
        for bad in ["", "../x", "a/b", "/bin/sh", "a b", "a;b"] {
            assert!(Helper::new(bad, Path::new("f")).is_err(), "{bad:?}");
        }
        let helper = Helper::new("pass", Path::new("f")).expect("a helper");
        assert_eq!(helper.program(), "docker-credential-pass");
    }

    #[test]
    fn answers_are_read_and_their_absence_too() {
        let dir = tempfile::tempdir().expect("tempdir");
        let helper = script(
            dir.path(),
            r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"me\",\"Secret\":\"s-$server-$1\"}""#,
        );
        let found = helper.get("registry.test").expect("an answer");
        assert_eq!(found, Some(Credentials::new("me", "s-registry.test-get")));
        let none = "echo 'credentials not found in native keychain'; exit 1";
        let helper = script(dir.path(), none);
        assert_eq!(helper.get("x").expect("an answer"), None);
        assert!(!helper.erase("x").expect("an answer"));
        let helper = script(dir.path(), r#"echo '{"a.test":"me","b.test":"you"}'"#);
        assert_eq!(helper.list().expect("an answer"), ["a.test", "b.test"]);
    }

    #[test]
    fn helpers_that_fail_hang_or_flood_are_errors() {
        let dir = tempfile::tempdir().expect("tempdir");
        for (text, why) in [
            (
                "echo 'the vault is sealed' >&2; exit 3",
                "the vault is sealed",
            ),
            ("exec sleep 20", "did not answer"),
            ("exec yes '{'", "more than"),
            ("echo no json", "other than an account"),
        ] {
            let error = script(dir.path(), text).get("x").expect_err(text);
            assert!(error.to_string().contains(why), "{error}");
        }
        let missing = Helper::new("none-of-this-name", Path::new("/c.json")).expect("a name");
        let error = missing.get("x").expect_err("not there").to_string();
        assert!(error.contains("/c.json") && error.contains("not installed"));
    }
}
