//! Which ids exist in a user namespace.

use std::ops::Range;

use super::{UID_MAP, UsernsError, read};

const GID_MAP: &str = "/proc/self/gid_map";

/// The ids that exist here, of users and of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    users: Vec<Range<u64>>,
    groups: Vec<Range<u64>>,
}

impl Ids {
    /// Those of this process's user namespace.
    pub fn here() -> Result<Self, UsernsError> {
        Ok(Self {
            users: inside(&read(UID_MAP)?),
            groups: inside(&read(GID_MAP)?),
        })
    }

    /// Those that two texts in the form of uid_map and gid_map give (user_namespaces(7)).
    pub fn of(uid_map: &str, gid_map: &str) -> Self {
        Self {
            users: inside(uid_map),
            groups: inside(gid_map),
        }
    }

    /// Whether there is a user of this id.
    pub fn has_user(&self, id: u32) -> bool {
        self.users.iter().any(|ids| ids.contains(&id.into()))
    }

    /// Whether there is a group of this id.
    pub fn has_group(&self, id: u32) -> bool {
        self.groups.iter().any(|ids| ids.contains(&id.into()))
    }

    /// Whether every id exists: this is outside of all user namespaces.
    pub fn is_whole(&self) -> bool {
        let all = 0..u64::from(u32::MAX);
        self.users == [all.clone()] && self.groups == [all]
    }

    /// Whether there is a single user: whoever made the namespace had no help.
    pub fn is_single(&self) -> bool {
        let count = |ids: &[Range<u64>]| ids.iter().map(|ids| ids.end - ids.start).sum::<u64>();
        count(&self.users) <= 1
    }
}

/// How the ids of this process's user namespace are numbered outside of it: (first inside, first outside, count).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mappings {
    /// Of users.
    pub users: Vec<(u64, u64, u64)>,
    /// Of groups.
    pub groups: Vec<(u64, u64, u64)>,
}

impl Mappings {
    /// Those of this process's user namespace.
    pub fn here() -> Result<Self, UsernsError> {
        Ok(Self {
            users: super::ranges(&read(UID_MAP)?).collect(),
            groups: super::ranges(&read(GID_MAP)?).collect(),
        })
    }

    /// Whether there is a group of this id.
    pub fn has_group(&self, id: u64) -> bool {
        let mut ranges = self.groups.iter();
        ranges.any(|(inside, _, count)| (*inside..inside.saturating_add(*count)).contains(&id))
    }
}

fn inside(map: &str) -> Vec<Range<u64>> {
    super::ranges(map)
        .map(|(inside, _, length)| inside..inside.saturating_add(length))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_in_a_range() {
        let ids = Ids::of("0 1000 1\n1 100000 65536\n", "0 1000 1\n");
        assert!(ids.has_user(0) && ids.has_user(1) && ids.has_user(65536));
        assert!(!ids.has_user(65537));
        assert!(ids.has_group(0) && !ids.has_group(1));
        assert!(!ids.is_single());
        let single = Ids::of("0 1000 1", "0 1000 1");
        assert!(single.is_single() && !single.has_user(1));
        let whole = "0 0 4294967295";
        assert!(Ids::of(whole, whole).is_whole());
        assert!(!single.is_whole() && !Ids::of(whole, "0 0 65536").is_whole());
        assert!(!Ids::of("rubbish", "").has_user(0));
    }
}
