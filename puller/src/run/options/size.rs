//! Sizes as people write them: `64m`, `1.5g`, `1024`, `2GiB`; a unit is 1024 of the one before.

use super::{OptionError, shown};

/// The bytes. At most 2^63 - 1.
///
/// # Errors
/// Not a number with or without one of the units b, k, m, g, t, p.
pub fn size(text: &str) -> Result<u64, OptionError> {
    let invalid = || OptionError::new(format!("invalid size: {}", shown(text)));
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
        return Err(invalid());
    }
    let factor: u64 = match unit.trim_start_matches(' ').to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err(invalid()),
    };
    let too_large = || OptionError::new(format!("{} is too large", shown(text)));
    let most = i64::MAX as u64;
    if let Ok(whole) = number.parse::<u64>() {
        return whole
            .checked_mul(factor)
            .filter(|n| *n <= most)
            .ok_or_else(too_large);
    }
    if number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(too_large());
    }
    let bytes = number.parse::<f64>().map_err(|_| invalid())? * factor as f64;
    if bytes >= most as f64 {
        return Err(too_large());
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_binary() {
        let known = [
            ("0", 0),
            ("1024", 1024),
            ("7b", 7),
            ("1k", 1024),
            ("1.5m", 1_572_864),
            ("2GiB", 2 << 30),
            ("3 gb", 3 << 30),
            ("1T", 1 << 40),
        ];
        for (text, bytes) in known {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "m",
            "-1",
            "1x",
            "1..5m",
            "1.m",
            ".5m",
            "1e3",
            "9999999999999g",
            "99999999999999999999999",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_number_is_itself(n in 0..=i64::MAX as u64) {
            prop_assert_eq!(size(&n.to_string()), Ok(n));
        }
    }
}
