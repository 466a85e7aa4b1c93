//! Logs: operator lines word for word, and events with fields beside them.
//!
//! Where they go is decided once, at the start: to the journal when the service manager reads
//! standard error, else to standard error, or to a file that is rotated by size. Writing never waits
//! for a reader: the thread that writes is the one that answers the gateway's pings.

mod journald;
mod record;
mod rotating_file;
mod stderr;
mod throttle;

use std::path::PathBuf;

use clap::ValueEnum;
use node_config::Environment;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use self::journald::Journal;
use self::record::Record;
use self::rotating_file::RotatingFile;
use self::stderr::Stderr;
use self::throttle::Throttle;
use crate::exit::Failure;

/// The variable that sets what is logged: `level` or `module=level`, separated by commas.
const FILTER_VARIABLE: &str = "OPENCLAW_NODE_LOG";
/// What is logged unless told otherwise.
const DEFAULT_FILTER: &str = "warn,openclaw_node=info,openclaw_node_actors=info";

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object per line
    Json,
    /// Lines for people
    Text,
    /// The journal's own protocol, with fields
    Journald,
}

/// What a command says about its logs.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogOptions {
    /// How to write them; by default for the journal, if the service manager reads them, else for
    /// people.
    pub(crate) format: Option<LogFormat>,
    /// A file to write them to instead of standard error.
    pub(crate) file: Option<PathBuf>,
}

/// Where lines go.
enum Sink {
    Stderr(Stderr),
    File(RotatingFile),
}

impl Sink {
    fn write(&self, line: &str) {
        match self {
            Self::Stderr(stderr) => stderr.write(line),
            Self::File(file) => file.write(line),
        }
    }
}

/// How records leave the process.
enum Output {
    Json(Sink),
    Text(Sink),
    /// The sink is for the time when the journal does not listen.
    Journald(Journal, Sink),
}

impl Output {
    fn write(&self, record: &Record) {
        match self {
            Self::Json(sink) => sink.write(&record.json()),
            Self::Text(sink) => sink.write(&record.text()),
            Self::Journald(journal, sink) => {
                if !journal.send(record) {
                    sink.write(&format!("<{}>{}", record.priority(), record.text()));
                }
            }
        }
    }
}

struct Log {
    output: Output,
    throttle: Throttle,
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(left_out) = self.throttle.admit(event.metadata()) {
            self.output.write(&Record::of(event, left_out));
        }
    }
}

/// Starts logging. A filter that makes no sense is reported and replaced by the default.
pub(crate) fn start(environment: &Environment, options: &LogOptions) {
    let given = environment.text(FILTER_VARIABLE).map(str::parse::<Targets>);
    let misunderstood = matches!(given, Some(Err(_)));
    let filter = given
        .and_then(Result::ok)
        .or_else(|| DEFAULT_FILTER.parse().ok())
        .unwrap_or_default()
        .with_target(actors::OPERATOR_LINES, LevelFilter::INFO);
    let (output, trouble) = open(environment, options);
    let log = Log {
        output,
        throttle: Throttle::default(),
    };
    tracing_subscriber::registry().with(log).with(filter).init();
    if misunderstood {
        tracing::warn!(
            default = DEFAULT_FILTER,
            "{FILTER_VARIABLE} is not understood; write it like warn,openclaw_node_actors=debug"
        );
    }
    if let Some(trouble) = trouble {
        tracing::warn!("{trouble}");
    }
}

/// Says why the node does not run, word for word where logs are lines.
pub(crate) fn say(failure: &Failure) {
    tracing::error!(target: actors::OPERATOR_LINES, "{failure}");
}

/// The output that was asked for, and what went wrong with it.
fn open(environment: &Environment, options: &LogOptions) -> (Output, Option<String>) {
    let (sink, mut trouble) = match options.file.as_ref().map(RotatingFile::open) {
        None => (Sink::Stderr(Stderr::default()), None),
        Some(Ok(file)) => (Sink::File(file), None),
        Some(Err(error)) => {
            let trouble = format!("{error}; logs go to standard error");
            (Sink::Stderr(Stderr::default()), Some(trouble))
        }
    };
    let by_default = match (&sink, environment.text("JOURNAL_STREAM")) {
        (Sink::Stderr(_), Some(stream)) if journald::is_stderr(stream) => LogFormat::Journald,
        _ => LogFormat::Text,
    };
    let output = match options.format.unwrap_or(by_default) {
        LogFormat::Json => Output::Json(sink),
        LogFormat::Text => Output::Text(sink),
        LogFormat::Journald => match Journal::connect(environment) {
            Ok(journal) => Output::Journald(journal, sink),
            Err(error) => {
                trouble = Some(format!("the journal cannot be reached: {error}"));
                Output::Text(sink)
            }
        },
    };
    (output, trouble)
}
