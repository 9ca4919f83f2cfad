//! All that a run needs, opened: inputs first, then outputs.

use flowcore::Error;
use flowcore::capture::{FileSource, Source};
use flowcore::meter::{Aides, Meter, Reopen, Watched, wall_clock};
use flowcore::sink::{self, FileOptions, Filtered, HostRecords, SightedLines};

use super::{describe, say};
use crate::conf::is_server;
use crate::confine::Confinement;
use crate::lookups::{self, Asking};
use crate::owners;
use crate::plan::{Alongside, Input, Live, MeterPlan, Output, Owners};
use crate::shippers::Shippers;
use crate::watchers::Watchers;

/// All that is open.
pub(super) struct Started {
    pub(super) source: Box<dyn Source>,
    /// The size of the input files.
    pub(super) total_bytes: Option<u64>,
    pub(super) meter: Meter,
    /// What asks for the owners of flows meanwhile.
    pub(super) owners: Option<Asking>,
    /// What watches sockets and events meanwhile.
    pub(super) watchers: Watchers,
    /// What sends records to servers.
    pub(super) shippers: Shippers,
}

/// Opens all inputs, then all outputs.
pub(super) fn start(
    plan: MeterPlan,
    inside: &Confinement,
    reopen: Reopen,
    watched: Watched,
    aides: Aides,
) -> Result<Started, Error> {
    let mut builder = Meter::builder().reopen(reopen).aides(aides);
    if plan.files.live {
        builder = builder.watched(watched);
    }
    let owner = inside.owner();
    let (mut owners, mut nameless) = (None, None);
    match (&plan.owners, &plan.input) {
        (Owners::Recorded(file), _) => builder = builder.attribution(owners::recorded(file)?),
        // Before the capture, which may hold packets as soon as it is open.
        (Owners::Machine { record }, Input::Live(live)) => {
            let files = FileOptions { owner, ..plan.files.existing.into() };
            let lines = record.as_deref().map(|file| SightedLines::open(file, files)).transpose()?;
            match lookups::ask(&live.interfaces, plan.table.idle.largest(), lines, inside) {
                Ok(Some((asking, attribution, requests))) => {
                    builder = builder.attribution(attribution).lookups(requests);
                    owners = Some(asking);
                }
                Ok(None) => {}
                Err(error) if record.is_some() => return Err(error),
                // Flows are worth having without their processes; what hinders the capture itself is said below.
                Err(error) => nameless = Some(error),
            }
        }
        _ => {}
    }
    let (source, total_bytes) = match plan.input {
        Input::Files(files) => {
            let source = FileSource::open(&files)?;
            let total_bytes = source.total_bytes();
            (Box::new(filtered(source, plan.filter.as_deref())?) as Box<dyn Source>, total_bytes)
        }
        Input::Live(live) => (open_live(live, plan.filter)?, None),
    };
    if let Some(error) = nameless.filter(|_| !plan.quiet) {
        say(&format!("{}; flows are recorded without their processes", describe(&error)));
    }
    builder = builder
        .table(plan.table)
        .decode(plan.decode)
        .features(plan.features)
        .packet_limit(plan.packet_limit)
        .duration(plan.duration);
    if let Some(shards) = plan.shards {
        builder = builder.shards(shards);
    }
    let now = plan.files.live.then(wall_clock);
    let mut shippers = Shippers::default();
    let (level, mut watchers) = (plan.running.log_level, Watchers::default());
    let mut open = |output: &Output, host: Option<HostRecords>| {
        let (to, columns) = (output.destination.as_str(), output.columns.as_deref());
        let files = FileOptions { now, owner, ..output.files };
        let sink = match host {
            _ if is_server(to) => shippers.open(output, &files, level, inside)?,
            Some(records) => sink::open_host(records, to, output.format, &files)?,
            None => sink::open(to, output.format, columns, &files)?,
        };
        Ok::<_, Error>(Filtered::wrap(sink, output.filter.clone()))
    };
    for output in plan.outputs {
        let sink = open(&output, None)?;
        builder = builder.sink(output.destination, sink);
    }
    for Alongside { what, flags, outputs, .. } in plan.watched {
        let mut beside = watchers.open(what, &flags, plan.quiet, inside)?;
        for output in outputs {
            let sink = open(&output, Some(what.records(&output.destination)))?;
            beside = beside.sink(output.destination, sink);
        }
        builder = builder.beside(beside);
    }
    if let Some(stats) = plan.stats {
        let files = FileOptions {
            rotate: None,
            keep: sink::Keep::default(),
            compress: None,
            now,
            owner,
            ..plan.files
        };
        let sink = sink::open(&stats.destination, sink::Format::Jsonl, None, &files)?;
        builder = builder.stats(stats.destination, sink, stats.interval);
    }
    Ok(Started { source, total_bytes, meter: builder.build()?, owners, watchers, shippers })
}

#[cfg(feature = "live")]
fn filtered(source: FileSource, filter: Option<&str>) -> Result<FileSource, Error> {
    match filter {
        Some(expression) => source.with_filter(expression),
        None => Ok(source),
    }
}

#[cfg(not(feature = "live"))]
fn filtered(source: FileSource, filter: Option<&str>) -> Result<FileSource, Error> {
    if filter.is_some() { Err(no_live()) } else { Ok(source) }
}

#[cfg(feature = "live")]
fn open_live(live: Live, filter: Option<String>) -> Result<Box<dyn Source>, Error> {
    use flowcore::capture::{LiveOptions, LiveSource};

    let mut options = LiveOptions { promiscuous: live.promiscuous, filter, ..LiveOptions::default() };
    options.snaplen = live.snaplen.unwrap_or(options.snaplen);
    options.buffer_bytes = live.buffer_bytes.unwrap_or(options.buffer_bytes);
    Ok(Box::new(LiveSource::open(&live.interfaces, options)?))
}

#[cfg(not(feature = "live"))]
fn open_live(_: Live, _: Option<String>) -> Result<Box<dyn Source>, Error> {
    Err(no_live())
}

#[cfg(not(feature = "live"))]
pub(super) fn no_live() -> Error {
    Error::Option("this build has no libpcap: neither live capture nor filters".to_owned())
}
