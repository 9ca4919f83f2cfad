//! The user that -Z names, as `/etc/passwd` and `/etc/group` have it.

use std::io;

/// A user to become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct User {
    /// As it was asked for.
    pub(crate) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// All groups, `gid` among them.
    pub(super) groups: Vec<u32>,
}

impl User {
    /// Looks a user up by name, or by `UID:GID`, which has no further groups.
    ///
    /// # Errors
    /// When there is none, or the files cannot be read. Users that only a directory service knows are not found.
    pub(crate) fn find(name: &str) -> io::Result<User> {
        if let Some(user) = numbered(name) {
            return Ok(user);
        }
        let user = named(
            name,
            &std::fs::read_to_string(PASSWD)?,
            &std::fs::read_to_string(GROUP).unwrap_or_default(),
        );
        user.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no such user in {PASSWD}")))
    }
}

fn numbered(text: &str) -> Option<User> {
    let (uid, gid) = text.split_once(':')?;
    let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
    Some(User { name: text.to_owned(), uid, gid, groups: vec![gid] })
}

/// Finds a user in the text of passwd(5), and its groups in that of group(5).
fn named(name: &str, passwd: &str, group: &str) -> Option<User> {
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.first() == Some(&name))?;
    let (uid, gid) = (user.get(2)?.parse().ok()?, user.get(3)?.parse().ok()?);
    let member_of = group.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let (number, members) = (fields.next()?.parse().ok()?, fields.next()?);
        members.split(',').any(|member| member == name).then_some(number)
    });
    let mut groups: Vec<u32> = member_of.chain([gid]).collect();
    groups.sort_unstable();
    groups.dedup();
    Some(User { name: name.to_owned(), uid, gid, groups })
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str =
        "root:x:0:0:root:/root:/bin/sh\n# comment\nflow:x:990:980::/:/sbin/nologin\nbad:x:y:1::/:\n";
    const GROUPS: &str =
        "root:x:0:\nflow:x:980:\nadm:x:4:syslog,flow\npcap:x:77:flow\nnone:x:5:flower\nbroken\n";

    #[test]
    fn users_and_their_groups() {
        let user = User { name: "flow".into(), uid: 990, gid: 980, groups: vec![4, 77, 980] };
        assert_eq!(named("flow", USERS, GROUPS), Some(user));
        for unknown in ["", "flo", "bad", "# comment", "990"] {
            assert_eq!(named(unknown, USERS, GROUPS), None, "{unknown}");
        }
    }

    #[test]
    fn numbers_need_no_entry() {
        let user = User { name: "990:4".into(), uid: 990, gid: 4, groups: vec![4] };
        assert_eq!(User::find("990:4").unwrap(), user);
        for wrong in ["990", "990:", ":4", "-1:4", "x:4", "4294967296:1", "no-such-user"] {
            assert!(User::find(wrong).is_err(), "{wrong}");
        }
    }
}
