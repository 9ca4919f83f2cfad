//! Prints the flows of capture files as a table: `cargo run --example table -- FILE...`

use flowcore::capture::FileSource;
use flowcore::sink::{self, Existing, Format};
use flowcore::{Error, Meter, Stop};

fn main() -> Result<(), Error> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let source = FileSource::open(&files)?;
    let sink = sink::open("-", Format::Table, None, &Existing::Refuse.into())?;
    let meter = Meter::builder().sink("-", sink).build()?;
    let summary = meter.run(Box::new(source), &Stop::new());
    eprintln!("{} packets in {} flows", summary.stats.packets, summary.stats.flows_opened);
    summary.failure.map_or(Ok(()), Err)
}
