//! Logs go to standard error, beside the operator lines that are written word for word.

use node_config::Environment;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The variable that sets what is logged: `level` or `module=level`, separated by commas.
const FILTER_VARIABLE: &str = "OPENCLAW_NODE_LOG";
/// What is logged unless told otherwise.
const DEFAULT_FILTER: &str = "warn,openclaw_node=info,openclaw_node_actors=info";

/// Starts logging. A filter that makes no sense is reported and replaced by the default.
pub(crate) fn start(environment: &Environment) {
    let given = environment.text(FILTER_VARIABLE).map(str::parse::<Targets>);
    let misunderstood = matches!(given, Some(Err(_)));
    let filter = given
        .and_then(Result::ok)
        .or_else(|| DEFAULT_FILTER.parse().ok())
        .unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
    if misunderstood {
        tracing::warn!(
            default = DEFAULT_FILTER,
            "{FILTER_VARIABLE} is not understood; write it like warn,openclaw_node_actors=debug"
        );
    }
}
