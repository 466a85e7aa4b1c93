//! `start`: asks the service manager; a configuration that the node would refuse is refused here.

use node_config::Environment;
use service::action::{self, Action};

pub(super) use super::service_manager::Arguments;
use super::service_manager::{act, check_configuration, print};
use crate::exit::{Exit, Failure};

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let action = Action::Start;
    if let Some(refusal) = check_configuration(action, arguments.system, environment) {
        return print(&refusal, arguments.json);
    }
    act(arguments, environment, action::start)
}
