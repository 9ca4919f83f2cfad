//! Link types by the two numbers they have: LINKTYPE_ in files, DLT_ inside libpcap.
//!
//! Both are the same but for a few early ones, whose DLT_ numbers differ between systems.

use crate::packet::LinkType;

/// Returns the number that libpcap on this system has for a link type.
pub(super) fn to_dlt(link: LinkType) -> i32 {
    match DIFFERENT.iter().find(|(_, of)| *of == link.0) {
        Some((dlt, _)) => *dlt,
        None => i32::try_from(link.0).unwrap_or(i32::MAX),
    }
}

/// Returns the link type that libpcap's number means.
pub(super) fn from_dlt(dlt: i32) -> LinkType {
    match DIFFERENT.iter().find(|(of, _)| *of == dlt) {
        Some((_, link)) => LinkType(*link),
        None => LinkType(dlt.try_into().unwrap_or(u32::MAX)),
    }
}

/// ATM RFC 1483, raw IP, BSD/OS SLIP and PPP, Linux classical IP over ATM.
const DIFFERENT: [(i32, u32); 5] = [(11, 100), (12, 101), (15, 102), (16, 103), (19, 106)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_ip_has_two_numbers() {
        assert_eq!(to_dlt(LinkType(101)), 12);
        assert_eq!(from_dlt(12), LinkType(101));
        assert_eq!(to_dlt(LinkType(276)), 276);
        assert_eq!(from_dlt(276), LinkType(276));
        assert_eq!(to_dlt(LinkType(u32::MAX)), i32::MAX);
    }
}
