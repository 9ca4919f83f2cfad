//! How records tell what they hold, member by member: JSON nests their objects, CSV puts them side by side.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::field::Scalar;

/// Takes the members of a record, in the order of record.md.
pub trait Members {
    /// Takes a plain value; one that is absent is not there.
    fn scalar(&mut self, name: &'static str, value: Scalar<'_>);

    /// Takes a list of texts from outside; an empty one is not there.
    fn texts(&mut self, name: &'static str, list: &[String]);

    /// Takes an object; CSV writes its members as `name_member`.
    fn object(&mut self, name: &'static str, object: &dyn Described);
}

/// A record, or an object in one, that tells its members.
pub trait Described {
    /// Hands over all members that are known, always in the same order.
    fn describe(&self, members: &mut dyn Members);
}

/// A record with columns of its own in CSV: all that it can have, in the order in which it describes them.
pub trait Row: Described {
    /// The names of the columns.
    const COLUMNS: &'static [&'static str];
}

/// Serializes as a map of the members that are known.
pub(super) struct AsMap<'a>(pub(super) &'a dyn Described);

impl Serialize for AsMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = Entries { map: serializer.serialize_map(None)?, outcome: Ok(()) };
        self.0.describe(&mut entries);
        entries.outcome?;
        entries.map.end()
    }
}

/// A map that grows, and the first error.
struct Entries<M: SerializeMap> {
    map: M,
    outcome: Result<(), M::Error>,
}

impl<M: SerializeMap> Entries<M> {
    fn entry(&mut self, name: &'static str, value: &impl Serialize) {
        if self.outcome.is_ok() {
            self.outcome = self.map.serialize_entry(name, value);
        }
    }
}

impl<M: SerializeMap> Members for Entries<M> {
    fn scalar(&mut self, name: &'static str, value: Scalar<'_>) {
        if value != Scalar::Absent {
            self.entry(name, &value);
        }
    }

    fn texts(&mut self, name: &'static str, list: &[String]) {
        if !list.is_empty() {
            self.entry(name, &list);
        }
    }

    fn object(&mut self, name: &'static str, object: &dyn Described) {
        self.entry(name, &AsMap(object));
    }
}

/// Wraps a text from outside that may be unknown.
pub(super) fn text(value: Option<&str>) -> Scalar<'_> {
    value.map_or(Scalar::Absent, Scalar::Text)
}

/// Wraps a number of the kernel, in which 0 says that there is none.
pub(super) fn nonzero(number: u64) -> Scalar<'static> {
    Scalar::number(Some(number).filter(|&number| number > 0))
}

/// Makes `Serialize` of what is [`Described`].
macro_rules! serialize_described {
    ($($name:ty),+) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::record::members::AsMap(self).serialize(serializer)
            }
        }
    )+};
}

pub(super) use serialize_described;
