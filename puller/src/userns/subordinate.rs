//! Ids beside one's own: subuid(5) and subgid(5) say which an ordinary user may map into a user namespace,
//! and newuidmap(1) and newgidmap(1), which have the privilege to, do it.
//!
//! Own id -> 0, the first subordinate id -> 1 and so on: the map that podman and buildah make, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Lines that one file is read for at most (the kernel takes 340 ranges, user_namespaces(7)).
const MOST: usize = 64;

/// What may be mapped, and who does it.
#[derive(Debug)]
pub(super) struct Subordinate {
    uid: u32,
    gid: u32,
    uids: Vec<(u32, u32)>,
    gids: Vec<(u32, u32)>,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

impl Subordinate {
    /// What user `uid` has; the error says what is missing.
    pub(super) fn of(uid: u32, gid: u32) -> Result<Self, String> {
        let name = name_of(uid);
        let ranges = |file: &str, option: Option<&str>| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let mut ranges = parse(&text, uid, name.as_deref());
            if ranges.is_empty() {
                ranges = from_switch(uid, name.as_deref(), option);
            }
            match ranges.is_empty() {
                true => Err(format!("{file} gives user {uid} no ids")),
                false => Ok(ranges),
            }
        };
        Ok(Self {
            uid,
            gid,
            uids: ranges("/etc/subuid", None)?,
            gids: ranges("/etc/subgid", Some("-g"))?,
            newuidmap: program("newuidmap")?,
            newgidmap: program("newgidmap")?,
        })
    }

    /// Maps the ids into the user namespace of process `pid`, from outside of it.
    pub(super) fn map(&self, pid: u32) -> Result<(), String> {
        run(&self.newgidmap, pid, self.gid, &self.gids)?;
        run(&self.newuidmap, pid, self.uid, &self.uids)
    }
}

fn run(program: &Path, pid: u32, own: u32, ranges: &[(u32, u32)]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args([pid.to_string(), "0".into(), own.to_string(), "1".into()]);
    let mut inside = 1u32;
    for (first, count) in ranges {
        command.args([inside, *first, *count].map(|number| number.to_string()));
        inside += count;
    }
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}

/// What a directory service grants (`subid:` in nsswitch.conf(5)), as getsubids(1) has it: `INDEX: NAME FIRST COUNT` a
/// line. Where that is not installed, nothing.
fn from_switch(uid: u32, name: Option<&str>, option: Option<&str>) -> Vec<(u32, u32)> {
    let switch = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let Ok(tool) = program("getsubids") else {
        return Vec::new();
    };
    if !asks_a_service(&switch) {
        return Vec::new();
    }
    // A user of the same service is in no file either.
    let name = name.map(str::to_owned).or_else(|| {
        let output = Command::new(program("id").ok()?)
            .args(["-un", "--"])
            .arg(uid.to_string())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    });
    let mut command = Command::new(tool);
    command
        .args(option)
        .arg(name.unwrap_or_else(|| uid.to_string()));
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => parse(
            &listed(&String::from_utf8_lossy(&output.stdout), uid),
            uid,
            None,
        ),
        _ => Vec::new(),
    }
}

/// Whether nsswitch.conf(5) has another source of such ids than the files.
fn asks_a_service(switch: &str) -> bool {
    let sources = switch
        .lines()
        .filter_map(|line| line.trim().strip_prefix("subid:"));
    sources
        .flat_map(str::split_whitespace)
        .any(|source| source != "files")
}

/// Such a list in the form of the file.
fn listed(text: &str, uid: u32) -> String {
    let lines = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [index, _, first, count] if index.ends_with(':') => {
                Some(format!("{uid}:{first}:{count}\n"))
            }
            _ => None,
        }
    });
    lines.collect()
}

/// The ranges of a user, each (first id, how many): `NAME-OR-UID:FIRST:COUNT`. Ids that do not fit
/// into 32 bits, together with those before them, are left out.
fn parse(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let uid = uid.to_string();
    let mut total = 1u32;
    let mut ranges = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(who), Some(first), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if who != uid && Some(who) != name {
            continue;
        }
        let (Ok(first), Ok(count)) = (first.parse::<u32>(), count.parse::<u32>()) else {
            continue;
        };
        let (Some(_), Some(sum)) = (first.checked_add(count), total.checked_add(count)) else {
            continue;
        };
        if count > 0 && ranges.len() < MOST {
            total = sum;
            ranges.push((first, count));
        }
    }
    ranges
}

/// The user's login name.
fn name_of(uid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    let uid = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// A program of the host. These have the privilege themselves, so nothing is gained by putting another one
/// in front of them.
fn program(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"].map(PathBuf::from));
    let absolute = places.iter().filter(|place| place.is_absolute());
    let mut found = absolute
        .map(|place| place.join(name))
        .filter(|p| p.is_file());
    found
        .next()
        .ok_or_else(|| format!("{name} is not installed (Debian: uidmap; Fedora: shadow-utils)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_user_by_name_or_number() {
        let text = "other:1:5\nme:100000:65536\n1000:300000:10\n\n# me:1:1\nme:x:1\nme:5\nme:5:0\n";
        assert_eq!(
            parse(text, 1000, Some("me")),
            [(100_000, 65536), (300_000, 10)]
        );
        assert_eq!(parse(text, 1000, None), [(300_000, 10)]);
        assert_eq!(parse(text, 7, None), []);
    }

    #[test]
    fn what_a_directory_service_grants_is_read_as_the_file_is() {
        let text = "0: some one 1 2\n0: me 100000 65536\n1: me 300000 10\nError fetching ranges\n";
        assert!(asks_a_service("passwd: files\nsubid: sss\n"));
        assert!(!asks_a_service(
            "passwd: files sss\nsubid:  files\n#subid: sss\n"
        ));
        assert_eq!(listed(text, 7), "7:100000:65536\n7:300000:10\n");
        assert_eq!(
            parse(&listed(text, 7), 7, None),
            [(100_000, 65536), (300_000, 10)]
        );
    }

    #[test]
    fn ids_beyond_32_bits_are_left_out() {
        let text = "1:4294967295:2\n1:5:4294967294\n1:5:9\n1:99999999999:1\n1:5:4294967290\n";
        assert_eq!(parse(text, 1, None), [(5, 9)]);
        let many = "1:5:1\n".repeat(1000);
        assert_eq!(parse(&many, 1, None).len(), MOST);
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = Subordinate::of(4_000_000_000, 0).expect_err("nobody");
        assert!(error.contains("/etc/subuid"), "{error}");
        let error = program("no-such-program").expect_err("nothing");
        assert!(error.contains("uidmap"), "{error}");
    }
}
