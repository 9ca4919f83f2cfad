//! What the answer of an HTTP server means for a batch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::SendError;
use crate::time::Timestamp;

/// Says what becomes of a batch that was answered with `status`, `what` being the answer in words.
pub(super) fn verdict(status: u16, what: String, retry_after: Option<Duration>) -> Result<(), SendError> {
    match status {
        200..=299 => Ok(()),
        300..=399 => Err(SendError::Settings(format!("{what}; redirects are not followed"))),
        // No leave, no such place, or not what is spoken there: someone has to mend it.
        401..=405 | 407 | 410 | 411 | 415 | 417 | 421 | 426 => Err(SendError::Settings(what)),
        408 | 425 | 429 => Err(SendError::Retry { what, after: retry_after }),
        413 => Err(SendError::TooLarge(what)),
        400..=499 => Err(SendError::Refused(what)),
        _ => Err(SendError::Retry { what, after: retry_after }),
    }
}

/// Reads a Retry-After: seconds, or a date in one of the three ways that RFC 9110 has recipients read.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let now = now.duration_since(UNIX_EPOCH).ok()?;
    let wait = i128::from(date(value, now)?.as_nanos()) - i128::try_from(now.as_nanos()).ok()?;
    Some(Duration::from_nanos(u64::try_from(wait).unwrap_or(0)))
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT` or `Sun Nov  6 08:49:37 1994`.
fn date(text: &str, now: Duration) -> Option<Timestamp> {
    let words: Vec<&str> = text.split([' ', '-', ',']).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match *words.as_slice() {
        [_, day, month, year, time, "GMT"] => (day, month, year, time),
        [_, month, day, time, year] => (day, month, year, time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let year = match (year.len(), year.parse::<u64>().ok()?) {
        (4, year) => year,
        (2, of_century) => {
            // At most 50 years from now, the latest that there is.
            let latest = 1970 + now.as_secs() / YEAR + 50;
            let century = latest - latest % 100;
            if century + of_century <= latest { century + of_century } else { century - 100 + of_century }
        }
        _ => return None,
    };
    Timestamp::parse(&format!("{year}-{month:02}-{day:0>2}T{time}Z"))
}

/// Seconds, on average.
const YEAR: u64 = 31_556_952;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("0", now), Some(Duration::ZERO));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:07 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("Sunday, 06-Nov-94 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun Nov  6 08:50:07 1994", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Wed Nov 16 08:49:37 1994", now), Some(Duration::from_secs(864_000)));
        // Of two digits, 44 is 2044 and 45 is 1945 in 1994.
        assert!(retry_after("Sunday, 06-Nov-44 08:49:37 GMT", now).unwrap() > Duration::from_secs(49 * YEAR));
        assert_eq!(retry_after("Sunday, 06-Nov-45 08:49:37 GMT", now), Some(Duration::ZERO));
        assert!(retry_after("99999999999999999999999", now).unwrap() > Duration::from_secs(1 << 30));
        for bad in [
            "",
            "soon",
            "-3",
            "Sun, 06 Foo 1994 08:50:07 GMT",
            "Sun, 06 Nov",
            "1.5",
            "Sun, 06-Nov-194 08:49:37 GMT",
        ] {
            assert_eq!(retry_after(bad, now), None, "{bad}");
        }
    }

    #[test]
    fn every_status_has_a_verdict() {
        let kind = |status| match verdict(status, "x".to_owned(), None) {
            Ok(()) => "ok",
            Err(SendError::Retry { .. }) => "retry",
            Err(SendError::Settings(_)) => "settings",
            Err(SendError::TooLarge(_)) => "large",
            Err(SendError::Refused(_)) => "refused",
        };
        for (status, expected) in [
            (200, "ok"),
            (204, "ok"),
            (100, "retry"),
            (301, "settings"),
            (400, "refused"),
            (401, "settings"),
            (404, "settings"),
            (408, "retry"),
            (413, "large"),
            (422, "refused"),
            (429, "retry"),
            (500, "retry"),
            (503, "retry"),
            (999, "retry"),
        ] {
            assert_eq!(kind(status), expected, "{status}");
        }
    }
}
