//! MQTT, by the CONNECT packet of its client (OASIS MQTT 5.0, section 3.1).

use super::{App, Claim, L7Counts, Look, Protocol};

/// MQTT; nothing is kept of it.
#[derive(Debug)]
pub(super) struct Mqtt;

impl Protocol for Mqtt {
    fn probe(look: &Look<'_>, _counts: &mut L7Counts) -> Option<Claim<Mqtt>> {
        let (&CONNECT, rest) = look.bytes.split_first()? else { return None };
        // The remaining length has one to four bytes; all but the last have the top bit.
        let more = rest.iter().take(3).take_while(|&&byte| byte >= 0x80).count();
        let (last, name) = rest.get(more..)?.split_first()?;
        let known = [&b"\x00\x04MQTT"[..], b"\x00\x06MQIsdp"].iter().any(|known| name.starts_with(known));
        if look.is_tcp() && *last < 0x80 && known { Claim::settled(App::Mqtt, Some(look.dir)) } else { None }
    }
}

const CONNECT: u8 = 0x10;
