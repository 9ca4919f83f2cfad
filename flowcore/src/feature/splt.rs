//! The first packets of a slice one by one: length, time since the one before, direction.

use super::{Feature, FeatureOptions, Values};
use crate::field::{Field, PacketRow, Scalar};
use crate::key::Dir;
use crate::packet::Packet;
use crate::time::Timestamp;

/// Lists the first packets of a slice; off unless [`FeatureOptions::splt`] asks for some.
#[derive(Default, Debug)]
pub struct Splt {
    list: Option<Box<List>>,
}

#[derive(Debug)]
struct List {
    newest: Timestamp,
    rows: Vec<PacketRow>,
}

impl Feature for Splt {
    type Values = SpltValues;

    #[inline]
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, options: &FeatureOptions) {
        if options.splt == 0 {
            return;
        }
        let list = self.list.get_or_insert_with(|| Box::new(List { newest: packet.time, rows: Vec::new() }));
        if list.rows.len() < options.splt {
            let iat_nanos = packet.time.nanos_since(list.newest);
            list.newest = list.newest.max(packet.time);
            list.rows.push(PacketRow { ip_len: packet.ip_len, iat_nanos, dir });
        }
    }

    fn turn(&mut self) {
        for row in self.list.iter_mut().flat_map(|list| &mut list.rows) {
            row.dir = row.dir.flip();
        }
    }

    fn finish(&self) -> SpltValues {
        SpltValues { packets: self.list.as_ref().map(|list| list.rows.clone()).unwrap_or_default() }
    }

    fn heap_bytes(&self) -> usize {
        let rows = |list: &List| list.rows.capacity() * size_of::<PacketRow>();
        self.list.as_deref().map_or(0, |list| size_of::<List>() + rows(list))
    }
}

/// The list of packets of a flow record; empty where none was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpltValues {
    /// The first packets, in the order in which they came.
    pub packets: Vec<PacketRow>,
}

impl Values for SpltValues {
    const FIELDS: &'static [Field] = &[Field::all("splt")];

    #[inline(always)]
    fn value(&self, index: usize) -> Scalar<'_> {
        if index == 0 && !self.packets.is_empty() { Scalar::Packets(&self.packets) } else { Scalar::Absent }
    }
}
