//! A maker of synthetic traffic for measurements: the same frames for the same shape, scale and seed, on any machine.
//!
//! [`Traffic`] makes one frame after the other, in time order, without files. [`Shape`]s stand for what a flow meter
//! meets: many tiny flows, a mixture, few bulk flows, and a table that fills up. Conversations are scripts
//! ([`script`]) that shapes write and a [`flow::Flow`] turns into frames with right checksums and sequence numbers.
//! [`Totals`] counts what was sent, as a check on whatever reads it.
#![forbid(unsafe_code)]

pub mod flow;
pub mod pcap;
pub mod pools;
pub mod rng;
pub mod script;
pub mod wire;
pub mod words;

mod shapes;
mod totals;
mod traffic;

pub use shapes::Shape;
pub use totals::{Count, Totals};
pub use traffic::{Frame, Frames, Traffic};
