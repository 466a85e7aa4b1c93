//! openclaw-node: the OpenClaw node host as a native, supervised service.

mod cli;
mod exit;
mod logging;

use std::process::ExitCode;

fn main() -> ExitCode {
    exec::allocator::return_large_blocks();
    // First of all: commands must not find a descriptor that this process was started with.
    if let Err(error) = exec::descriptors::close_inherited() {
        cli::complain(format_args!(
            "inherited descriptors cannot be closed: {error}"
        ));
        return ExitCode::FAILURE;
    }
    cli::main(
        std::env::args_os().collect(),
        &std::env::vars_os().collect(),
    )
}
