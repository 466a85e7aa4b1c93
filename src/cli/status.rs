//! `status`: the installed service as its manager sees it, and the node in it.

use clap::Args;
use node_config::Environment;
use serde::Serialize;
use service::drift::Drift;
use service::linger::Linger;
use service::status::{Inspection, ServiceStatus};

use super::{output, service_manager};
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The machine's system unit instead of this user's service
    #[arg(long)]
    system: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `--json`: upstream's member first, then ours.
#[derive(Serialize)]
struct Status<'a> {
    service: &'a ServiceStatus,
    drift: &'a [Drift],
    linger: Option<&'a Linger>,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let manager = service_manager::find(arguments.system, environment)?;
    let program = super::install::program()?;
    let inspection = Inspection::of(manager.as_ref(), &program);
    if arguments.json {
        let status = Status {
            service: &inspection.service,
            drift: &inspection.drift,
            linger: inspection.linger.as_ref(),
        };
        output::json_pretty(&status).map_err(Failure::new)?;
        return Ok(Exit::Done);
    }
    if let Some(complaint) = inspection.complaint() {
        output::complain(complaint);
    }
    for part in [
        inspection.service_lines(),
        inspection.remarks(),
        inspection.closing_lines(),
    ] {
        for line in part {
            output::line(line);
        }
    }
    Ok(Exit::Done)
}
