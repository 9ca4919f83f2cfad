//! Per-flow numbers, one file each (definitions.md has the exact rules).
//!
//! A feature is a small state that looks at each packet of a flow, turns round with it, and ends in
//! values with field names. To add one: a file with the three parts, and a line in the list below: under
//! `headers` if it looks at a packet's [`Facts`](crate::packet::Facts) only, so that it can wait while the flow
//! is so short that its packets are kept as they are; else under `payload`.
#![forbid(unsafe_code)]

mod community_id;
mod entropy;
mod headers;
mod iat;
mod length;
mod splt;
mod squares;
mod tcp;
mod ttl;
mod volume;

use crate::field::{Field, Scalar};
use crate::key::Dir;
use crate::packet::Packet;

pub use community_id::CommunityId;
pub use entropy::{Entropy, EntropyValues};
use headers::Headers;
pub use iat::{Iat, IatValues, Intervals};
pub use length::Lengths;
pub use splt::{Splt, SpltValues};
pub use tcp::{Tcp, TcpNumbers, TcpSide, TcpValues};
pub use ttl::{Ttl, TtlValues};
pub use volume::{Side, Volume, VolumeValues};

/// The state of one per-flow number, or of a few that belong together.
pub trait Feature: Default {
    /// What stands in the record.
    type Values: Values;

    /// Takes a packet of the flow into account; `dir` is its direction as the flow stands now.
    fn update(&mut self, packet: &Packet<'_>, dir: Dir, options: &FeatureOptions);

    /// Swaps the directions: what counted for `src` counts for `dst` from now on, and the reverse.
    fn turn(&mut self);

    /// Starts the next slice of the flow: everything from zero, except what must carry over.
    fn next_slice(&mut self) {
        *self = Self::default();
    }

    /// Returns the values of the slice so far.
    fn finish(&self) -> Self::Values;

    /// Returns how many bytes it holds outside itself.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// The values of a feature, by the names of their fields.
pub trait Values: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The fields, in the order of the record.
    const FIELDS: &'static [Field];

    /// Returns the value of `FIELDS[index]`, [`Scalar::Absent`] beyond the last.
    fn value(&self, index: usize) -> Scalar<'_>;
}

/// No feature: what a table adds to the built-in ones if nothing is asked for.
impl Feature for () {
    type Values = ();

    fn update(&mut self, _: &Packet<'_>, _: Dir, _: &FeatureOptions) {}

    fn turn(&mut self) {}

    fn finish(&self) {}
}

impl Values for () {
    const FIELDS: &'static [Field] = &[];

    fn value(&self, _: usize) -> Scalar<'_> {
        Scalar::Absent
    }
}

/// What a user can set about features.
#[derive(Clone, Default, Debug)]
pub struct FeatureOptions {
    /// How many payload bytes of each direction count for entropy; 0 (the default) means all.
    pub entropy_bytes: u64,
    /// How many packets the `splt` list holds at most; 0 (the default) means no list. Each costs 24 bytes.
    pub splt: usize,
}

macro_rules! features {
    (headers { $($header:ident: $from_headers:ty,)+ } payload { $($field:ident: $feature:ty,)+ }) => {
        /// The state of all features of one flow.
        #[derive(Default, Debug)]
        pub struct Features {
            headers: Headers,
            $($field: $feature,)+
        }

        /// The state of the features that look at headers only.
        #[derive(Default, Debug)]
        struct States {
            $($header: $from_headers,)+
        }

        /// The values of all features of one flow record.
        #[derive(Clone, Debug)]
        pub struct FeatureValues {
            $(#[allow(missing_docs)] pub $header: <$from_headers as Feature>::Values,)+
            $(#[allow(missing_docs)] pub $field: <$feature as Feature>::Values,)+
        }

        /// The fields of each feature, in the order of the record.
        pub const FEATURE_FIELDS: &[&[Field]] = &[
            $(<<$from_headers as Feature>::Values as Values>::FIELDS,)+
            $(<<$feature as Feature>::Values as Values>::FIELDS,)+
        ];

        impl Features {
            /// Takes a packet into account.
            #[inline]
            pub fn update(&mut self, packet: &Packet<'_>, dir: Dir, options: &FeatureOptions) {
                $(self.$field.update(packet, dir, options);)+
                self.headers.update(packet, dir);
            }

            /// Swaps the directions.
            pub fn turn(&mut self) {
                self.headers.turn();
                $(self.$field.turn();)+
            }

            /// Starts the next slice.
            pub fn next_slice(&mut self) {
                self.headers.states().next_slice();
                $(self.$field.next_slice();)+
            }

            /// Returns the values of the slice so far.
            pub fn finish(&self) -> FeatureValues {
                let replayed;
                let states = match &self.headers {
                    Headers::Counted(states) => states,
                    few => {
                        replayed = few.replay();
                        &replayed
                    }
                };
                FeatureValues {
                    $($header: states.$header.finish(),)+
                    $($field: self.$field.finish(),)+
                }
            }

            /// Reads a little of the payload that is held outside, so that it is in the cache when it is measured.
            pub(crate) fn touch_payload(&self) -> u64 {
                self.entropy.touch()
            }

            /// Returns packets and bytes of the slice so far.
            pub fn volume(&self) -> VolumeValues {
                self.headers.volume()
            }

            /// Returns how many bytes the features hold outside themselves.
            #[inline]
            pub fn heap_bytes(&self) -> usize {
                self.headers.heap_bytes() $(+ self.$field.heap_bytes())+
            }
        }

        impl States {
            #[inline]
            fn update(&mut self, packet: &Packet<'_>, dir: Dir) {
                $(self.$header.update(packet, dir, &NO_OPTIONS);)+
            }

            fn turn(&mut self) {
                $(self.$header.turn();)+
            }

            fn next_slice(&mut self) {
                $(self.$header.next_slice();)+
            }

            #[inline]
            fn heap_bytes(&self) -> usize {
                0 $(+ self.$header.heap_bytes())+
            }
        }

        impl FeatureValues {
            /// Returns the value of `FEATURE_FIELDS[feature][index]`.
            #[inline(always)]
            pub fn value(&self, feature: usize, index: usize) -> Scalar<'_> {
                let mut nth = 0;
                $(
                    if feature == nth {
                        return self.$header.value(index);
                    }
                    nth += 1;
                )+
                $(
                    if feature == nth {
                        return self.$field.value(index);
                    }
                    nth += 1;
                )+
                let _ = nth;
                Scalar::Absent
            }
        }
    };
}

features! {
    headers {
        volume: Volume,
        iat: Iat,
        ttl: Ttl,
        tcp: Tcp,
    }
    payload {
        entropy: Entropy,
        splt: Splt,
    }
}

/// Features of headers have no settings.
const NO_OPTIONS: FeatureOptions = FeatureOptions { entropy_bytes: 0, splt: 0 };

#[cfg(test)]
mod maker;
#[cfg(test)]
mod tests;
