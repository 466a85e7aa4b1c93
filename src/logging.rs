//! Logs go to standard error, beside the operator lines that are written word for word.

use node_config::Environment;
use tracing_subscriber::EnvFilter;

/// The variable that sets what is logged, in the syntax of `tracing_subscriber`'s `EnvFilter`.
const FILTER_VARIABLE: &str = "OPENCLAW_NODE_LOG";
/// What is logged unless told otherwise.
const DEFAULT_FILTER: &str = "warn,openclaw_node=info,openclaw_node_actors=info";

/// Starts logging.
pub(crate) fn start(environment: &Environment) {
    let directives = environment.text(FILTER_VARIABLE).unwrap_or(DEFAULT_FILTER);
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(directives))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
