//! The interfaces that one can capture on.

use std::io;
use std::net::IpAddr;

use super::filter::said;
use crate::error::Error;

/// An interface that one can capture on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The name it is opened by.
    pub name: String,
    /// What the system says it is.
    pub description: Option<String>,
    /// Its IP addresses.
    pub addresses: Vec<IpAddr>,
    /// It is switched on.
    pub up: bool,
    /// It is switched on and has a carrier.
    pub running: bool,
    /// It is the loopback interface.
    pub loopback: bool,
}

/// Lists the interfaces that one can capture on.
///
/// # Errors
/// [`Error::Input`] if the system does not tell.
pub fn interfaces() -> Result<Vec<Interface>, Error> {
    let devices = pcap::Device::list().map_err(|error| Error::Input {
        name: "interfaces".to_owned(),
        source: io::Error::other(said(&error)),
    })?;
    Ok(devices
        .into_iter()
        .map(|device| Interface {
            up: device.flags.is_up(),
            running: device.flags.is_running(),
            loopback: device.flags.is_loopback(),
            addresses: device.addresses.iter().map(|address| address.addr).collect(),
            name: device.name,
            description: device.desc,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed() {
        let all = interfaces().unwrap();
        assert!(all.iter().any(|one| one.loopback), "{all:?}");
    }
}
