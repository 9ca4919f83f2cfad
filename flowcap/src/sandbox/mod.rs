//! Giving up what is not needed, before the first byte of a packet is read (faults.md, "Privileges and sandbox").
//!
//! All that is opened by name is open by now, but for what has to be opened again. What follows is done by the one
//! thread that there is, in this order; threads that start later inherit it: no core dumps; groups, gid, uid and
//! capabilities; no new privileges; Landlock for files, ports, signals and abstract sockets; seccomp for system calls.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
pub(crate) mod calls;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod privileges;
mod users;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use users::User;

/// What becomes of a sandbox that cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Mode {
    /// The program ends; this is the default as root.
    Require,
    /// What is possible is done, and what is not is said; this is the default for all others.
    Auto,
    /// There is none; -Z still holds.
    Off,
}

/// What a process is for, which says what it may ask of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Reads files that are open already: no sockets, no capabilities.
    Replay,
    /// Reads packets of interfaces, and opens those again that went away: packet sockets, CAP_NET_RAW.
    Capture,
    /// Asks who owns sockets: netlink, the processes of others; CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_NET_RAW.
    ///
    /// Landlock would hide all other processes from it, so that it has none.
    Lookups,
    /// Sends what waits in a spool to a server: sockets of TCP and UDP, no capabilities.
    Shipper,
    /// Sends it to a process of this machine: sockets in the file system and no others, no capabilities.
    #[cfg_attr(not(feature = "ship"), allow(dead_code))]
    LocalShipper,
}

/// What a process keeps.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// What it is for.
    pub(crate) role: Role,
    /// Whom it becomes.
    pub(crate) user: Option<User>,
    /// Where it may create, rename and delete files.
    pub(crate) folders: Vec<Folder>,
    /// Files that it reads anew now and then; where one is replaced, the new one has to be reachable.
    pub(crate) files: Vec<PathBuf>,
    /// TCP ports that it may connect to.
    pub(crate) ports: Vec<u16>,
}

/// A folder that is written to later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The folder above it, under which it can be made again.
    parent: Option<PathBuf>,
    /// Without this, the run would fail in the end.
    must_be_writable: bool,
    /// Another process, without capabilities, works there as well.
    is_shared: bool,
}

/// What was given up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    user: Option<String>,
    capabilities: Vec<String>,
    landlock: Option<i32>,
    seccomp: bool,
    missing: Vec<String>,
}

/// Why the program cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    /// What was to be done.
    pub(crate) what: String,
    /// What is missing, or what helps.
    pub(crate) hint: String,
}

impl Mode {
    /// Returns the word for --sandbox.
    #[cfg(any(feature = "ship", all(target_os = "linux", feature = "host", feature = "live")))]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mode::Require => "require",
            Mode::Auto => "auto",
            Mode::Off => "off",
        }
    }

    /// Returns the mode that holds where none was asked for.
    pub(crate) fn default_here() -> Self {
        #[cfg(target_os = "linux")]
        if privileges::is_root() {
            return Mode::Require;
        }
        Mode::Auto
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.hint)
    }
}

impl Folder {
    /// Makes one in which, or beneath which, files are made.
    ///
    /// What `lives` on may find it deleted one day, and makes it again; what lies above the current folder is not held
    /// for that.
    pub(crate) fn new(path: PathBuf, lives: bool, must_be_writable: bool) -> Self {
        let path = if path.as_os_str().is_empty() { ".".into() } else { path };
        let above = if path.file_name().is_some() { parent(&path) } else { None };
        let parent = above.filter(|_| lives).map(Path::to_owned);
        Folder { parent, path, must_be_writable, is_shared: false }
    }

    /// Makes that of a spool, to which who sends has to have access, too.
    pub(crate) fn of_spool(path: PathBuf, lives: bool) -> Self {
        Folder { is_shared: true, ..Folder::new(path, lives, true) }
    }

    /// Sees to it that files may be made there later.
    #[cfg(target_os = "linux")]
    fn must_be_held(&self) -> Result<(), Refusal> {
        if may_be_held(&self.path) {
            return Ok(());
        }
        Err(Refusal {
            what: format!("{}: files are not renamed there in a sandbox", self.path.display()),
            hint: "name a folder for outputs, or --sandbox off".to_owned(),
        })
    }
}

/// Tells whether root, without the right to write everywhere, could not make files in a folder.
///
/// # Errors
/// [`Refusal`] if that right cannot be put away for the moment.
#[cfg(target_os = "linux")]
pub(crate) fn is_of_others(folder: &Path) -> Result<bool, Refusal> {
    if privileges::is_root() { privileges::are_of_others([folder].into_iter()) } else { Ok(false) }
}

/// Tells whether root could not make files in a folder: on this system it can.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_of_others(_: &Path) -> Result<bool, Refusal> {
    Ok(false)
}

/// Tells whether files may be made beneath a folder later: everything, and devices, would lie beneath some.
pub(crate) fn may_be_held(folder: &Path) -> bool {
    let Ok(folder) = std::fs::canonicalize(folder) else { return false };
    let is_special = ["/dev", "/proc", "/sys"].iter().any(|special| folder.starts_with(special));
    folder != Path::new("/") && (!is_special || folder.starts_with("/dev/shm"))
}

/// Returns the ids of a user that root is to become, who then goes on with what root has made.
#[cfg(target_os = "linux")]
pub(crate) fn heir(user: Option<&User>) -> Option<(u32, u32)> {
    user.filter(|_| privileges::is_root()).map(|user| (user.uid, user.gid))
}

/// Returns nobody: this system cannot change the user.
#[cfg(not(target_os = "linux"))]
pub(crate) fn heir(_: Option<&User>) -> Option<(u32, u32)> {
    None
}

/// Does something as a user, whom the calling thread becomes for that long; only root can, and for others it is not
/// asked whether they are that user.
///
/// # Errors
/// [`Refusal`] if the user cannot be changed, or not be changed back.
#[cfg(target_os = "linux")]
pub(crate) fn as_user<T>(user: Option<&User>, work: impl FnOnce() -> T) -> Result<T, Refusal> {
    match user.filter(|_| privileges::is_root()) {
        Some(user) => privileges::for_a_while(user, work),
        None => Ok(work()),
    }
}

/// Does something as a user: this system cannot change that.
#[cfg(not(target_os = "linux"))]
pub(crate) fn as_user<T>(_: Option<&User>, work: impl FnOnce() -> T) -> Result<T, Refusal> {
    Ok(work())
}

/// Makes a folder for a user, or gives it to him if it is root's; nothing where this is not root, who could.
///
/// # Errors
/// Those of the file system; a link in place of the folder is one.
#[cfg(all(target_os = "linux", feature = "ship"))]
pub(crate) fn hand_over(user: Option<&User>, folder: &Path) -> std::io::Result<()> {
    user.filter(|_| privileges::is_root()).map_or(Ok(()), |user| privileges::hand_over(user, folder))
}

/// Makes a folder for a user: this system cannot change that.
#[cfg(all(not(target_os = "linux"), feature = "ship"))]
pub(crate) fn hand_over(_: Option<&User>, _: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Gives up privileges: the first half of the way in. What the role needs goes on to the programs that are started.
///
/// # Errors
/// [`Refusal`] if the user cannot be changed or capabilities stay.
#[cfg(all(target_os = "linux", any(feature = "ship", all(feature = "host", feature = "live"))))]
pub(crate) fn give_up(profile: &Profile, mode: Mode) -> Result<State, Refusal> {
    let state = leave(profile, mode, false)?;
    privileges::pass_on(profile.role)?;
    Ok(state)
}

/// The same; the right to write everywhere may be kept.
#[cfg(target_os = "linux")]
fn leave(profile: &Profile, mode: Mode, writes_everywhere: bool) -> Result<State, Refusal> {
    let mut state = State::default();
    if mode != Mode::Off {
        privileges::no_core_dumps()?;
    }
    if let Some(user) = &profile.user {
        privileges::become_user(user)?;
        state.user = Some(user.name.clone());
    }
    if mode != Mode::Off {
        state.capabilities = privileges::keep_only(profile.role, writes_everywhere)?;
        privileges::no_new_privileges()?;
        // A change of user makes a process dumpable on systems that are set up so.
        privileges::no_core_dumps()?;
    }
    Ok(state)
}

/// Gives up privileges: not on this system.
#[cfg(all(not(target_os = "linux"), feature = "ship"))]
pub(crate) fn give_up(_: &Profile, _: Mode) -> Result<State, Refusal> {
    Ok(State::default())
}

/// Asks, before anything is made, whether the user to become could use the folders that are there.
///
/// # Errors
/// [`Refusal`], as [`enter`] has it later.
#[cfg(target_os = "linux")]
pub(crate) fn check_folders(profile: &Profile, mode: Mode) -> Result<(), Refusal> {
    if mode == Mode::Off {
        return Ok(());
    }
    let user = profile.user.as_ref();
    // What is missing is made, or told of by who opens it; the folder of a spool is handed over first.
    let wanted = |folder: &&Folder| folder.must_be_writable && !folder.is_shared && folder.path.exists();
    let folders: Vec<&Folder> = profile.folders.iter().filter(wanted).collect();
    folders.iter().try_for_each(|folder| folder.must_be_held())?;
    as_user(user, || folders.iter().try_for_each(|folder| privileges::must_be_writable(&folder.path, user)))?
}

/// Asks nothing: this system has no sandbox.
#[cfg(not(target_os = "linux"))]
pub(crate) fn check_folders(_: &Profile, _: Mode) -> Result<(), Refusal> {
    Ok(())
}

/// Enters the sandbox; the calling thread must be the only one.
///
/// # Errors
/// [`Refusal`] if the user cannot be changed or capabilities stay, in any mode, and if anything else is missing with
/// [`Mode::Require`].
#[cfg(target_os = "linux")]
pub(crate) fn enter(profile: &Profile, mode: Mode) -> Result<State, Refusal> {
    // Where root writes into the folder of somebody else, Landlock keeps it to that folder.
    let writes = matches!(profile.role, Role::Replay | Role::Capture);
    let is_confined = writes && mode != Mode::Off && profile.user.is_none() && privileges::is_root();
    let own = profile.folders.iter().filter(|folder| !folder.is_shared);
    let of_others = is_confined && privileges::are_of_others(own.map(|folder| folder.path.as_path()))?;
    let mut state = leave(profile, mode, of_others)?;
    if mode == Mode::Off {
        return Ok(state);
    }
    for folder in profile.folders.iter().filter(|folder| folder.must_be_writable) {
        folder.must_be_held()?;
        privileges::must_be_writable(&folder.path, profile.user.as_ref())?;
    }
    if profile.role != Role::Lookups {
        match files::restrict(profile) {
            Ok(abi) => state.landlock = Some(abi),
            Err(why) => {
                state.missing.push(why);
                state.capabilities = privileges::keep_only(profile.role, false)?;
            }
        }
    }
    match calls::restrict(profile.role) {
        Ok(()) => state.seccomp = true,
        Err(why) => state.missing.push(why),
    }
    state.or_refused(mode)
}

/// Enters the sandbox: this system has none.
///
/// # Errors
/// [`Refusal`] with [`Mode::Require`], and if another user is asked for.
#[cfg(not(target_os = "linux"))]
pub(crate) fn enter(profile: &Profile, mode: Mode) -> Result<State, Refusal> {
    if let Some(user) = &profile.user {
        return Err(Refusal { what: format!("-Z {}", user.name), hint: "only Linux has it".to_owned() });
    }
    let missing =
        if mode == Mode::Off { Vec::new() } else { vec!["a sandbox: only Linux has one".to_owned()] };
    State { missing, ..State::default() }.or_refused(mode)
}

impl State {
    fn or_refused(self, mode: Mode) -> Result<State, Refusal> {
        if mode != Mode::Require || self.missing.is_empty() {
            return Ok(self);
        }
        Err(Refusal {
            what: format!("--sandbox require: {}", self.missing.join("; ")),
            hint: "--sandbox auto goes on without".to_owned(),
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.user.iter().map(|user| format!("user {user}")).collect();
        let landlock = self.landlock.map(|abi| format!("Landlock {abi}"));
        if landlock.is_none() && !self.seccomp && self.missing.is_empty() {
            parts.push("off".to_owned());
        } else {
            parts.extend(landlock);
            parts.extend(self.seccomp.then(|| "seccomp".to_owned()));
            let kept =
                if self.capabilities.is_empty() { "none".to_owned() } else { self.capabilities.join(" ") };
            parts.push(format!("capabilities: {kept}"));
            parts.extend(self.missing.iter().map(|what| format!("missing: {what}")));
        }
        write!(f, "sandbox: {}", parts.join(", "))
    }
}

/// Returns the folder that a path is in, as a path that can be opened.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_again_needs_the_folder_above() {
        let above = |path: &str, lives| Folder::new(path.into(), lives, false).parent;
        assert_eq!(above("/no/log", true), Some("/no".into()));
        assert_eq!(above("/no", true), Some("/".into()));
        assert_eq!(above("a", true), Some(".".into()));
        assert_eq!(
            (above("/no/log", false), above("", true), above("..", true), above("/", true)),
            Default::default()
        );
        assert_eq!(Folder::new("".into(), true, true).path, Path::new("."));
    }

    #[test]
    fn not_everything_is_held() {
        for folder in ["/", "/dev", "/proc/self", "/sys", "/dev/../", "/no/such/folder"] {
            assert!(!may_be_held(Path::new(folder)), "{folder}");
        }
        assert!(may_be_held(Path::new(".")) && may_be_held(&std::env::temp_dir()));
    }

    #[test]
    fn one_line_says_what_holds() {
        let mut state = State { landlock: Some(7), seccomp: true, ..State::default() };
        assert_eq!(state.to_string(), "sandbox: Landlock 7, seccomp, capabilities: none");
        state.user = Some("nobody".into());
        state.capabilities = vec!["cap_net_raw".into()];
        state.landlock = None;
        state.missing = vec!["Landlock: not enabled".into()];
        let line = "sandbox: user nobody, seccomp, capabilities: cap_net_raw, missing: Landlock: not enabled";
        assert_eq!(state.to_string(), line);
        assert_eq!(State::default().to_string(), "sandbox: off");
        assert_eq!(state.clone().or_refused(Mode::Auto), Ok(state.clone()));
        let refusal = state.or_refused(Mode::Require).unwrap_err();
        assert_eq!(refusal.what, "--sandbox require: Landlock: not enabled");
    }
}
