//! `approvals set`: another document in place of the stored one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use approvals::edit::refuse_unknown_words;
use clap::Args;
use node_config::parse_json5;
use serde_json::Value;

use super::keeper::{Keeper, new_id, set_params};
use crate::exit::{Exit, Failure};

/// The largest document that is read, in bytes: what fits into one frame of a gateway (wire
/// protocol §2).
const LIMIT_BYTES: u64 = 25 * 1024 * 1024;

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "source")]
struct Source {
    /// Read the document, JSON5, from this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Read the document, JSON5, from standard input
    #[arg(long)]
    stdin: bool,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Replace only the document with this hash, as `approvals get` shows it
    #[arg(long, value_name = "HASH")]
    base_hash: Option<String>,
    /// Print the stored document as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, keeper: &Keeper) -> Result<Exit, Failure> {
    let (name, text) = match &arguments.source.file {
        Some(file) => (file.display().to_string(), read_file(file)),
        None => ("standard input".to_owned(), read(io::stdin().lock())),
    };
    let text = text.map_err(|error| Failure::new(format_args!("cannot read {name}: {error}")))?;
    let file = parse_json5(&text)
        .map_err(|error| Failure::new(format_args!("{name} is no approvals document: {error}")))?;
    let Value::Object(members) = &file else {
        return Err(Failure::new(format_args!(
            "{name} is no approvals document: it must be an object, as `approvals get --json` shows under file"
        )));
    };
    refuse_unknown_words(members).map_err(Failure::new)?;
    let stored = keeper.replace(|stored| {
        let present = stored.revision(keeper.config());
        let base_hash = arguments.base_hash.as_deref().unwrap_or(&present);
        let params = set_params(&file, base_hash);
        let replacement = stored
            .replace(&params, keeper.config(), &mut new_id)
            .map_err(|error| Failure::new(error.reason()))?;
        match replacement.stored.error() {
            // A gateway may lock a node like this; whoever sits before it wants to hear of it.
            Some(error) => Err(Failure::new(error)),
            None => Ok(replacement),
        }
    })?;
    keeper.report(&stored, arguments.json, "approvals document stored")
}

fn read_file(file: &Path) -> io::Result<String> {
    read(File::open(file)?)
}

fn read(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    source.take(LIMIT_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT_BYTES {
        return Err(io::Error::other(format!(
            "it is larger than {LIMIT_BYTES} bytes"
        )));
    }
    Ok(text)
}
