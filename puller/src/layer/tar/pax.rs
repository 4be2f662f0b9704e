//! PAX extended headers: records `length key=value\n` (POSIX.1-2001, pax, "pax Extended Header").

use std::collections::HashMap;

use super::Time;
use super::error::TarFault;
use super::number;
use super::sparse::PaxSparse;

/// What one extended header says, as far as unpacking needs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    /// Name and value, in order.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// Parses the header of a single entry.
pub(super) fn local(bytes: &[u8]) -> Result<Extended, TarFault> {
    let mut extended = Extended::default();
    let mut seen: HashMap<&[u8], &[u8]> = HashMap::new();
    for record in (Records { rest: bytes }) {
        let (key, value) = record?;
        // A sparse map of version 0.0 repeats its keys; nothing else has a reason to.
        let repeats = matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes");
        if !repeats && seen.insert(key, value).is_some_and(|old| old != value) {
            return Err(TarFault::Contradiction("PAX records"));
        }
        // An empty value takes an earlier one back: the header's field holds.
        if !value.is_empty() || key.starts_with(XATTR) {
            extended.set(key, value)?;
        }
    }
    Ok(extended)
}

/// Adds a global header to what earlier ones said. Only what can hold for many entries is accepted:
/// a global name, size or sparse map is read in different ways by different tools.
pub(super) fn add_global(globals: &mut Extended, bytes: &[u8]) -> Result<(), TarFault> {
    for record in (Records { rest: bytes }) {
        let (key, value) = record?;
        match key {
            b"uid" | b"gid" | b"mtime" if !value.is_empty() => globals.set(key, value)?,
            b"path" | b"linkpath" | b"size" => return Err(TarFault::PaxGlobal(shown(key))),
            _ if key.starts_with(b"GNU.sparse.") || key.starts_with(XATTR) => {
                return Err(TarFault::PaxGlobal(shown(key)));
            }
            _ => {}
        }
    }
    Ok(())
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Extended {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarFault> {
        let bad = || TarFault::PaxValue(shown(key));
        let number = || number::decimal(value).map_err(|_| bad());
        let id = || {
            let id = u32::try_from(number()?).map_err(|_| bad())?;
            if id == u32::MAX { Err(bad()) } else { Ok(id) }
        };
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(id()?),
            b"gid" => self.gid = Some(id()?),
            b"mtime" => self.mtime = Some(time(value).ok_or_else(bad)?),
            _ => {
                if let Some(xattr) = key.strip_prefix(XATTR) {
                    if xattr.is_empty() || xattr.contains(&0) {
                        return Err(bad());
                    }
                    self.xattrs.push((xattr.to_vec(), value.to_vec()));
                } else if let Some(sparse) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(sparse, value).map_err(|()| bad())?;
                }
                // Everything else (comment, atime, uname…) does not change what is unpacked.
            }
        }
        Ok(())
    }
}

pub(super) fn name(value: &[u8]) -> Result<Vec<u8>, TarFault> {
    if value.contains(&0) {
        return Err(TarFault::Nul);
    }
    Ok(value.to_vec())
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are dropped.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let point = value.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    let whole = i64::try_from(number::decimal(whole).ok()?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = (0..9).fold(0u32, |sum, at| {
        sum * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'))
    });
    Some(match (negative, nanoseconds) {
        (false, _) => Time {
            seconds: whole,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -whole,
            nanoseconds: 0,
        },
        (true, _) => Time {
            seconds: -whole - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// Keeps hostile text in messages short.
fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[..key.len().min(80)]).into_owned()
}

/// The records of a header, one by one.
struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), TarFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = split(self.rest);
        // After a malformed record nothing can be trusted: the iterator ends.
        self.rest = record.as_ref().map_or(&[][..], |(_, _, rest)| rest);
        Some(
            record
                .map(|(key, value, _)| (key, value))
                .ok_or(TarFault::PaxRecord),
        )
    }
}

/// Key, value and what follows the first record.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(21).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number::decimal(&bytes[..space]).ok()?).ok()?;
    if length > bytes.len() {
        return None;
    }
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return None;
    }
    Some((key, value, &bytes[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        [
            format!("{length} {key}=").as_bytes(),
            value,
            b"\n".as_slice(),
        ]
        .concat()
    }

    #[test]
    fn records_are_read() {
        let bytes = [
            record("path", b"a=b\nc"),
            record("size", b"8589934592"),
            record("mtime", b"1700000000.1234567891"),
            record("uid", b"3000000000"),
            record("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
            record("comment", b"ignored"),
        ]
        .concat();
        let read = local(&bytes).expect("well formed");
        assert_eq!(read.path.as_deref(), Some(&b"a=b\nc"[..]));
        assert_eq!(read.size, Some(8_589_934_592));
        assert_eq!(read.uid, Some(3_000_000_000));
        assert_eq!(
            read.mtime,
            Some(Time {
                seconds: 1_700_000_000,
                nanoseconds: 123_456_789
            })
        );
        assert_eq!(
            read.xattrs,
            [(b"security.capability".to_vec(), b"\x01\0\0\x02".to_vec())]
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "5 a=b\n",
            "7 a=b\n",
            "6 a=b ",
            "6 ab\n\n",
            "5 =b\n",
            " a=b\n",
            "0 a=b\n",
            "-6 a=b\n",
            "6 a=b\n\0\0",
            "99999999999999999999 a=b\n",
        ] {
            assert_eq!(local(bad.as_bytes()), Err(TarFault::PaxRecord), "{bad:?}");
        }
        assert_eq!(local(&record("path", b"a\0b")), Err(TarFault::Nul));
        for (key, value) in [
            ("size", "-1"),
            ("size", "1.0"),
            ("uid", "4294967295"),
            ("mtime", "1e9"),
            ("mtime", "."),
        ] {
            assert!(
                local(&record(key, value.as_bytes())).is_err(),
                "{key}={value}"
            );
        }
    }

    #[test]
    fn repeated_records_must_agree() {
        let twice = [record("size", b"1"), record("size", b"1")].concat();
        assert!(local(&twice).is_ok());
        let differing = [record("size", b"1"), record("size", b"2")].concat();
        assert!(local(&differing).is_err());
    }

    #[test]
    fn global_headers_give_no_names_or_sizes() {
        let mut globals = Extended::default();
        add_global(&mut globals, &record("comment", b"0123")).expect("harmless");
        add_global(&mut globals, &record("uid", b"5")).expect("allowed");
        assert_eq!(globals.uid, Some(5));
        for key in ["path", "linkpath", "size", "GNU.sparse.major"] {
            assert!(
                add_global(&mut globals, &record(key, b"1")).is_err(),
                "{key}"
            );
        }
    }

    #[test]
    fn times_before_1970() {
        let parse = |text: &str| time(text.as_bytes()).expect("a time");
        assert_eq!(
            parse("-1.25"),
            Time {
                seconds: -2,
                nanoseconds: 750_000_000
            }
        );
        assert_eq!(
            parse("-3"),
            Time {
                seconds: -3,
                nanoseconds: 0
            }
        );
        assert_eq!(parse("7.").seconds, 7);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = local(&bytes);
        }

        #[test]
        fn any_value_survives(value in proptest::collection::vec(any::<u8>(), 1..300)) {
            let read = local(&record("SCHILY.xattr.user.x", &value)).expect("well formed");
            prop_assert_eq!(&read.xattrs[0].1, &value);
        }
    }
}
