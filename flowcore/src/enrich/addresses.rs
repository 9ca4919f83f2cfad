//! Which addresses are this machine's.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// The machine's own addresses; can be cloned and kept up to date from another thread.
///
/// Loopback addresses are always among them.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses(Arc<RwLock<HashSet<IpAddr>>>);

impl LocalAddresses {
    /// Makes the set of these addresses.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let local = LocalAddresses::default();
        local.replace(addresses);
        local
    }

    /// Replaces all of them.
    pub fn replace(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().map(|address| address.to_canonical()).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Returns all of them, in order, but for those of loopback.
    pub fn list(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> =
            self.0.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        all.sort_unstable();
        all
    }

    /// Tells whether an address is this machine's.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }
}
