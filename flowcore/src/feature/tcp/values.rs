//! What a flow record says of its TCP connection.

use super::history::HistoryText;
use crate::feature::Values;
use crate::field::{Field, Scalar, ShortText};
use crate::packet::TcpFlags;

/// The history of a flow record, and the numbers of its connection where it is TCP.
#[derive(Clone, Copy, Default, Debug)]
pub struct TcpValues {
    pub(super) history: Option<HistoryText>,
    /// What stands only in the records of TCP flows.
    pub tcp: Option<TcpNumbers>,
}

/// The numbers of a TCP flow.
#[derive(Clone, Copy, Debug)]
pub struct TcpNumbers {
    /// What the initiator did.
    pub src: TcpSide,
    /// What the responder did.
    pub dst: TcpSide,
    /// Packets with FIN, SYN, RST, PSH, ACK, URG, ECE and CWR.
    pub flag_counts: [u64; 8],
    /// Zeek's conn_state.
    pub state: &'static str,
    /// Nanoseconds from SYN to SYN-ACK and from there to its ACK, in the first slice.
    pub handshake: Option<(u64, u64)>,
}

/// What one side of a TCP flow did.
#[derive(Clone, Copy, Debug)]
pub struct TcpSide {
    /// The flags seen at least once.
    pub flags: TcpFlags,
    /// Packets with only bytes already seen.
    pub retransmits: u64,
    /// Packets that filled a hole.
    pub out_of_order: u64,
    /// Packets that closed the window.
    pub zero_windows: u64,
    /// The window field of the side's first packet, in the first slice.
    pub window_init: Option<u16>,
    /// Maximum segment size of its SYN, in the first slice.
    pub mss: Option<u16>,
    /// Window scale of its SYN, in the first slice.
    pub window_scale: Option<u8>,
}

impl TcpValues {
    /// Returns the history: Zeek's letters, at most 31, `^` in front where the flow is turned round.
    pub fn history(&self) -> Option<&str> {
        self.history.as_ref().map(ShortText::as_str)
    }
}

impl Values for TcpValues {
    const FIELDS: &'static [Field] = &[
        Field::core_and_stats("flags"),
        Field::stats("src_flags"),
        Field::stats("dst_flags"),
        Field::stats("syn_count"),
        Field::stats("ack_count"),
        Field::stats("psh_count"),
        Field::stats("rst_count"),
        Field::stats("urg_count"),
        Field::stats("fin_count"),
        Field::stats("ece_count"),
        Field::stats("cwr_count"),
        Field::core_and_stats("history"),
        Field::core_and_stats("tcp_state"),
        Field::core_and_stats("rtt_us"),
        Field::stats("synack_us"),
        Field::stats("ack_us"),
        Field::stats("src_retransmits"),
        Field::stats("dst_retransmits"),
        Field::stats("src_out_of_order"),
        Field::stats("dst_out_of_order"),
        Field::stats("src_zero_windows"),
        Field::stats("dst_zero_windows"),
        Field::stats("src_window_init"),
        Field::stats("dst_window_init"),
        Field::stats("src_mss"),
        Field::stats("dst_mss"),
        Field::stats("src_window_scale"),
        Field::stats("dst_window_scale"),
    ];

    #[inline(always)]
    fn value(&self, index: usize) -> Scalar<'_> {
        if index == 11 {
            return self.history.as_ref().map_or(Scalar::Absent, |text| Scalar::Ascii(text.as_bytes()));
        }
        let Some(tcp) = &self.tcp else { return Scalar::Absent };
        let (src, dst) = (&tcp.src, &tcp.dst);
        let [fin, syn, rst, psh, ack, urg, ece, cwr] = tcp.flag_counts;
        let nanos = |part: fn((u64, u64)) -> u64| {
            tcp.handshake.map_or(Scalar::Absent, |times| Scalar::Micros(part(times)))
        };
        match index {
            0 => word(src.flags | dst.flags),
            1 => word(src.flags),
            2 => word(dst.flags),
            3 => Scalar::U64(syn),
            4 => Scalar::U64(ack),
            5 => Scalar::U64(psh),
            6 => Scalar::U64(rst),
            7 => Scalar::U64(urg),
            8 => Scalar::U64(fin),
            9 => Scalar::U64(ece),
            10 => Scalar::U64(cwr),
            12 => Scalar::Word(tcp.state),
            13 => nanos(|(synack, ack)| synack.saturating_add(ack)),
            14 => nanos(|(synack, _)| synack),
            15 => nanos(|(_, ack)| ack),
            16 => Scalar::U64(src.retransmits),
            17 => Scalar::U64(dst.retransmits),
            18 => Scalar::U64(src.out_of_order),
            19 => Scalar::U64(dst.out_of_order),
            20 => Scalar::U64(src.zero_windows),
            21 => Scalar::U64(dst.zero_windows),
            22 => Scalar::number(src.window_init),
            23 => Scalar::number(dst.window_init),
            24 => Scalar::number(src.mss),
            25 => Scalar::number(dst.mss),
            26 => Scalar::number(src.window_scale),
            27 => Scalar::number(dst.window_scale),
            _ => Scalar::Absent,
        }
    }
}

/// Returns the six characters of `TcpFlags::sapruf`.
#[inline(always)]
fn word(flags: TcpFlags) -> Scalar<'static> {
    Scalar::Ascii(WORDS[usize::from(flags.0 & 0x3F)].as_bytes())
}

static WORDS: [ShortText<6>; 64] = {
    let mut words = [ShortText::new(); 64];
    let mut bits = 0;
    while bits < words.len() {
        words[bits] = TcpFlags(bits as u16).sapruf();
        bits += 1;
    }
    words
};
