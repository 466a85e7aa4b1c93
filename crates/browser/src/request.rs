//! A request to a route and its answer.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::cdp::CdpError;
use crate::coerce;
use crate::proxy::upload::Staged;

/// What a route can be asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Do.
    Post,
    /// Close.
    Delete,
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        })
    }
}

/// One request, parsed as far as the envelope goes; routes parse the rest.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// With a leading slash and without a trailing one.
    pub path: String,
    /// Every value as text.
    pub query: Map<String, Value>,
    /// Empty where the body is no object.
    pub body: Map<String, Value>,
    /// How long the gateway waits.
    pub timeout: Duration,
    /// The files that came with it; dropped, and so removed, unless a page takes them.
    pub upload: Option<Rc<Staged>>,
}

impl Request {
    /// A query value without surrounding white space; a blank one is absent.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        trimmed(self.query.get(name))
    }

    /// A text member of the body without surrounding white space; a blank one is absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        trimmed(self.body.get(name))
    }

    /// A boolean member of the body. The words of a form count too: `"true"`, `"1"`, `"yes"`.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        to_flag(self.body.get(name)?)
    }

    /// A boolean in the query.
    #[must_use]
    pub fn query_flag(&self, name: &str) -> Option<bool> {
        to_flag(self.query.get(name)?)
    }

    /// A finite number in the body, which may be written as text.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        coerce::number(self.body.get(name))
    }

    /// A finite number in the query.
    #[must_use]
    pub fn query_number(&self, name: &str) -> Option<f64> {
        coerce::number(self.query.get(name))
    }

    /// `timeoutMs` of the body, kept within bounds.
    #[must_use]
    pub fn timeout_within(&self, default: Duration, least: Duration, most: Duration) -> Duration {
        self.number("timeoutMs")
            .filter(|millis| *millis > 0.0)
            .and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok())
            .unwrap_or(default)
            .clamp(least, most)
    }

    /// The tab that is meant, in the body of a POST and in the query otherwise.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        match self.method {
            Method::Post => self.text("targetId"),
            Method::Get | Method::Delete => self.query("targetId"),
        }
    }
}

/// A text without surrounding white space; a blank one is absent.
pub(crate) fn trimmed(value: Option<&Value>) -> Option<&str> {
    let text = value?.as_str()?.trim();
    (!text.is_empty()).then_some(text)
}

fn to_flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Codes of failed acts that the gateway knows (browser proxy §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActCode {
    /// `kind` is missing or unknown.
    KindRequired,
    /// A member is missing or wrong.
    InvalidRequest,
    /// A selector where only a ref is taken.
    SelectorUnsupported,
    /// Scripts are switched off.
    EvaluateDisabled,
    /// An act in a batch names another tab.
    TargetIdMismatch,
    /// The element does not let it be done.
    OperationFailed,
}

impl ActCode {
    /// The code on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KindRequired => "ACT_KIND_REQUIRED",
            Self::InvalidRequest => "ACT_INVALID_REQUEST",
            Self::SelectorUnsupported => "ACT_SELECTOR_UNSUPPORTED",
            Self::EvaluateDisabled => "ACT_EVALUATE_DISABLED",
            Self::TargetIdMismatch => "ACT_TARGET_ID_MISMATCH",
            Self::OperationFailed => "ACT_OPERATION_FAILED",
        }
    }
}

/// Why a route refused, beyond its text (browser proxy §1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The navigation guard.
    NavigationBlocked,
    /// A window was asked for, but there is no display.
    NoDisplay {
        /// The profile.
        profile: String,
        /// What asked for the window.
        headless_source: &'static str,
    },
}

/// A route's refusal or failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct RouteError {
    /// As in HTTP.
    pub status: u16,
    /// What the agent reads.
    pub message: String,
    /// The act's code.
    pub code: Option<ActCode>,
    /// What else the gateway may know.
    pub reason: Option<Reason>,
}

impl RouteError {
    /// A refusal with a status of its own.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code: None,
            reason: None,
        }
    }

    /// The request is wrong.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    /// The browser is not in the state for it.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    /// It went wrong; the text says `Error: ` before the reason, as upstream's does.
    #[must_use]
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(500, format!("Error: {message}"))
    }

    /// An act that is refused or failed.
    #[must_use]
    pub fn act(status: u16, code: ActCode, message: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            ..Self::new(status, message)
        }
    }

    /// The navigation guard says no.
    #[must_use]
    pub fn navigation_blocked(message: impl Into<String>) -> Self {
        Self {
            reason: Some(Reason::NavigationBlocked),
            ..Self::new(400, message)
        }
    }
}

impl From<CdpError> for RouteError {
    fn from(error: CdpError) -> Self {
        Self::failed(error)
    }
}

/// What a route answers.
pub type Reply = Result<Value, RouteError>;
