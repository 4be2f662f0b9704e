//! Questions to the person at the terminal.

use std::io::{self, BufRead, Write as _};

use anyhow::{Context as _, Result, bail};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

const MAX_LINE: usize = 4096;

/// One line as it was typed.
pub(crate) fn line(question: &str) -> Result<String> {
    ask(question)?;
    let mut text = String::new();
    io::stdin()
        .read_line(&mut text)
        .context("reading from the terminal")?;
    Ok(text.trim().to_owned())
}

/// One line that is not shown.
pub(crate) fn password(question: &str) -> Result<String> {
    ask(question)?;
    let quiet = Quiet::enter().context("hiding what is typed")?;
    let typed = typed(&mut io::stdin().lock());
    drop(quiet);
    // The end of the line was not shown either.
    let _ = writeln!(io::stderr());
    match typed.context("reading from the terminal")? {
        Some(text) => Ok(text),
        None => bail!("interrupted"),
    }
}

fn ask(question: &str) -> Result<()> {
    let mut out = io::stderr();
    write!(out, "{question}")
        .and_then(|()| out.flush())
        .context("writing to the terminal")
}

/// The terminal without echo, until dropped. Keys that would end the program arrive as what they are, because
/// ending it would leave the terminal so.
struct Quiet(Termios);

impl Quiet {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that has gone needs no echo.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Reads keys up to the end of the line; `None`: interrupted.
fn typed(input: &mut impl BufRead) -> io::Result<Option<String>> {
    const INTERRUPT: u8 = 3;
    const END: u8 = 4;
    const KILL: u8 = 0x15;
    let mut text = Vec::new();
    for byte in io::Read::bytes(input) {
        match byte? {
            b'\r' | b'\n' => break,
            INTERRUPT => return Ok(None),
            END if text.is_empty() => return Ok(None),
            END => break,
            KILL => text.clear(),
            8 | 0x7f => {
                // One character, however many bytes.
                while text.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if text.len() < MAX_LINE => text.push(byte),
            _ => {}
        }
    }
    String::from_utf8(text).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_a_terminal_would() {
        let read = |keys: &[u8]| typed(&mut &*keys).expect("text");
        assert_eq!(read(b"secret\nrest").as_deref(), Some("secret"));
        assert_eq!(read("sä\x7fecret\r".as_bytes()).as_deref(), Some("secret"));
        assert_eq!(read(b"wrong\x15right\n").as_deref(), Some("right"));
        assert_eq!(read(b"sec\x03ret\n"), None);
        assert_eq!(read(b"\x04"), None);
        assert_eq!(read(b"\x7f\x7fx\n").as_deref(), Some("x"));
    }
}
