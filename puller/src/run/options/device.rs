//! `--device HOST[:CONTAINER][:rwm]`: a device of the host in the container.

use std::path::PathBuf;

use super::{OptionError, shown, target};

/// The host's path, the container's, and what may be done with it: some of `r` (read), `w` (write), `m` (make more
/// nodes of it).
///
/// # Errors
/// Relative paths, other letters.
pub fn device(text: &str) -> Result<(PathBuf, String, String), OptionError> {
    let invalid = || OptionError::new(format!("invalid device specification: {}", shown(text)));
    let letters = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b"rwm".contains(&b))
            && "rwm".chars().all(|c| text.matches(c).count() <= 1)
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, access) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, access] if letters(access) => (*host, *host, *access),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, access] if letters(access) => (*host, *inside, *access),
        _ => return Err(invalid()),
    };
    let host = target(host).map_err(|_| invalid())?;
    let inside = target(inside).map_err(|_| invalid())?;
    Ok((host.into(), inside, access.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_to_three_parts_are_read() {
        let read = |text: &str| {
            let (host, inside, access) = device(text).expect("reads");
            format!("{} {inside} {access}", host.display())
        };
        assert_eq!(read("/dev/fuse"), "/dev/fuse /dev/fuse rwm");
        assert_eq!(read("/dev/fuse:rw"), "/dev/fuse /dev/fuse rw");
        assert_eq!(read("/dev/sda:/dev/xvdc"), "/dev/sda /dev/xvdc rwm");
        assert_eq!(read("/dev/sda:/dev/xvdc:r"), "/dev/sda /dev/xvdc r");
        for bad in [
            "",
            "dev/x",
            "/dev/x:y",
            "/dev/x:/dev/y:",
            "/dev/x:/dev/y:rx",
            "/dev/x:/dev/y:rr",
            "/a:/b:r:w",
        ] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }
}
