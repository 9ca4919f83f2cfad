//! Messages in TCP streams: split, reordered, lost.

use super::*;

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

#[test]
fn over_tcp_whole_split_and_two_at_once() {
    let both = [framed(&query(1, "one")), framed(&query(2, "two"))].concat();
    for size in 1..=both.len() {
        let mut flow = Flow::new(Proto::TCP, 40000, 53);
        let mut seq = u32::MAX - 5;
        for piece in both.chunks(size) {
            flow.segment(Dir::Fwd, seq, 77, piece);
            seq = seq.wrapping_add(piece.len() as u32);
        }
        // The answers' first half comes last.
        let answers = framed(&answer(1, "one"));
        flow.segment(Dir::Rev, 77 + 9, seq, &answers[9..]);
        assert_eq!(flow.segment(Dir::Rev, 77, seq, &answers[..9]), Some(Dir::Fwd));
        assert_eq!((flow.counted(), flow.conversation.app()), ((3, 0, 0), Some(App::Dns)), "{size}");
        let dns = flow.finish(true).dns;
        assert_eq!((dns[0].answers().len(), dns[1].rcode, dns[0].transport), (1, None, Transport::Tcp));
    }
}

#[test]
fn over_tcp_turned_in_between() {
    let mut flow = Flow::new(Proto::TCP, 53, 40000);
    let question = framed(&query(1, "one"));
    flow.segment(Dir::Rev, 0, 0, &question[..10]);
    flow.conversation.turn();
    assert_eq!(flow.segment(Dir::Fwd, 10, 0, &question[10..]), Some(Dir::Fwd));
    assert_eq!(flow.counted(), (1, 0, 0));
}

#[test]
fn over_tcp_from_the_middle() {
    let mut flow = Flow::new(Proto::TCP, 40000, 53);
    // The tail of a message, then a whole one.
    assert_eq!(flow.segment(Dir::Rev, 100, 0, b"\xc0\x0c\x00\x01\x00\x01tail of it"), None);
    flow.segment(Dir::Rev, 116, 0, &framed(&answer(1, "one")));
    assert_eq!(flow.counted(), (1, 0, 0));
}

#[test]
fn over_tcp_cut_by_the_snapshot_length() {
    let mut flow = Flow::new(Proto::TCP, 40000, 53);
    flow.cut = true;
    let message = framed(&answer(1, "one"));
    flow.segment(Dir::Rev, 0, 0, &message[..30]);
    flow.cut = false;
    flow.segment(Dir::Rev, 500, 0, &message);
    assert_eq!(flow.counted(), (1, 1, 0));
}

#[test]
fn over_tcp_lost_streams_are_refused() {
    let mut flow = Flow::new(Proto::TCP, 40000, 53);
    for nth in 0..100 {
        flow.segment(
            Dir::Fwd,
            1000 * nth,
            0,
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        );
    }
    assert_eq!(flow.counts.dns_refused[DnsRefusal::Stream], 3);
    assert_eq!(flow.conversation.app(), None);
    assert!(flow.conversation.heap_bytes() < 300);
}
