//! Who the process is, and what it may do because of that.
//!
//! The calls act on one thread, since they go to the kernel without the C library: there must be no other.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
#[cfg(feature = "ship")]
use rustix::fs::{Mode, OFlags, fchown, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getegid, geteuid, getgid, getgroups, getuid, set_dumpable_behavior,
    setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::{Refusal, Role, User};

/// Tells whether root runs the program.
pub(super) fn is_root() -> bool {
    geteuid().is_root()
}

/// Sees to it that packets and tokens never lie in a core file, and that no process of the same user may look in.
pub(super) fn no_core_dumps() -> Result<(), Refusal> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| failed("no core dumps", error))
}

/// Changes groups, gid and uid for good, keeps the capabilities for now, and reads back what holds.
pub(super) fn become_user(user: &User) -> Result<(), Refusal> {
    let what = || format!("-Z {}", user.name);
    let number = |number: u32| Some(number).filter(|&number| number != u32::MAX);
    let (Some(uid), Some(gid)) = (number(user.uid), number(user.gid)) else {
        return Err(refused(&what(), "4294967295 is no number of a user or a group"));
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<Gid> = user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    if !is_root() && (geteuid(), getegid()) == (uid, gid) && getuid() == uid {
        return Ok(());
    }
    set_keep_capabilities(true)
        .and_then(|()| set_thread_groups(&groups))
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(|error| match error {
            Errno::PERM => refused(&what(), "only root can become another user"),
            error => failed(&what(), error),
        })?;
    let mut held = getgroups().map_err(|error| failed(&what(), error))?;
    held.sort_unstable_by_key(|group| group.as_raw());
    let holds = (getuid(), geteuid(), getgid(), getegid()) == (uid, uid, gid, gid) && held == groups;
    if holds { Ok(()) } else { Err(refused(&what(), "the system did not change the user")) }
}

/// Does something as a user, and is root again afterwards; capabilities hold for neither of the two meanwhile.
pub(super) fn for_a_while<T>(user: &User, work: impl FnOnce() -> T) -> Result<T, Refusal> {
    let refuse = |error| failed(&format!("-Z {}", user.name), error);
    let groups: Vec<Gid> = user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    let (groups_before, gid_before) = (getgroups().map_err(refuse)?, getegid());
    set_thread_groups(&groups)
        .and_then(|()| set_thread_res_gid(None::<Gid>, Gid::from_raw(user.gid), None::<Gid>))
        .and_then(|()| set_thread_res_uid(None::<Uid>, Uid::from_raw(user.uid), None::<Uid>))
        .map_err(refuse)?;
    let done = work();
    set_thread_res_uid(None::<Uid>, Uid::ROOT, None::<Uid>)
        .and_then(|()| set_thread_res_gid(None::<Gid>, gid_before, None::<Gid>))
        .and_then(|()| set_thread_groups(&groups_before))
        .map_err(refuse)?;
    Ok(done)
}

/// Makes a folder, and gives it to a user if it is root's. A link is not followed: others may have put it there.
#[cfg(feature = "ship")]
pub(super) fn hand_over(user: &User, folder: &Path) -> std::io::Result<()> {
    match mkdirat(CWD, folder, Mode::RWXU | Mode::RGRP | Mode::XGRP) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let opened = openat(CWD, folder, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if Uid::from_raw(fstat(&opened)?.st_uid).is_root() {
        fchown(&opened, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
    }
    Ok(())
}

/// Tells whether root needs its right to write everywhere for one of these folders, which belong to others.
pub(super) fn are_of_others<'a>(mut folders: impl Iterator<Item = &'a Path>) -> Result<bool, Refusal> {
    let check = |error| failed("trying folders without capabilities", error);
    let before = capabilities(None).map_err(check)?;
    let everywhere = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    let without = CapabilitySets { effective: before.effective - everywhere, ..before };
    set_capabilities(None, without).map_err(check)?;
    let found = folders.any(|folder| !is_writable(folder));
    set_capabilities(None, before).map_err(check)?;
    Ok(found)
}

/// Drops all capabilities that the role does not need, but for the right to write everywhere if that is kept, reads
/// back what is left, and tries whether root can be had again; returns the names of what was kept.
pub(super) fn keep_only(role: Role, writes_everywhere: bool) -> Result<Vec<String>, Refusal> {
    let what = "dropping capabilities";
    let check = |error| failed(what, error);
    let before = capabilities(None).map_err(check)?;
    let more = if writes_everywhere { CapabilitySet::DAC_OVERRIDE } else { CapabilitySet::empty() };
    let keep = before.permitted & (needed(role) | more);
    if before.permitted.contains(CapabilitySet::SETPCAP) {
        // A change of user leaves what is permitted without effect.
        set_capabilities(None, CapabilitySets { effective: before.permitted, ..before }).map_err(check)?;
        // What is in the bounding set could come back by running a program; that is forbidden anyway.
        for number in (0..u64::BITS).filter(|&number| keep.bits() & 1 << number == 0) {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if capability_is_in_bounding_set(capability) == Ok(true) {
                remove_capability_from_bounding_set(capability).map_err(check)?;
            }
        }
    }
    // Kernels before 4.3 have no such set.
    let _ = clear_ambient_capability_set();
    let wanted = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, wanted).map_err(check)?;
    if capabilities(None).map_err(check)? != wanted {
        return Err(refused(what, "some are still there"));
    }
    let root = Uid::ROOT;
    if !is_root() && set_thread_res_uid(root, root, root).is_ok() {
        return Err(refused(what, "root can be had again"));
    }
    Ok(NAMES.iter().filter(|(one, _)| keep.contains(*one)).map(|(_, name)| (*name).to_owned()).collect())
}

/// Sees to it that programs get the capabilities that a role needs, as far as this process has them.
///
/// Without this they would get none where this is not root, and could not get them in another way, since running a program
/// brings no new ones.
#[cfg(any(feature = "ship", all(feature = "host", feature = "live")))]
pub(super) fn pass_on(role: Role) -> Result<(), Refusal> {
    use rustix::thread::configure_capability_in_ambient_set;

    let refuse = |error| failed("passing on capabilities", error);
    let held = capabilities(None).map_err(refuse)?;
    let passed = held.permitted & needed(role);
    set_capabilities(None, CapabilitySets { inheritable: passed, ..held }).map_err(refuse)?;
    for number in (0..u64::BITS).filter(|&number| passed.bits() & 1 << number != 0) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        configure_capability_in_ambient_set(one, true).map_err(refuse)?;
    }
    Ok(())
}

/// Sees to it that running a program brings no privileges, as Landlock and seccomp demand.
pub(super) fn no_new_privileges() -> Result<(), Refusal> {
    set_no_new_privs(true).map_err(|error| failed("no new privileges", error))
}

/// Asks, with what is left, whether files can be created in a folder: it would fail in the end otherwise.
pub(super) fn must_be_writable(folder: &Path, user: Option<&User>) -> Result<(), Refusal> {
    if is_writable(folder) {
        return Ok(());
    }
    let who = user.map_or_else(|| "a process without capabilities".to_owned(), |user| user.name.clone());
    let what = format!("{}: {who} cannot create files there", folder.display());
    Err(refused(&what, "-Z USER names its owner, --sandbox off keeps all capabilities"))
}

fn is_writable(folder: &Path) -> bool {
    accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

fn needed(role: Role) -> CapabilitySet {
    match role {
        Role::Replay | Role::Shipper | Role::LocalShipper => CapabilitySet::empty(),
        Role::Capture => CapabilitySet::NET_RAW,
        Role::Lookups => CapabilitySet::NET_RAW | CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH,
    }
}

fn failed(what: &str, error: Errno) -> Refusal {
    refused(what, &std::io::Error::from(error).to_string())
}

fn refused(what: &str, hint: &str) -> Refusal {
    Refusal { what: what.to_owned(), hint: hint.to_owned() }
}

/// What can be kept, as it is called.
const NAMES: [(CapabilitySet, &str); 4] = [
    (CapabilitySet::NET_RAW, "cap_net_raw"),
    (CapabilitySet::SYS_PTRACE, "cap_sys_ptrace"),
    (CapabilitySet::DAC_READ_SEARCH, "cap_dac_read_search"),
    (CapabilitySet::DAC_OVERRIDE, "cap_dac_override"),
];
