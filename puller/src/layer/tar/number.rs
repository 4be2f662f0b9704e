//! Numbers in tar headers: octal text, or base-256 where the first byte has its top bit set
//! (POSIX.1-1988 ustar; GNU tar manual, "Extensions to the standard format").

/// A field that holds no number, or one that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadNumber;

/// Reads a numeric field. Blank means 0, as every writer takes it.
pub(super) fn field(bytes: &[u8]) -> Result<i64, BadNumber> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

/// Two's complement, big-endian; the top bit is only the mark, the next one is the sign.
fn base256(bytes: &[u8]) -> Result<i64, BadNumber> {
    let negative = bytes[0] & 0x40 != 0;
    let first = if negative {
        bytes[0] | 0x80
    } else {
        bytes[0] & 0x7f
    };
    let mut value = if negative { -1i64 } else { 0 };
    for byte in std::iter::once(first).chain(bytes[1..].iter().copied()) {
        value = value.checked_mul(256).ok_or(BadNumber)? | i64::from(byte);
    }
    Ok(value)
}

fn octal(bytes: &[u8]) -> Result<i64, BadNumber> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(blank) {
        return Err(BadNumber);
    }
    digits[..end].iter().try_fold(0i64, |value, byte| {
        let digit = match byte {
            b'0'..=b'7' => i64::from(byte - b'0'),
            _ => return Err(BadNumber),
        };
        let shifted = value.checked_mul(8).ok_or(BadNumber)?;
        shifted.checked_add(digit).ok_or(BadNumber)
    })
}

/// Reads an unsigned decimal number as PAX writes it: digits only.
pub(super) fn decimal(bytes: &[u8]) -> Result<u64, BadNumber> {
    if bytes.is_empty() || bytes.len() > 20 {
        return Err(BadNumber);
    }
    bytes.iter().try_fold(0u64, |value, byte| {
        if !byte.is_ascii_digit() {
            return Err(BadNumber);
        }
        let shifted = value.checked_mul(10).ok_or(BadNumber)?;
        shifted.checked_add(u64::from(byte - b'0')).ok_or(BadNumber)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_as_the_writers_write_them() {
        assert_eq!(field(b"0000644\0"), Ok(0o644));
        assert_eq!(field(b"   644 \0"), Ok(0o644));
        assert_eq!(field(b"77777777777\0"), Ok(0o77_777_777_777));
        assert_eq!(field(b"\0\0\0\0\0\0\0\0"), Ok(0));
        assert_eq!(
            field(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"),
            Ok(8 * 1024 * 1024 * 1024)
        );
        assert_eq!(
            field(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"),
            Ok(-2)
        );
        assert_eq!(decimal(b"18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [
            b"0000648\0".as_slice(),
            b"-000001\0",
            b"12\x0034\0\0\0",
            b"1 1\0\0\0\0\0",
            b"\x80\x01\0\0\0\0\0\0\0\0\0\0",
            b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(field(bad), Err(BadNumber), "{bad:?}");
        }
        for bad in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "0x1",
            "18446744073709551616",
            "000000000000000000001",
        ] {
            assert_eq!(decimal(bad.as_bytes()), Err(BadNumber), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_field_gives_a_number_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let _ = field(&bytes);
            let _ = decimal(&bytes);
        }

        #[test]
        fn base_256_round_trips(value in any::<i64>()) {
            let mut bytes = [if value < 0 { 0xff } else { 0 }; 12];
            bytes[4..].copy_from_slice(&value.to_be_bytes());
            bytes[0] |= 0x80;
            prop_assert_eq!(field(&bytes), Ok(value));
        }
    }
}
