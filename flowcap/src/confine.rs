//! What a meter's plan needs while it runs, and the entry into a sandbox that leaves it that much.

#[cfg(feature = "ship")]
use std::path::{Path, PathBuf};

use flowcore::Error;
use flowcore::sink::{self, FileOptions};

use crate::conf::is_server;
use crate::plan::{Input, MeterPlan, Owners};
use crate::run::say;
use crate::sandbox::{self, Folder, Mode, Profile, Refusal, Role, User, check_folders, enter};
use crate::shippers;

/// The sandbox that a plan asks for.
pub(crate) struct Confinement {
    profile: Profile,
    mode: Mode,
    quiet: bool,
}

impl Confinement {
    /// Works out what a plan needs. Call this before outputs are opened: what is no regular file then needs no folder.
    ///
    /// # Errors
    /// When there is no such user as -Z names, and for names of files that are refused.
    pub(crate) fn of(plan: &MeterPlan) -> Result<Self, Error> {
        let role = match plan.input {
            Input::Files(_) => Role::Replay,
            Input::Live(_) => Role::Capture,
        };
        let recorded = match &plan.owners {
            Owners::Machine { record } => record.as_deref(),
            Owners::Unknown | Owners::Recorded(_) => None,
        };
        let (servers, files): (Vec<_>, Vec<_>) =
            plan.all_outputs().partition(|output| is_server(&output.destination));
        let lives = role == Role::Capture;
        let mut folders = Vec::new();
        for output in servers {
            let spool = shippers::spool_folder(&output.destination, &output.server);
            folders.push(Folder::of_spool(spool, lives));
        }
        let outputs = files.iter().map(|output| (output.destination.as_str(), &output.files));
        let (plain, stats) = (FileOptions::default(), plan.stats.iter());
        let others = stats.map(|stats| stats.destination.as_str()).chain(recorded);
        for (to, options) in outputs.chain(others.map(|to| (to, &plain))) {
            let needs = sink::needs(to, options)?;
            folders.extend(needs.folder.map(|folder| Folder::new(folder, lives, needs.renames)));
        }
        Ok(Confinement {
            profile: Profile {
                role,
                user: plan.running.user.as_deref().map(find).transpose()?,
                folders,
                files: Vec::new(),
                ports: Vec::new(),
            },
            mode: plan.running.sandbox.unwrap_or_else(Mode::default_here),
            quiet: plan.quiet,
        })
    }

    /// Asks whether the user to become may do all that is done in folders, before anything is made there that this user
    /// could not take away.
    ///
    /// # Errors
    /// [`Error::Permission`] where that is refused.
    pub(crate) fn check_folders(&self) -> Result<(), Error> {
        check_folders(&self.profile, self.mode).map_err(no_permission)
    }

    /// Confines a process that is for one thing only, and says nothing.
    ///
    /// # Errors
    /// When there is no such user.
    #[cfg(any(feature = "ship", all(target_os = "linux", feature = "host", feature = "live")))]
    pub(crate) fn of_role(
        role: Role,
        folders: Vec<Folder>,
        user: Option<&str>,
        mode: Mode,
    ) -> Result<Self, Error> {
        let user = user.map(find).transpose()?;
        let profile = Profile { role, user, folders, files: Vec::new(), ports: Vec::new() };
        Ok(Confinement { profile, mode, quiet: true })
    }

    /// Lets it read files anew, and connect to ports.
    #[cfg(feature = "ship")]
    pub(crate) fn reaching(mut self, files: Vec<PathBuf>, ports: Vec<u16>) -> Self {
        (self.profile.files, self.profile.ports) = (files, ports);
        self
    }

    /// Tells whether the process is another one inside.
    #[cfg(all(target_os = "linux", feature = "host", feature = "live"))]
    pub(crate) fn changes_anything(&self) -> bool {
        self.mode != Mode::Off || self.profile.user.is_some()
    }

    /// Returns what becomes of a sandbox that cannot be had.
    #[cfg(any(feature = "ship", all(target_os = "linux", feature = "host", feature = "live")))]
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the user to become, as it was named.
    #[cfg(any(feature = "ship", all(target_os = "linux", feature = "host", feature = "live")))]
    pub(crate) fn user(&self) -> Option<&str> {
        self.profile.user.as_ref().map(|user| user.name.as_str())
    }

    /// Returns who is to own the files that are made before the user is changed.
    pub(crate) fn owner(&self) -> Option<(u32, u32)> {
        sandbox::heir(self.profile.user.as_ref())
    }

    /// Does something as the user to become, who can then go on with what was made.
    ///
    /// # Errors
    /// When that user cannot be had.
    #[cfg(feature = "ship")]
    pub(crate) fn as_user<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        sandbox::as_user(self.profile.user.as_ref(), work).map_err(no_permission)
    }

    /// Makes a folder, or takes one that is root's, for the user to become.
    ///
    /// # Errors
    /// When it cannot be made, or is something else.
    #[cfg(feature = "ship")]
    pub(crate) fn hand_over(&self, folder: &Path) -> Result<(), Error> {
        let done = sandbox::hand_over(self.profile.user.as_ref(), folder);
        done.map_err(|source| Error::Output { name: folder.display().to_string(), source })
    }

    /// Gives up privileges and goes no further in: programs can still be started.
    ///
    /// # Errors
    /// When the user cannot be changed, or capabilities stay.
    #[cfg(any(feature = "ship", all(target_os = "linux", feature = "host", feature = "live")))]
    pub(crate) fn give_up(&self) -> Result<(), Error> {
        sandbox::give_up(&self.profile, self.mode).map(|_| ()).map_err(no_permission)
    }

    /// Enters, in a process beside the main one, to which a refusal is one error among others.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    #[cfg(any(feature = "ship", all(target_os = "linux", feature = "host", feature = "live")))]
    pub(crate) fn enter_told(&self) -> Result<(), Error> {
        self.enter().map_err(no_permission)
    }

    /// Enters, and says what holds.
    ///
    /// # Errors
    /// When the user cannot be changed, or a sandbox is required and cannot be had.
    pub(crate) fn enter(&self) -> Result<(), Refusal> {
        let state = enter(&self.profile, self.mode)?;
        if !self.quiet {
            say(&format!("flowcap: {state}"));
        }
        Ok(())
    }
}

/// Makes an error of a refusal, for the exit code that the main process ends with.
fn no_permission(Refusal { what, hint }: Refusal) -> Error {
    Error::Permission { what, hint }
}

fn find(name: &str) -> Result<User, Error> {
    User::find(name).map_err(|error| Error::Option(format!("-Z {name}: {error}")))
}
