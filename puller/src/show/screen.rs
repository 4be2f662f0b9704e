//! The lines at the bottom of a terminal that change: drawn in place, and out of the way of all else that
//! is printed.
//!
//! Each picture is one write, in which a line is overwritten before the rest of it is cleared, so nothing
//! flickers. A terminal that has synchronized output (DEC private mode 2026) is asked for it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is drawn now.
struct Screen {
    lines: Vec<String>,
}

static SCREEN: Mutex<Screen> = Mutex::new(Screen { lines: Vec::new() });

fn screen() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints something that stays, above the lines that change.
pub(crate) fn above<T>(print: impl FnOnce() -> T) -> T {
    let mut screen = screen();
    if screen.lines.is_empty() {
        return print();
    }
    let lines = std::mem::take(&mut screen.lines);
    // Without a place to complain there is nobody to complain to.
    let _ = io::stderr().write_all(picture(lines.len(), &[], &[]).as_bytes());
    let printed = print();
    let _ = io::stderr().write_all(picture(0, &[], &lines).as_bytes());
    screen.lines = lines;
    printed
}

/// Draws these lines in place of the last ones; none: clears them. Each is cut to the terminal's width, and
/// there are never more than fit beside the cursor's own line. What is `told` stays above them.
pub(super) fn draw(told: &[String], mut lines: Vec<String>, (columns, rows): (usize, usize)) {
    lines.truncate(rows.saturating_sub(1).max(1));
    for line in &mut lines {
        *line = cut(line, columns.saturating_sub(1).max(1));
    }
    let mut screen = screen();
    if screen.lines != lines || !told.is_empty() {
        let _ = io::stderr().write_all(picture(screen.lines.len(), told, &lines).as_bytes());
        screen.lines = lines;
    }
}

/// Columns and rows of the terminal at standard error; of something else, what terminals had first.
pub(super) fn size() -> (usize, usize) {
    let found = rustix::termios::tcgetwinsize(io::stderr());
    let found = found.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    found.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

/// No wider than that; and nothing in it that could move the cursor.
fn cut(line: &str, columns: usize) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    line.chars().take(columns).map(plain).collect()
}

/// The bytes that make `told` and `lines` of `before` lines.
fn picture(before: usize, told: &[String], lines: &[String]) -> String {
    let mut text = String::from("\x1b[?2026h\r");
    // Writing to a String cannot fail.
    if before > 0 {
        let _ = write!(text, "\x1b[{before}A");
    }
    for line in told.iter().chain(lines) {
        let _ = writeln!(text, "{line}\x1b[K");
    }
    if before > told.len() + lines.len() {
        text.push_str("\x1b[J");
    }
    text.push_str("\x1b[?2026l");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_overwritten_in_place() {
        let lines = ["a".to_owned(), "b".to_owned()];
        let first = picture(0, &[], &lines);
        assert_eq!(first, "\x1b[?2026h\ra\x1b[K\nb\x1b[K\n\x1b[?2026l");
        let fewer = picture(2, &[], &lines[..1]);
        assert_eq!(fewer, "\x1b[?2026h\r\x1b[2Aa\x1b[K\n\x1b[J\x1b[?2026l");
        assert!(
            !picture(2, &[], &lines).contains("\x1b[J"),
            "nothing flickers"
        );
        let told = picture(1, &lines[..1], &lines[1..]);
        assert_eq!(told, "\x1b[?2026h\r\x1b[1Aa\x1b[K\nb\x1b[K\n\x1b[?2026l");
    }

    #[test]
    fn a_line_is_no_wider_than_the_terminal() {
        assert_eq!(cut("äöü", 2), "äö");
        assert_eq!(cut("a\x1b[2Jb", 9), "a\u{fffd}[2Jb");
    }
}
