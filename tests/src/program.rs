//! Programs that tests put somewhere and run.
//!
//! A file that any process has open for writing cannot be run ("text file busy", execve(2)), and a process that another
//! thread starts at that moment has, until it runs its own program, open what this one has. So each is written by a
//! process of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{run, tool};

/// Writes a program that everybody may run.
#[track_caller]
pub fn write(path: &Path, text: &str) {
    let mut sh = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh");
    let mut stdin = sh.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("write");
    drop(stdin);
    assert!(sh.wait().expect("sh").success());
}

/// Copies a program so that everybody may run it.
#[track_caller]
pub fn copy(from: &Path, to: &Path) {
    let mut install = Command::new(tool("install"));
    run(install.args(["-m", "755"]).arg(from).arg(to)).ok();
}
