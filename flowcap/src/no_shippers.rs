//! What stands in for sending to servers where this build cannot.

use std::io;
use std::path::PathBuf;

use flowcore::Error;
use flowcore::meter::{Aides, Stop};
use flowcore::sink::{FileOptions, Sink};

use crate::conf::ServerKeys;
use crate::confine::Confinement;
use crate::log::Level;
use crate::plan::Output;

/// There are none.
#[derive(Default)]
pub(crate) struct Shippers {}

impl Shippers {
    pub(crate) fn open(
        &mut self,
        output: &Output,
        _: &FileOptions,
        _: Level,
        _: &Confinement,
    ) -> Result<Box<dyn Sink>, Error> {
        Err(Error::Option(format!("{}: this build cannot send to servers", output.destination)))
    }

    pub(crate) fn start(&mut self, _: &Aides) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn finish(self, _: bool, _: &Stop) -> Result<(), Error> {
        Ok(())
    }
}

pub(crate) fn check(_: &Output) -> Result<(), String> {
    Err("this build cannot send to servers".to_owned())
}

pub(crate) fn spool_folder(_: &str, server: &ServerKeys) -> PathBuf {
    server.spool.clone().unwrap_or_default().into()
}
