//! `identity`: who this node is.
//!
//! A gateway runs `openclaw node identity --json` over SSH to approve pairing by itself, so the
//! output is byte for byte upstream's, and nothing is ever created (CLI §1.2).

use clap::Args;
use node_config::{Environment, Paths};
use serde::Serialize;
use state::Database;

use super::output;
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    device_id: &'a str,
    public_key: &'a str,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let paths = Paths::from_environment(environment).map_err(Failure::new)?;
    let stored = match Database::open_read_only(&paths.state_dir)? {
        Some(database) => database.identity()?,
        None => None,
    };
    let Some(stored) = stored else {
        return Err(Failure::new(
            "no node device identity found (start the node host once with `openclaw node run` or `openclaw node install`)",
        ));
    };
    let device_id = stored.identity.device_id().as_str();
    let public_key = stored.identity.public_key();
    if arguments.json {
        output::json_line(&Identity {
            device_id,
            public_key: &public_key,
        })
        .map_err(Failure::new)?;
    } else {
        output::line(format_args!("deviceId:  {device_id}"));
        output::line(format_args!("publicKey: {public_key}"));
    }
    Ok(Exit::Done)
}
