//! The keys that leave a container without ending it: docker's `--detach-keys`, `ctrl-p,ctrl-q` by default.

/// Docker's default.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, and how much of it was typed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

/// Text that is no sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid detach keys {0:?}: expected letters, or ctrl- and one of a-z @ [ \\ ] ^ _, with commas between"
)]
pub struct InvalidKeys(String);

impl std::str::FromStr for Keys {
    type Err = InvalidKeys;

    /// Reads `ctrl-p,ctrl-q`, `a,b`; empty text is a sequence that nobody can type.
    fn from_str(text: &str) -> Result<Self, InvalidKeys> {
        let invalid = || InvalidKeys(text.chars().take(80).collect());
        let mut sequence = Vec::new();
        if text.is_empty() {
            return Ok(Self {
                sequence,
                matched: 0,
            });
        }
        for word in text.split(',') {
            let key = match (word.strip_prefix("ctrl-"), word.as_bytes()) {
                (Some(name), _) => control(name).ok_or_else(invalid)?,
                (None, [key]) if key.is_ascii() => *key,
                _ => return Err(invalid()),
            };
            sequence.push(key);
        }
        Ok(Self {
            sequence,
            matched: 0,
        })
    }
}

fn control(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        b"@" => Some(0),
        [other @ (b'[' | b'\\' | b']' | b'^' | b'_')] => Some(other - b'[' + 27),
        _ => None,
    }
}

impl Keys {
    /// Takes what was typed: what is for the container, and whether the sequence was completed, which ends
    /// it. The beginning of a sequence is kept back until the next key tells.
    pub fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        for key in typed {
            if self.sequence.get(self.matched) == Some(key) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend(&self.sequence[..self.matched]);
            self.matched = 0;
            if self.sequence.first() == Some(key) {
                self.matched = 1;
                if self.sequence.len() == 1 {
                    self.matched = 0;
                    return (passed, true);
                }
            } else {
                passed.push(*key);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(text: &str) -> Keys {
        text.parse().expect(text)
    }

    #[test]
    fn sequences_are_read_as_docker_reads_them() {
        assert_eq!(keys(DEFAULT).sequence, [16, 17]);
        assert_eq!(
            keys("ctrl-@,a,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_").sequence,
            [0, b'a', 27, 28, 29, 30, 31]
        );
        assert_eq!(keys("").sequence, [0u8; 0]);
        for bad in [",", "ctrl-", "ctrl-A", "ctrl-1", "ab", "ä", "a,"] {
            assert!(bad.parse::<Keys>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_whole_sequence_detaches_and_nothing_typed_is_lost() {
        let mut typed = keys(DEFAULT);
        assert_eq!(typed.take(b"ls\r"), (b"ls\r".to_vec(), false));
        assert_eq!(typed.take(&[16]), (vec![], false));
        assert_eq!(typed.take(b"x"), (vec![16, b'x'], false));
        assert_eq!(typed.take(&[16, 16, 17]), (vec![16], true));
        let mut one = keys("a");
        assert_eq!(one.take(b"xa"), (b"x".to_vec(), true));
        assert_eq!(keys("").take(b"any"), (b"any".to_vec(), false));
    }

    proptest! {
        #[test]
        fn whatever_is_typed_arrives_unless_it_detaches(parts in proptest::collection::vec("[ab\\x10\\x11]{0,5}", 0..6)) {
            let mut typed = keys(DEFAULT);
            let (mut arrived, mut left) = (Vec::new(), false);
            for part in &parts {
                let (passed, done) = typed.take(part.as_bytes());
                arrived.extend(passed);
                left |= done;
                if left { break; }
            }
            let whole: Vec<u8> = parts.concat().into_bytes();
            let at = whole.windows(2).position(|w| w == [16, 17]);
            prop_assert_eq!(left, at.is_some());
            if left {
                prop_assert_eq!(&arrived[..], &whole[..at.unwrap_or(0)]);
            } else {
                arrived.extend(&typed.sequence[..typed.matched]);
                prop_assert_eq!(arrived, whole);
            }
        }
    }
}
