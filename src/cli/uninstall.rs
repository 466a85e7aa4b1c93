//! `uninstall`: removes what `install` wrote. The state stays: it holds who this node is.

use node_config::Environment;
use service::action::{self, Action, Report};

pub(super) use super::service_manager::Arguments;
use super::service_manager::{act, print};
use crate::exit::{Exit, Failure};

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    if super::install::is_nix_mode(environment) {
        let refusal = "Nix mode detected; service uninstall is disabled.";
        return print(&Report::failed(Action::Uninstall, refusal), arguments.json);
    }
    act(arguments, environment, action::uninstall)
}
