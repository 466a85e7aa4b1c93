//! `stop`: asks the service manager. It works whatever openclaw.json says, unlike upstream's.

use node_config::Environment;
use service::action;

pub(super) use super::service_manager::Arguments;
use super::service_manager::act;
use crate::exit::{Exit, Failure};

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    act(arguments, environment, action::stop)
}
