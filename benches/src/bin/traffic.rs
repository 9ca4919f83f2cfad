//! Writes a capture file of synthetic traffic and prints its totals as JSON.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use flowcap_benches::pcap::Pcap;
use flowcap_benches::{Shape, Traffic};

/// What the command line asks for.
struct Wish {
    shape: Shape,
    scale: f64,
    seed: u64,
    output: String,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|wish| run(&wish).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("traffic: {message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let shape = words.next().ok_or("which shape?")?.parse()?;
    let mut wish = Wish { shape, scale: 1.0, seed: 1, output: format!("{}.pcap", shape.name()) };
    while let Some(flag) = words.next() {
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = |of: &str| of.parse::<f64>().ok().filter(|number| *number > 0.0);
        match flag.as_str() {
            "--scale" => wish.scale = number(&value).ok_or_else(|| format!("no scale: {value}"))?,
            "--seed" => wish.seed = value.parse().map_err(|_| format!("no seed: {value}"))?,
            "-o" | "--output" => wish.output = value,
            _ => return Err(format!("unknown: {flag}")),
        }
    }
    Ok(wish)
}

fn run(wish: &Wish) -> io::Result<()> {
    let begin = Instant::now();
    let mut traffic = Traffic::new(wish.shape, wish.scale, wish.seed);
    let out: Box<dyn Write> = if wish.output == "-" {
        Box::new(io::stdout().lock())
    } else {
        Box::new(File::create(&wish.output)?)
    };
    let mut pcap = Pcap::new(out);
    while let Some(frame) = traffic.next() {
        pcap.write(&frame)?;
    }
    pcap.finish()?;
    let totals = format!(
        "{{\"shape\":\"{}\",\"scale\":{},\"seed\":{},\"seconds_to_make\":{:.3},\"totals\":{}}}",
        wish.shape.name(),
        wish.scale,
        wish.seed,
        begin.elapsed().as_secs_f64(),
        traffic.totals()
    );
    if wish.output == "-" { writeln!(io::stderr(), "{totals}") } else { writeln!(io::stdout(), "{totals}") }
}

const USAGE: &str = "usage: traffic SHAPE [--scale 1.0] [--seed 1] [-o FILE or -]";
