//! Whom a container's process runs as: `user[:group]`, names or numbers, looked up in the container's
//! own passwd(5) and group(5) (image-spec, config.md, "User").

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::inroot;

/// The ids of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory, `/` when the user is in no passwd file.
    pub home: String,
}

/// Why the user cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such name.
    #[error("unable to find user {0}: no matching entries in the container's passwd file")]
    User(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in the container's group file")]
    Group(String),
    /// A number that no id can be.
    #[error("user {0:?}: ids go from 0 to 4294967294")]
    Range(String),
}

/// One account of passwd(5).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// passwd and group files are smaller.
const MAX_ACCOUNTS: u64 = 16 * 1024 * 1024;

/// One of the two files of a root, looked up inside it; empty when there is none.
///
/// # Errors
/// It is no regular file, is too large, or cannot be read.
pub fn read_accounts(root: impl AsFd, path: &Path) -> io::Result<String> {
    Ok(inroot::read_file(root, path, MAX_ACCOUNTS)?.unwrap_or_default())
}

/// Looks `wanted` up; empty is root. A user that is given by number need not exist. Supplementary
/// groups are those that name the user, and none when a group is given.
pub fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let named = accounts(passwd).find(|a| a.name == user);
    let account = match (named, number(user)?) {
        (Some(account), _) => Some(account),
        (None, Some(uid)) => accounts(passwd).find(|a| a.uid == uid).or(Some(Account {
            name: "",
            uid,
            gid: 0,
            home: "/",
        })),
        (None, None) => None,
    };
    let Some(account) = account else {
        return Err(UserError::User(user.chars().take(80).collect()));
    };
    let (gid, groups) = match wanted_group {
        Some(wanted) => (find_group(wanted, group)?, Vec::new()),
        None => (account.gid, memberships(account.name, group)),
    };
    Ok(User {
        uid: account.uid,
        gid,
        groups,
        home: if account.home.is_empty() {
            "/"
        } else {
            account.home
        }
        .to_owned(),
    })
}

impl User {
    /// The groups that its processes are members of, the primary one first: a program that changes that (setgid(2)) must
    /// not leave what is denied to the group (CVE-2022-36109).
    pub fn all_groups(&self) -> Vec<u32> {
        let others = self.groups.iter().copied().filter(|gid| *gid != self.gid);
        std::iter::once(self.gid).chain(others).collect()
    }

    /// The same with more groups, each a name of the group file or a number.
    pub fn with_groups(mut self, wanted: &[String], group: &str) -> Result<Self, UserError> {
        for name in wanted {
            let gid = find_group(name, group)?;
            if !self.groups.contains(&gid) {
                self.groups.push(gid);
            }
        }
        Ok(self)
    }
}

/// A number that is an id; `None` when the text is no number.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        // (uid_t)-1 means "leave as it is" to setresuid(2).
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(UserError::Range(text.chars().take(80).collect())),
    }
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let uid = number(fields.nth(1)?).ok()??;
        let gid = number(fields.next()?).ok()??;
        let home = fields.nth(1).unwrap_or("/");
        Some(Account {
            name,
            uid,
            gid,
            home,
        })
    })
}

/// (name, id, members) of group(5).
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|n| !n.is_empty() && !n.starts_with('#'))?;
        let gid = number(fields.nth(1)?).ok()??;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, UserError> {
    if let Some((_, gid, _)) = groups(group).find(|g| g.0 == wanted) {
        return Ok(gid);
    }
    number(wanted)?.ok_or_else(|| UserError::Group(wanted.chars().take(80).collect()))
}

fn memberships(name: &str, group: &str) -> Vec<u32> {
    let mut gids: Vec<u32> = groups(group)
        .filter(|(_, _, members)| !name.is_empty() && members.split(',').any(|m| m.trim() == name))
        .map(|(_, gid, _)| gid)
        .collect();
    gids.sort_unstable();
    gids.dedup();
    // NGROUPS_MAX of the kernel.
    gids.truncate(65536);
    gids
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# note\nbroken\nwww:x:33:33:www:/var/www:/bin/false\n\
        7:x:70:71::/seven:\nhomeless:x:90:90:::\n";
    const GROUP: &str =
        "root:x:0:\nadm:x:4:www,root\nwww:x:33:\nvideo:x:44:other, www\nbad:x:y:www\n";

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<User, UserError> {
        Ok(User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.into(),
        })
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_containers_files() {
        let find = |wanted| resolve(wanted, PASSWD, GROUP);
        assert_eq!(find(""), user(0, 0, &[4], "/root"));
        assert_eq!(find("www"), user(33, 33, &[4, 44], "/var/www"));
        assert_eq!(find("33"), user(33, 33, &[4, 44], "/var/www"));
        assert_eq!(find("www:video"), user(33, 44, &[], "/var/www"));
        assert_eq!(find("www:1234"), user(33, 1234, &[], "/var/www"));
        assert_eq!(find("www:"), user(33, 33, &[4, 44], "/var/www"));
        assert_eq!(find("1000"), user(1000, 0, &[], "/"));
        assert_eq!(find(":4"), user(0, 4, &[], "/root"));
        assert_eq!(
            find("7"),
            user(70, 71, &[], "/seven"),
            "a name of digits comes first"
        );
        assert_eq!(find("homeless"), user(90, 90, &[], "/"));
        assert_eq!(find("nobody"), Err(UserError::User("nobody".into())));
        assert_eq!(find("www:none"), Err(UserError::Group("none".into())));
        assert_eq!(
            find("4294967295"),
            Err(UserError::Range("4294967295".into()))
        );
        assert_eq!(resolve("", "", ""), user(0, 0, &[], "/"));
    }

    #[test]
    fn further_groups_are_names_or_numbers() {
        let more = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
            let user = resolve("www", PASSWD, GROUP).expect("there");
            user.with_groups(&wanted, GROUP).map(|user| user.groups)
        };
        assert_eq!(more(&["video", "7", "7"]), Ok(vec![4, 44, 7]));
        assert_eq!(more(&["none"]), Err(UserError::Group("none".into())));
        let user = resolve("www:adm", PASSWD, GROUP).expect("there");
        let user = user.with_groups(&["video".into(), "adm".into()], GROUP);
        assert_eq!(user.expect("there").all_groups(), [4, 44]);
    }

    proptest! {
        #[test]
        fn never_panics_and_numbers_are_taken(wanted in "\\PC{0,20}", passwd in "[a-c0-9:\n,x#]{0,200}", group in "[a-c0-9:\n,x#]{0,200}") {
            let _ = resolve(&wanted, &passwd, &group);
        }

        #[test]
        fn any_numbers_resolve_without_files(uid in 0..u32::MAX, gid in 0..u32::MAX) {
            let found = resolve(&format!("{uid}:{gid}"), "", "").expect("numbers");
            prop_assert_eq!((found.uid, found.gid), (uid, gid));
        }
    }
}
