//! Signals by the names and numbers that people and images write: `SIGTERM`, `term`, `15`, `RTMIN+3`
//! (signal(7)).

/// Name, number; realtime signals aside.
const NAMES: [(&str, i32); 32] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];
/// The realtime signals that a program has for itself: the C library keeps those before.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}: expected a name (TERM, SIGKILL, RTMIN+1) or a number from 1 to 64")]
pub struct UnknownSignal(String);

/// The signal's number.
pub fn parse(text: &str) -> Result<i32, UnknownSignal> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match name {
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        _ => None,
    };
    let relative = || {
        let offset = |digits: &str| digits.parse::<i32>().ok().filter(|n| (0..=30).contains(n));
        match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(digits), _) => offset(digits).map(|n| RTMIN + n),
            (_, Some(digits)) => offset(digits).map(|n| RTMAX - n),
            _ => None,
        }
    };
    let named = || NAMES.iter().find(|(known, _)| *known == name).map(|n| n.1);
    let numbered = || {
        upper
            .parse::<i32>()
            .ok()
            .filter(|n| (1..=RTMAX).contains(n))
    };
    number
        .or_else(named)
        .or_else(numbered)
        .or_else(relative)
        .ok_or_else(|| UnknownSignal(text.chars().take(80).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_numbers_and_realtime_signals_are_read() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for bad in [
            "", "0", "65", "-9", "NONE", "SIG", "RTMIN+31", "RTMIN-1", "9x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_a_signal(text in "\\PC{0,12}") {
            if let Ok(number) = parse(&text) {
                prop_assert!((1..=64).contains(&number));
            }
        }
    }
}
