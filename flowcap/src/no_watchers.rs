//! What stands in for the processes that watch where this build has none.

use std::ffi::OsString;

use flowcore::Error;
use flowcore::meter::{Aides, Beside};

use crate::confine::Confinement;
use crate::plan::Watch;

/// There are none.
#[derive(Default)]
pub(crate) struct Watchers {}

impl Watchers {
    pub(crate) fn open(
        &mut self,
        what: Watch,
        _: &[OsString],
        _: bool,
        _: &Confinement,
    ) -> Result<Beside, Error> {
        Err(Error::Option(format!("[{}]: this build cannot see this machine's sockets", what.word())))
    }

    pub(crate) fn start(&mut self, _: &Aides) -> std::io::Result<()> {
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        Ok(())
    }
}
