//! DNS types, classes and response codes by IANA's mnemonics ("Domain Name System (DNS) Parameters").

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! words {
    ($(#[$about:meta])* $name:ident, $unknown:literal { $($code:literal $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub struct $name(pub u16);

        impl $name {
            /// Returns the mnemonic, or `None` where none is assigned.
            pub const fn mnemonic(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($text),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.mnemonic() {
                    Some(text) => f.write_str(text),
                    None => write!(f, concat!($unknown, "{}"), self.0),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.mnemonic() {
                    Some(text) => serializer.serialize_str(text),
                    None => serializer.collect_str(self),
                }
            }
        }
    };
}

words! {
    /// A record type; written as its mnemonic, or `TYPE65280` (RFC 3597) where it has none.
    RecordType, "TYPE" {
        1 "A",
        2 "NS",
        3 "MD",
        4 "MF",
        5 "CNAME",
        6 "SOA",
        7 "MB",
        8 "MG",
        9 "MR",
        10 "NULL",
        11 "WKS",
        12 "PTR",
        13 "HINFO",
        14 "MINFO",
        15 "MX",
        16 "TXT",
        17 "RP",
        18 "AFSDB",
        19 "X25",
        20 "ISDN",
        21 "RT",
        22 "NSAP",
        23 "NSAP-PTR",
        24 "SIG",
        25 "KEY",
        26 "PX",
        27 "GPOS",
        28 "AAAA",
        29 "LOC",
        30 "NXT",
        31 "EID",
        32 "NIMLOC",
        33 "SRV",
        34 "ATMA",
        35 "NAPTR",
        36 "KX",
        37 "CERT",
        38 "A6",
        39 "DNAME",
        40 "SINK",
        41 "OPT",
        42 "APL",
        43 "DS",
        44 "SSHFP",
        45 "IPSECKEY",
        46 "RRSIG",
        47 "NSEC",
        48 "DNSKEY",
        49 "DHCID",
        50 "NSEC3",
        51 "NSEC3PARAM",
        52 "TLSA",
        53 "SMIMEA",
        55 "HIP",
        56 "NINFO",
        57 "RKEY",
        58 "TALINK",
        59 "CDS",
        60 "CDNSKEY",
        61 "OPENPGPKEY",
        62 "CSYNC",
        63 "ZONEMD",
        64 "SVCB",
        65 "HTTPS",
        66 "DSYNC",
        67 "HHIT",
        68 "BRID",
        99 "SPF",
        100 "UINFO",
        101 "UID",
        102 "GID",
        103 "UNSPEC",
        104 "NID",
        105 "L32",
        106 "L64",
        107 "LP",
        108 "EUI48",
        109 "EUI64",
        128 "NXNAME",
        249 "TKEY",
        250 "TSIG",
        251 "IXFR",
        252 "AXFR",
        253 "MAILB",
        254 "MAILA",
        255 "ANY",
        256 "URI",
        257 "CAA",
        258 "AVC",
        259 "DOA",
        260 "AMTRELAY",
        261 "RESINFO",
        262 "WALLET",
        263 "CLA",
        264 "IPN",
        32768 "TA",
        32769 "DLV",
    }
}

words! {
    /// A class; written as its mnemonic, or `CLASS32` (RFC 3597) where it has none.
    DnsClass, "CLASS" {
        1 "IN",
        3 "CH",
        4 "HS",
        254 "NONE",
        255 "ANY",
    }
}

words! {
    /// A response code, with EDNS's upper eight bits (RFC 6891); written as its mnemonic, or `RCODE12`.
    Rcode, "RCODE" {
        0 "NOERROR",
        1 "FORMERR",
        2 "SERVFAIL",
        3 "NXDOMAIN",
        4 "NOTIMP",
        5 "REFUSED",
        6 "YXDOMAIN",
        7 "YXRRSET",
        8 "NXRRSET",
        9 "NOTAUTH",
        10 "NOTZONE",
        11 "DSOTYPENI",
        16 "BADVERS",
        17 "BADKEY",
        18 "BADTIME",
        19 "BADMODE",
        20 "BADNAME",
        21 "BADALG",
        22 "BADTRUNC",
        23 "BADCOOKIE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mnemonics_and_numbers() {
        assert_eq!(RecordType(65).to_string(), "HTTPS");
        assert_eq!(RecordType(54).to_string(), "TYPE54");
        assert_eq!(RecordType(65280).to_string(), "TYPE65280");
        assert_eq!(DnsClass(1).to_string(), "IN");
        assert_eq!(DnsClass(2).to_string(), "CLASS2");
        assert_eq!(DnsClass(254).to_string(), "NONE");
        assert_eq!(Rcode(3).to_string(), "NXDOMAIN");
        assert_eq!(Rcode(23).to_string(), "BADCOOKIE");
        assert_eq!(Rcode(4095).to_string(), "RCODE4095");
    }

    #[test]
    fn in_json_as_text() {
        assert_eq!(
            serde_json::to_string(&(RecordType(1), DnsClass(9), Rcode(12))).unwrap(),
            r#"["A","CLASS9","RCODE12"]"#
        );
    }
}
