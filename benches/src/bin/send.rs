//! Sends synthetic traffic out of an interface, as fast as one thread can, and prints what was sent as JSON.
//!
//! The frames are made before the first one leaves. Needs CAP_NET_RAW.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use flowcap_benches::{Frames, Shape};
use pcap::Capture;

/// What the command line asks for.
struct Wish {
    interface: String,
    shape: Shape,
    scale: f64,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|wish| send(&wish)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("send: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Wish, Box<dyn Error>> {
    let interface = words.next().ok_or("which interface?")?;
    let shape = words.next().ok_or("which shape?")?.parse()?;
    let scale = words.next().map_or(Ok(1.0), |word| word.parse())?;
    if scale > 0.0 && words.next().is_none() {
        Ok(Wish { interface, shape, scale })
    } else {
        Err("no scale, or too many words".into())
    }
}

fn send(wish: &Wish) -> Result<(), Box<dyn Error>> {
    let frames = Frames::new(wish.shape, wish.scale, 1, usize::MAX);
    // A socket of libpcap receives as well: a small snapshot, and a filter that no frame passes, keep that cheap.
    let mut link = Capture::from_device(wish.interface.as_str())?.snaplen(64).open()?;
    link.filter("less 1", true)?;
    let begin = Instant::now();
    for frame in frames.iter() {
        link.sendpacket(frame.bytes)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!("{{\"seconds\":{seconds:.6},\"totals\":{}}}", frames.totals());
    Ok(())
}

const USAGE: &str = "usage: send INTERFACE SHAPE [SCALE]";
