//! Turns raw packets into flow records.

pub mod capture;
pub mod decode;
pub mod error;
pub mod feature;
pub mod field;
pub mod key;
pub mod l7;
pub mod meter;
pub mod packet;
pub mod record;
pub mod shard;
pub mod sink;
pub mod table;
pub mod time;

pub use error::Error;
pub use meter::{Meter, Stop};
