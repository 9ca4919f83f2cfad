//! Which files can be reached, by Landlock.

use std::fs;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{Profile, Role, may_be_held};

/// Restricts the calling thread to what the profile names; returns Landlock's version.
///
/// Whatever the kernel's version knows is forbidden: files, TCP ports, abstract sockets, signals to others.
///
/// # Errors
/// What is missing.
pub(super) fn restrict(profile: &Profile) -> Result<i32, String> {
    let said = |error: &dyn std::fmt::Display| format!("Landlock: {error}");
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(|rules| rules.create())
        .map_err(|error| said(&error))?
        .set_compatibility(CompatLevel::BestEffort);
    for (path, access) in wanted(profile) {
        let folder = PathFd::new(&path).map_err(|error| said(&error))?;
        rules = rules.add_rule(PathBeneath::new(folder, access)).map_err(|error| said(&error))?;
    }
    for &port in &profile.ports {
        let connect = NetPort::new(port, AccessNet::ConnectTcp);
        rules = rules.add_rule(connect).map_err(|error| said(&error))?;
    }
    let status = rules.restrict_self().map_err(|error| said(&error))?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("Landlock: not enabled in this kernel".into())
        }
        (RulesetStatus::NotEnforced, _) => {
            Err("Landlock: this kernel has none (5.13 is the first with it)".into())
        }
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi as i32),
        _ => Err("Landlock: refused".into()),
    }
}

/// Lists what stays reachable. Inputs and outputs are open: files are only made, renamed and deleted anew.
fn wanted(profile: &Profile) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let outputs = profile.folders.iter().flat_map(|folder| {
        let above = folder.parent.iter().map(|parent| (parent.clone(), written()));
        above.chain([(folder.path.clone(), written())])
    });
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut wanted: Vec<_> = outputs.filter(|(folder, _)| may_be_held(folder)).collect();
    if profile.role == Role::Capture {
        wanted.extend(counters().into_iter().map(|folder| (folder, read)));
    }
    if profile.role == Role::Shipper {
        // Names are resolved by what is there, authorities are the system's.
        wanted.extend(
            SYSTEM.iter().map(PathBuf::from).filter(|folder| folder.exists()).map(|path| (path, read)),
        );
    }
    // A file that is replaced is another one; what it is called leads to it by way of links.
    let named = profile.files.iter().flat_map(|file| [Some(file.clone()), fs::canonicalize(file).ok()]);
    let folders = named.flatten().filter_map(|file| Some(super::parent(&file)?.to_owned()));
    wanted.extend(folders.filter(|folder| may_be_held(folder)).map(|folder| (folder, read)));
    wanted
}

fn written() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
}

/// Lists the folders in which libpcap reads what an interface has dropped, each time anew.
///
/// `/sys/class/net` has links only; the folders that they lead to are those of whole buses, so that an interface that
/// went away can come back under them.
fn counters() -> Vec<PathBuf> {
    let links = fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    let devices = links.filter_map(|link| Some(fs::canonicalize(link.path()).ok()?.parent()?.to_owned()));
    let known = [INTERFACES, VIRTUAL].map(PathBuf::from).into_iter().filter(|folder| folder.exists());
    let mut folders: Vec<PathBuf> = devices.filter(|folder| folder.ends_with("net")).chain(known).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// The newest version that this program was tried with.
const NEWEST: ABI = ABI::V7;
/// Where systems have what resolves names, and certificates.
const SYSTEM: [&str; 5] = ["/etc", "/usr", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"];
const INTERFACES: &str = "/sys/class/net";
const VIRTUAL: &str = "/sys/devices/virtual/net";
