//! A record's data as text, as zone files have it, but without the trailing dot of names.
//!
//! | types | text |
//! |---|---|
//! | A, AAAA | the address; RFC 5952 for IPv6 |
//! | CNAME, NS, PTR | the name |
//! | MX, SRV, SOA | numbers and names in the order of the wire: `10 mail.example`, `0 5 5060 sip.example` |
//! | TXT | strings in quotes: `"v=spf1 -all" "more"` |
//! | SVCB, HTTPS | RFC 9460: `1 . alpn="h2,h3" port=8443` |
//! | those in `FORMS` | their fields in order, as their RFCs write them; hexadecimal in upper case |
//! | all others, and data that contradicts its type | RFC 3597: `\# 3 0A0B0C` |
//!
//! Numbers, addresses and strings of the types that dns-parser knows are read by it. It never sees
//! their names: it would walk them without bounds, and refuse labels that are not ASCII.

use std::fmt::Write;
use std::net::Ipv4Addr;

use dns_parser::{RData, Type};

use crate::time::Timestamp;

use super::name::{Name, Steps};
use super::svcb;
use super::text::Text;
use super::words::RecordType;

/// A record's data within its message.
pub(super) struct Data<'a> {
    /// The message up to the end of the data.
    message: &'a [u8],
    start: usize,
    at: usize,
}

impl<'a> Data<'a> {
    /// Takes `len` bytes that lie at `start` in the message.
    pub(super) fn new(message: &'a [u8], start: usize, len: usize) -> Data<'a> {
        let message = message.get(..start.saturating_add(len)).unwrap_or(message);
        Data { message, start, at: start }
    }

    /// Writes the data; returns whether it was what its type promises.
    ///
    /// Data that is not is written in the form of RFC 3597, as is the data of other types.
    pub(super) fn write(mut self, rtype: RecordType, steps: &mut Steps, out: &mut Text) -> bool {
        let mark = out.len();
        let written = match Type::parse(rtype.0) {
            Ok(known) if is_parsed(known) => self.known(known, steps, out),
            _ => match FORMS.iter().find(|(types, _)| types.contains(&rtype.0)) {
                Some((_, parts)) => parts.iter().try_for_each(|part| {
                    let before = out.len();
                    out.space();
                    let between = out.len();
                    self.part(part, steps, out)?;
                    // A field of no bytes leaves no trace.
                    if out.len() == between {
                        out.cut(before);
                    }
                    Some(())
                }),
                None => return self.generic(out),
            },
        };
        if written.is_some() && self.at == self.message.len() {
            return true;
        }
        out.cut(mark);
        self.generic(out);
        false
    }

    /// Writes data of a type that dns-parser knows.
    fn known(&mut self, known: Type, steps: &mut Steps, out: &mut Text) -> Option<()> {
        match known {
            Type::CNAME | Type::NS | Type::PTR => self.name(steps, out)?,
            Type::MX => {
                let &[p0, p1] = self.take()?;
                let numbers = [p0, p1, ROOT];
                let RData::MX(mx) = RData::parse(known, &numbers, &[]).ok()? else { return None };
                out.number(mx.preference.into());
                out.space();
                self.name(steps, out)?;
            }
            Type::SRV => {
                let &[p0, p1, w0, w1, n0, n1] = self.take()?;
                let numbers = [p0, p1, w0, w1, n0, n1, ROOT];
                let RData::SRV(srv) = RData::parse(known, &numbers, &[]).ok()? else { return None };
                write_numbers(&[srv.priority.into(), srv.weight.into(), srv.port.into()], out);
                out.space();
                self.name(steps, out)?;
            }
            Type::SOA => {
                self.name(steps, out)?;
                out.space();
                self.name(steps, out)?;
                let mut numbers = [ROOT; 22];
                *numbers.last_chunk_mut::<20>()? = *self.take()?;
                let RData::SOA(soa) = RData::parse(known, &numbers, &[]).ok()? else { return None };
                write_numbers(&[soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum_ttl], out);
            }
            _ => {
                let data = self.rest();
                match RData::parse(known, data, &[]).ok()? {
                    RData::A(a) => out.v4(a.0),
                    RData::AAAA(aaaa) => out.v6(aaaa.0),
                    RData::TXT(txt) => {
                        for string in txt.iter() {
                            out.space();
                            out.quoted(string);
                        }
                    }
                    _ => return None,
                }
            }
        }
        Some(())
    }

    fn part(&mut self, part: &Part, steps: &mut Steps, out: &mut Text) -> Option<()> {
        match part {
            Part::U8 => out.number(self.u8()?.into()),
            Part::U16 => out.number(self.u16()?.into()),
            Part::U32 => out.number(self.u32()?),
            Part::Type => write!(out, "{}", RecordType(self.u16()?)).ok()?,
            Part::Time => {
                // The digits of 2023-11-14T22:13:20: in the range of 32 bits the year has four.
                let time = Timestamp::from_nanos(i64::from(self.u32()?) * 1_000_000_000).rfc3339();
                time.iter().take(19).filter(|letter| letter.is_ascii_digit()).for_each(|&d| out.byte(d));
            }
            Part::Name => self.name(steps, out)?,
            Part::Word => self.string()?.iter().for_each(|&byte| out.escaped(byte, byte.is_ascii_graphic())),
            Part::Quoted => out.quoted(self.string()?),
            Part::Strings => {
                while self.at < self.message.len() {
                    out.space();
                    out.quoted(self.string()?);
                }
            }
            Part::Value => out.quoted(self.rest()),
            Part::Hex => out.hex(self.rest()),
            Part::Base64 => out.base64(self.rest()),
            Part::Salt => match self.string()? {
                [] => out.byte(b'-'),
                salt => out.hex(salt),
            },
            Part::Base32 => out.base32(self.string()?),
            Part::V4 => out.v4(Ipv4Addr::from(*self.take::<4>()?)),
            Part::Locator => {
                let [a, b, c, d] = [self.u16()?, self.u16()?, self.u16()?, self.u16()?];
                write!(out, "{a:04x}:{b:04x}:{c:04x}:{d:04x}").ok()?;
            }
            Part::Octets(count) => {
                let octets = self.rest();
                let (first, others) = octets.split_first().filter(|_| octets.len() == *count)?;
                write!(out, "{first:02x}").ok()?;
                others.iter().try_for_each(|octet| write!(out, "-{octet:02x}")).ok()?;
            }
            Part::Types => self.types(out)?,
            Part::Params => svcb::write_params(self.rest(), out)?,
        }
        Some(())
    }

    /// Writes the types of a bitmap (RFC 4034, section 4.1.2).
    fn types(&mut self, out: &mut Text) -> Option<()> {
        let mut rest = self.rest();
        let mut least = 0;
        while let Some((&[window, len], behind)) = rest.split_first_chunk::<2>() {
            let (bits, behind) = behind.split_at_checked(usize::from(len))?;
            if u16::from(window) < least || !(1..=32).contains(&len) || out.is_too_long() {
                return None;
            }
            for (nth, byte) in (0..).zip(bits) {
                for bit in (0..8u16).filter(|bit| byte & 0x80 >> bit != 0) {
                    out.space();
                    let _ = write!(out, "{}", RecordType(u16::from(window) << 8 | nth << 3 | bit));
                }
            }
            (least, rest) = (u16::from(window) + 1, behind);
        }
        rest.is_empty().then_some(())
    }

    fn generic(&self, out: &mut Text) -> bool {
        let data = self.message.get(self.start..).unwrap_or_default();
        let _ = write!(out, "\\# {}", data.len());
        if !data.is_empty() {
            out.byte(b' ');
            out.hex(data);
        }
        true
    }

    fn name(&mut self, steps: &mut Steps, out: &mut Text) -> Option<()> {
        let name = Name::read(self.message, self.at, steps).ok()?;
        name.write(out);
        self.at = name.end();
        Some(())
    }

    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let bytes = self.message.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(|&bytes| u8::from_be_bytes(bytes))
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(|&bytes| u16::from_be_bytes(bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(|&bytes| u32::from_be_bytes(bytes))
    }

    /// Takes a length byte and as many bytes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.u8()?);
        let string = self.message.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(string)
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = self.message.get(self.at..).unwrap_or_default();
        self.at = self.message.len();
        rest
    }
}

/// Writes numbers, with a space before each but at the start.
fn write_numbers(numbers: &[u32], out: &mut Text) {
    for &number in numbers {
        out.space();
        out.number(number);
    }
}

fn is_parsed(known: Type) -> bool {
    use Type::{A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
    matches!(known, A | AAAA | CNAME | MX | NS | PTR | SOA | SRV | TXT)
}

/// A field of a record's data.
enum Part {
    U8,
    U16,
    U32,
    /// A record type's mnemonic.
    Type,
    /// Seconds since 1970 as YYYYMMDDHHmmSS.
    Time,
    Name,
    /// A character-string without quotes.
    Word,
    /// A character-string.
    Quoted,
    /// All that is left, as character-strings.
    Strings,
    /// All that is left, as one string in quotes.
    Value,
    /// All that is left.
    Hex,
    /// All that is left.
    Base64,
    /// A length byte and as many bytes in hexadecimal, `-` for none.
    Salt,
    /// A length byte and as many bytes.
    Base32,
    /// An IPv4 address.
    V4,
    /// 64 bits as four groups (RFC 6742).
    Locator,
    /// Exactly so many bytes, with dashes (RFC 7043).
    Octets(usize),
    /// A type bitmap.
    Types,
    /// Service parameters.
    Params,
}

/// The types whose data is written field by field.
const FORMS: &[(&[u16], &[Part])] = &[
    // MD, MF, MB, MG, MR, NSAP-PTR, DNAME
    (&[3, 4, 7, 8, 9, 23, 39], &[Part::Name]),
    // HINFO
    (&[13], &[Part::Quoted, Part::Quoted]),
    // MINFO, RP, TALINK
    (&[14, 17, 58], &[Part::Name, Part::Name]),
    // AFSDB, RT, KX, LP
    (&[18, 21, 36, 107], &[Part::U16, Part::Name]),
    // X25
    (&[19], &[Part::Quoted]),
    // SIG, RRSIG (RFC 4034)
    (
        &[24, 46],
        &[
            Part::Type,
            Part::U8,
            Part::U8,
            Part::U32,
            Part::Time,
            Part::Time,
            Part::U16,
            Part::Name,
            Part::Base64,
        ],
    ),
    // KEY, DNSKEY (RFC 4034), RKEY, CDNSKEY
    (&[25, 48, 57, 60], &[Part::U16, Part::U8, Part::U8, Part::Base64]),
    // PX
    (&[26], &[Part::U16, Part::Name, Part::Name]),
    // NAPTR (RFC 3403)
    (&[35], &[Part::U16, Part::U16, Part::Quoted, Part::Quoted, Part::Quoted, Part::Name]),
    // CERT (RFC 4398)
    (&[37], &[Part::U16, Part::U16, Part::U8, Part::Base64]),
    // DS (RFC 4034), CDS, TA, DLV
    (&[43, 59, 32768, 32769], &[Part::U16, Part::U8, Part::U8, Part::Hex]),
    // SSHFP (RFC 4255)
    (&[44], &[Part::U8, Part::U8, Part::Hex]),
    // NSEC (RFC 4034)
    (&[47], &[Part::Name, Part::Types]),
    // DHCID (RFC 4701), OPENPGPKEY (RFC 7929)
    (&[49, 61], &[Part::Base64]),
    // NSEC3, NSEC3PARAM (RFC 5155)
    (&[50], &[Part::U8, Part::U8, Part::U16, Part::Salt, Part::Base32, Part::Types]),
    (&[51], &[Part::U8, Part::U8, Part::U16, Part::Salt]),
    // TLSA (RFC 6698), SMIMEA (RFC 8162)
    (&[52, 53], &[Part::U8, Part::U8, Part::U8, Part::Hex]),
    // NINFO, SPF (RFC 7208), AVC, RESINFO (RFC 9606), WALLET
    (&[56, 99, 258, 261, 262], &[Part::Strings]),
    // CSYNC (RFC 7477)
    (&[62], &[Part::U32, Part::U16, Part::Types]),
    // ZONEMD (RFC 8976)
    (&[63], &[Part::U32, Part::U8, Part::U8, Part::Hex]),
    // SVCB, HTTPS (RFC 9460)
    (&[64, 65], &[Part::U16, Part::Name, Part::Params]),
    // NID, L64, L32 (RFC 6742)
    (&[104, 106], &[Part::U16, Part::Locator]),
    (&[105], &[Part::U16, Part::V4]),
    // EUI48, EUI64 (RFC 7043)
    (&[108], &[Part::Octets(6)]),
    (&[109], &[Part::Octets(8)]),
    // URI (RFC 7553)
    (&[256], &[Part::U16, Part::U16, Part::Value]),
    // CAA (RFC 8659)
    (&[257], &[Part::U8, Part::Word, Part::Value]),
];

const ROOT: u8 = 0;

#[cfg(test)]
mod tests;
