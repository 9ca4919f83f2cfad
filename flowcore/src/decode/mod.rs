//! Bytes to packets.
#![forbid(unsafe_code)]
