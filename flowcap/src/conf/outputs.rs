//! The keys of an `[[output]]`.

use clap::{Args, Parser};
use flowcore::filter::Types;
use flowcore::record::Only;
use flowcore::sink::{self, FileOptions};
use flowcore::spool::MIN_BYTES;

use crate::args::{Fields, Format, fields, read, size};

/// A destination and what is particular about it; of `[[output]]`, `[[sockets.output]]` and `[[events.output]]`.
#[derive(Parser, Clone, Debug)]
pub(crate) struct OutputKeys {
    /// A file, '-' for standard output, or the address of a server.
    #[arg(long, value_name = "DEST")]
    pub(crate) to: String,

    /// How records are written where the extension does not say it: jsonl, csv, table.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,

    /// The fields of flow records.
    #[arg(long, value_name = "LIST", value_parser = fields)]
    pub(crate) fields: Option<Fields>,

    /// Only records of these types.
    #[arg(long, value_name = "LIST")]
    pub(crate) types: Option<Types>,

    /// Only records of these protocols and IP versions.
    #[arg(long, value_name = "LIST")]
    pub(crate) only: Option<Only>,

    #[command(flatten)]
    pub(crate) file: FileKeys,

    #[command(flatten)]
    pub(crate) server: ServerKeys,
}

/// Keys that only files have.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = FILE)]
pub(crate) struct FileKeys {
    /// When a new file is begun: after a time, at a size, or both.
    #[arg(long, value_name = "WHEN", value_parser = read::<sink::Rotate>)]
    pub(crate) rotate: Option<sink::Rotate>,

    /// How long old files are kept: an age, a number, a total size.
    #[arg(long, value_name = "LIMIT", value_parser = read::<sink::Keep>)]
    pub(crate) keep: Option<sink::Keep>,

    /// How files are compressed once they are closed: zstd, gzip.
    #[arg(long, value_name = "HOW", value_parser = read::<sink::Compress>)]
    pub(crate) compress: Option<sink::Compress>,

    /// When what was written is to survive a power cut: always, or this often.
    #[arg(long, value_name = "WHEN", value_parser = read::<sink::SyncPolicy>)]
    pub(crate) sync: Option<sink::SyncPolicy>,
}

/// Keys that only servers have.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = SERVER)]
pub(crate) struct ServerKeys {
    /// The file that holds the bearer token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<String>,

    /// The certificates of those who may vouch for the server, in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<String>,

    /// The certificate shown to the server.
    #[arg(long, value_name = "FILE")]
    pub(crate) client_cert: Option<String>,

    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub(crate) client_key: Option<String>,

    /// Send without encryption to other machines too.
    #[arg(long)]
    pub(crate) allow_plaintext: bool,

    /// How much is sent at once: a number of records, a size, a time to wait.
    #[arg(long, value_name = "LIMIT", value_parser = batch)]
    pub(crate) batch: Option<Batch>,

    /// The folder in which records wait for the server.
    #[arg(long, value_name = "FOLDER", value_parser = folder)]
    pub(crate) spool: Option<String>,

    /// The size of that folder beyond which the oldest records are lost.
    #[arg(long, value_name = "SIZE", value_parser = spool_size)]
    pub(crate) spool_max: Option<u64>,
}

/// How much is sent at once, as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch(pub(crate) String);

/// The heading of [`FileKeys`].
pub(super) const FILE: &str = "File";
/// The heading of [`ServerKeys`].
pub(super) const SERVER: &str = "Server";

impl ServerKeys {
    /// Says the same to another process of this program, but for the spool.
    #[cfg(feature = "ship")]
    pub(crate) fn pass_on(&self, command: &mut std::process::Command) {
        let keys = [
            ("--token-file", &self.token_file),
            ("--ca-file", &self.ca_file),
            ("--client-cert", &self.client_cert),
            ("--client-key", &self.client_key),
        ];
        for (flag, value) in keys {
            value.iter().for_each(|value| _ = command.args([flag, value]));
        }
        self.batch.iter().for_each(|Batch(limits)| _ = command.args(["--batch", limits]));
        if self.allow_plaintext {
            command.arg("--allow-plaintext");
        }
    }
}

impl OutputKeys {
    /// A destination of the command line, about which nothing more is said.
    pub(crate) fn plain(to: &str) -> Self {
        OutputKeys {
            to: to.to_owned(),
            format: None,
            fields: None,
            types: None,
            only: None,
            file: FileKeys::default(),
            server: ServerKeys::default(),
        }
    }

    /// Says what is wrong with it as a whole, and at which key.
    pub(crate) fn fault(&self) -> Option<(&'static str, String)> {
        let ServerKeys { client_cert, client_key, .. } = &self.server;
        match (client_cert, client_key) {
            (Some(_), None) => return Some(("client_cert", "needs client_key beside it".to_owned())),
            (None, Some(_)) => return Some(("client_key", "needs client_cert beside it".to_owned())),
            _ => {}
        }
        if self.format.is_some_and(|format| format != Format::Jsonl) && is_server(&self.to) {
            return Some(("format", "servers are sent JSON lines".to_owned()));
        }
        misnamed(&self.to).map(|what| ("to", what))
    }
}

/// Says what is wrong with a destination; the text itself stands in it only where it can hold no secret.
fn misnamed(to: &str) -> Option<String> {
    if !is_server(to) {
        if let Some(kind) = [".parquet", ".html"].iter().find(|kind| to.ends_with(**kind)) {
            return Some(format!(
                "{to}: {kind} cannot be written, only .jsonl and .csv, and .gz or .zst of them"
            ));
        }
        return sink::needs(to, &FileOptions::default()).err().map(|error| error.to_string());
    }
    #[cfg(feature = "ship")]
    if let Err(error) = flowcore::ship::Destination::parse(to) {
        return Some(error.to_string());
    }
    None
}

/// Tells whether a destination is a server, not a file.
pub(crate) fn is_server(destination: &str) -> bool {
    destination.contains("://")
}

/// Returns the heading of the keys that a destination cannot have.
pub(super) fn misplaced(destination: &str) -> &'static str {
    if is_server(destination) { FILE } else { SERVER }
}

/// Without a name it would be the current folder.
fn folder(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("the name of a folder is needed".to_owned()) } else { Ok(text.to_owned()) }
}

/// `1000`, `1MB`, `5s`, or some of them.
fn batch(text: &str) -> Result<Batch, String> {
    #[cfg(feature = "ship")]
    read::<flowcore::ship::BatchLimits>(text)?;
    Ok(Batch(text.to_owned()))
}

/// A size that a spool can have.
fn spool_size(text: &str) -> Result<u64, String> {
    let bytes = size(text)?;
    if bytes < MIN_BYTES { Err(format!("at least {MIN_BYTES} bytes are needed")) } else { Ok(bytes) }
}

#[cfg(all(test, feature = "ship"))]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        let fault = |to: &str| OutputKeys::plain(to).fault().map(|(key, _)| key);
        for right in ["-", "x-%H.jsonl", "https://a.example/x@y", "unix:///run/a@b", "syslog+tls://h:6514"] {
            assert_eq!(fault(right), None, "{right}");
        }
        for wrong in ["ftp://a/", "https://", "x-%Q.jsonl", "x.parquet"] {
            assert_eq!(fault(wrong), Some("to"), "{wrong}");
        }
        let (key, what) = OutputKeys::plain("https://me:secret@a.example/").fault().unwrap();
        assert!(key == "to" && !what.contains("secret"), "{what}");
        let mut half = OutputKeys::plain("https://a.example/");
        half.server.client_cert = Some("c.pem".to_owned());
        assert_eq!(half.fault().map(|(key, _)| key), Some("client_cert"));
        let csv = OutputKeys { format: Some(Format::Csv), ..OutputKeys::plain("https://a/") };
        assert_eq!(csv.fault().map(|(key, _)| key), Some("format"));
    }
}
