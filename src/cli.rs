//! The command line: which command was meant, and how a wrong one is answered.

mod approvals;
mod auth;
mod clock;
mod command_arguments;
mod demo;
mod dev_gateway;
mod endpoint_arguments;
mod identity;
mod import;
mod install;
mod life;
mod live_status;
mod output;
mod pin;
mod restart;
mod route;
mod run;
mod service_manager;
mod setup;
mod start;
mod status;
mod stop;
mod uninstall;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use node_config::Environment;

pub(crate) use self::output::complain;
use crate::exit::{Exit, Failure};
use crate::logging::{self, LogOptions};

/// The OpenClaw node host as a native, supervised service
#[derive(Debug, Parser)]
#[command(
    name = "openclaw-node",
    version,
    disable_help_subcommand = true,
    after_help = "A leading word `node` is accepted and ignored, so a symlink named `openclaw` to this program answers `openclaw node …`."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect to a gateway and run what it asks for, in the foreground
    Run(run::Arguments),
    /// Install the node as a service that starts by itself, and start it
    Install(install::Arguments),
    /// Show the service, and the node in it
    Status(status::Arguments),
    /// Start the installed service
    Start(start::Arguments),
    /// Stop the service until it is started again
    Stop(stop::Arguments),
    /// Stop the service and start it again
    Restart(restart::Arguments),
    /// Stop the service and remove it; who this node is stays
    Uninstall(uninstall::Arguments),
    /// Print this node's device id and public key; never creates one
    Identity(identity::Arguments),
    /// Explain which credentials this node presents to its gateway
    Auth(auth::Arguments),
    /// Take over upstream's node host of this machine: identity, device token, gateway, approvals
    ///
    /// The gateway then sees the same device, so nothing has to be paired or approved again. The old
    /// state folder is only read. `run` does the same by itself at its first start.
    Import(import::Arguments),
    /// Print the fingerprint of a gateway's certificate, to compare it on the gateway's machine
    ///
    /// Nothing is sent to the gateway. Once the fingerprint is the right one, `run --tls-fingerprint`
    /// accepts this certificate and no other.
    Pin(pin::Arguments),
    /// See, change and explain what this machine lets gateways run
    Approvals(approvals::Arguments),
    /// Show a whole life of a node against a gateway of its own, then clean up
    Demo(demo::Arguments),
    /// Run a loopback gateway for development, or act as its operator
    DevGateway(dev_gateway::Arguments),
}

/// Runs the command that `arguments` names.
pub(crate) fn main(arguments: Vec<OsString>, environment: &Environment) -> ExitCode {
    let matches = match Cli::command().try_get_matches_from(without_node_word(arguments)) {
        Ok(matches) => matches,
        Err(error) => return refuse(&error, environment).into(),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, environment).into(),
    };
    // What a node says has to be where its log is; other commands answer whoever typed them.
    let (log_options, report): (_, fn(&Failure)) = match &cli.command {
        Command::Run(arguments) => (arguments.log_options(), |failure| logging::say(failure)),
        _ => (LogOptions::default(), |failure| complain(failure)),
    };
    logging::start(environment, &log_options);
    let ended = match cli.command {
        Command::Run(arguments) => run::run(&arguments, environment),
        Command::Install(arguments) => install::run(&arguments, environment),
        Command::Status(arguments) => status::run(&arguments, environment),
        Command::Start(arguments) => start::run(&arguments, environment),
        Command::Stop(arguments) => stop::run(&arguments, environment),
        Command::Restart(arguments) => restart::run(&arguments, environment),
        Command::Uninstall(arguments) => uninstall::run(&arguments, environment),
        Command::Identity(arguments) => identity::run(&arguments, environment),
        Command::Auth(arguments) => auth::run(&arguments, environment),
        Command::Import(arguments) => import::run(&arguments, environment),
        Command::Pin(arguments) => pin::run(&arguments, environment),
        Command::Approvals(arguments) => approvals::run(&arguments, environment),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::DevGateway(arguments) => dev_gateway::run(&arguments, environment),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            report(&failure);
            failure.exit.into()
        }
    }
}

/// Drops the word that upstream's own command line has before ours.
fn without_node_word(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|word| word == "node") {
        arguments.remove(1);
    }
    arguments
}

/// Answers arguments that make no command. Help and the version are no errors.
fn refuse(error: &clap::Error, environment: &Environment) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&error.render().to_string());
            Exit::Done
        }
        ErrorKind::UnknownArgument => {
            let failure = Failure::usage(unknown_option(error), environment);
            complain(&failure);
            failure.exit
        }
        _ => {
            let failure = Failure::usage(error.render().to_string().trim_end(), environment);
            complain(&failure);
            failure.exit
        }
    }
}

/// Upstream's words for an option that does not exist.
fn unknown_option(error: &clap::Error) -> String {
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => option.as_str(),
        _ => "",
    };
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    // The usage line names the command as far as it was understood.
    let command = usage
        .trim_start_matches("Usage:")
        .split_whitespace()
        .skip(1)
        .take_while(|word| !word.starts_with(['-', '[', '<']))
        .fold(String::from("openclaw node"), |line, word| {
            line + " " + word
        });
    format!("OpenClaw does not recognize option \"{option}\".\nTry: {command} --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_leading_node_word_is_ignored_once() {
        assert_eq!(
            without_node_word(words(&["openclaw", "node", "run"])),
            words(&["openclaw", "run"])
        );
        assert_eq!(
            without_node_word(words(&["openclaw-node", "run", "node"])),
            words(&["openclaw-node", "run", "node"])
        );
    }

    #[test]
    fn an_unknown_option_is_refused_in_upstreams_words() {
        let error = Cli::command()
            .try_get_matches_from(["openclaw-node", "run", "--bogus"])
            .unwrap_err();
        assert_eq!(
            unknown_option(&error),
            "OpenClaw does not recognize option \"--bogus\".\nTry: openclaw node run --help"
        );
    }
}
