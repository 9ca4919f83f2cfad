//! Numbers that no record will come for, and the line that says so.

use std::fmt::Write;

use crate::error::{Reason, reasons};
use crate::time::Timestamp;

reasons! {
    /// Why records are missing.
    GapReason {
        /// What was on disk could not be read, or a segment was gone.
        Damaged = "damaged",
        /// The spool had reached its limit, and the oldest segments were deleted.
        SpoolFull = "spool_full",
        /// The writer was stopped hard: what it had not written is lost. After a loss of power nobody knows which numbers
        /// had been given, so that not each of them need have been a record.
        Restart = "restart",
        /// The disk had no room.
        DiskFull = "disk_full",
        /// A record was longer than the spool takes.
        TooLong = "too_long",
        /// The disk could not be written for another reason than that it had no room.
        Unwritable = "unwritable",
    }
}

/// A run of missing records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Gap {
    /// The time of what came next.
    pub time: Timestamp,
    pub instance: u64,
    pub reason: GapReason,
    /// The first missing number.
    pub first_seq: u64,
    /// The number after the last missing one.
    pub end: u64,
}

impl Gap {
    /// Returns the line, with its end.
    pub(super) fn line(&self) -> String {
        let Gap { time, instance, reason, first_seq, end } = *self;
        let mut line = String::with_capacity(200);
        // Writing to a string cannot fail.
        _ = writeln!(
            line,
            r#"{{"type":"gap","timestamp":"{time}","instance":"{instance:016x}","reason":"{}","records":{},"first_seq":{first_seq},"last_seq":{}}}"#,
            reason.name(),
            end.saturating_sub(first_seq),
            end.saturating_sub(1),
        );
        line
    }
}

impl GapReason {
    /// Returns the reason with this name, else the most general one.
    pub fn of_name(name: &str) -> GapReason {
        let named = GapReason::ALL.iter().copied().find(|reason| reason.name() == name);
        named.unwrap_or(GapReason::Unwritable)
    }

    /// Returns the number that stands for it on disk: from 1 on.
    pub(super) fn code(self) -> u16 {
        self.index() as u16 + 1
    }

    /// Reads what [`GapReason::code`] returned.
    pub(super) fn of_code(code: u16) -> Option<GapReason> {
        GapReason::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line() {
        let gap = Gap {
            time: Timestamp::from_nanos(1_700_000_000_000_000_000),
            instance: 0xC0_FFEE,
            reason: GapReason::SpoolFull,
            first_seq: 3,
            end: 10,
        };
        assert_eq!(
            gap.line(),
            "{\"type\":\"gap\",\"timestamp\":\"2023-11-14T22:13:20.000000000Z\",\"instance\":\"0000000000c0ffee\",\
             \"reason\":\"spool_full\",\"records\":7,\"first_seq\":3,\"last_seq\":9}\n"
        );
    }

    #[test]
    fn codes_come_back() {
        for &reason in GapReason::ALL {
            assert_eq!(GapReason::of_code(reason.code()), Some(reason));
        }
        assert_eq!(GapReason::of_code(0), None);
        assert_eq!(GapReason::of_code(7), None);
    }
}
