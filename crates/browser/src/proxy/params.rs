//! The params of a command (browser proxy §1.2).

use std::time::Duration;

use serde_json::{Map, Value};

use super::{CommandError, ProxyCommand};
use crate::request::{Method, Request, trimmed};

/// How long a route may take unless the gateway says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that a gateway can ask for, in milliseconds.
const MAX_TIMEOUT_MS: f64 = 2_147_000_000.0;
/// The one route that takes uploads.
const FILE_CHOOSER: &str = "/hooks/file-chooser";

/// How route errors are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorEnvelope {
    /// They fail the command, as 2026.5.20 expects.
    None,
    /// They are a result of their own.
    BrowserV1,
}

/// A decoded command.
#[derive(Debug)]
pub struct Call {
    /// What the route is asked.
    pub asked: Asked,
    /// The profile that counts if neither query nor body names one.
    pub profile: Option<String>,
    /// How route errors are answered.
    pub envelope: ErrorEnvelope,
    /// The files of an upload, undecoded.
    pub upload: Option<Value>,
}

/// A request to a route, not looked at more closely than uploads need it.
#[derive(Debug)]
pub struct Asked {
    method: String,
    path: String,
    query: Map<String, Value>,
    body: Map<String, Value>,
    timeout: Duration,
}

impl Call {
    /// Decodes the params and checks that they go with the command.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn decode(command: ProxyCommand, params: Option<&str>) -> Result<Self, CommandError> {
        let Some(params) = params else {
            return Err(CommandError::invalid("paramsJSON required"));
        };
        let mut members = match serde_json::from_str(params) {
            Ok(Value::Object(members)) => members,
            Ok(_) => Map::new(),
            Err(error) => {
                return Err(CommandError::invalid(format_args!(
                    "malformed paramsJSON: {error}"
                )));
            }
        };
        // Bodies and uploads can be large, so they are moved.
        let mut object = |name: &str| match members.remove(name) {
            Some(Value::Object(object)) => object,
            Some(_) | None => Map::new(),
        };
        let (query, body) = (object("query"), object("body"));
        let upload = members.remove("upload").filter(|upload| !upload.is_null());
        let text = |name: &str| trimmed(members.get(name));
        let call = Self {
            asked: Asked {
                method: text("method").unwrap_or("GET").to_ascii_uppercase(),
                path: text("path").map(normal_path).unwrap_or_default(),
                query: query
                    .into_iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(name, value)| (name, Value::from(as_js_text(&value))))
                    .collect(),
                body,
                timeout: timeout(members.get("timeoutMs")),
            },
            profile: text("profile").map(str::to_owned),
            envelope: match text("errorEnvelope") {
                Some("browser-v1") => ErrorEnvelope::BrowserV1,
                Some(_) | None => ErrorEnvelope::None,
            },
            upload,
        };
        call.check_upload(command)?;
        Ok(call)
    }

    fn check_upload(&self, command: ProxyCommand) -> Result<(), CommandError> {
        match (command, &self.upload) {
            (ProxyCommand::Proxy, None) => Ok(()),
            (ProxyCommand::Proxy, Some(_)) => Err(CommandError::invalid(
                "browser.proxy does not accept upload envelopes",
            )),
            (ProxyCommand::UploadV1, None) => Err(CommandError::invalid(
                "browser.proxy.upload.v1 requires an upload envelope",
            )),
            (ProxyCommand::UploadV1, Some(_)) => {
                if self.asked.method != "POST" || self.asked.path != FILE_CHOOSER {
                    return Err(CommandError::invalid(
                        "browser proxy upload requires the file chooser route",
                    ));
                }
                if self.asked.body.contains_key("paths") {
                    return Err(CommandError::invalid(
                        "browser proxy upload body must omit paths",
                    ));
                }
                Ok(())
            }
        }
    }
}

impl Asked {
    /// The request to the route.
    ///
    /// # Errors
    /// No path, or a method that routes do not have.
    pub fn into_request(self) -> Result<Request, CommandError> {
        if self.path.is_empty() {
            return Err(CommandError::invalid("path required"));
        }
        let method = match self.method.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            _ => {
                return Err(CommandError::invalid("method must be GET, POST, or DELETE"));
            }
        };
        Ok(Request {
            method,
            path: self.path,
            query: self.query,
            body: self.body,
            timeout: self.timeout,
            upload: None,
        })
    }
}

/// A leading slash is added, trailing ones are taken away.
fn normal_path(path: &str) -> String {
    let trimmed = path.trim_matches('/');
    format!("/{trimmed}")
}

fn timeout(value: Option<&Value>) -> Duration {
    value
        .and_then(Value::as_f64)
        .filter(|millis| *millis > 0.0)
        .map(|millis| millis.min(MAX_TIMEOUT_MS).floor().max(1.0))
        .and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok())
        .unwrap_or(DEFAULT_TIMEOUT)
}

/// A query value as JavaScript writes it.
fn as_js_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::Null => String::new(),
                item => as_js_text(item),
            })
            .collect::<Vec<_>>()
            .join(","),
        Value::Object(_) => "[object Object]".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(params: Value) -> Result<Call, CommandError> {
        Call::decode(ProxyCommand::Proxy, Some(&params.to_string()))
    }

    #[test]
    fn a_path_is_brought_into_one_form() {
        for (given, expected) in [
            ("/tabs", "/tabs"),
            ("tabs/", "/tabs"),
            (" /act ", "/act"),
            ("/", "/"),
        ] {
            let call = decode(json!({"path": given})).unwrap();
            let request = call.asked.into_request().unwrap();
            assert_eq!(request.path, expected);
        }
        let call = decode(json!({"path": "  "})).unwrap();
        assert_eq!(
            call.asked.into_request().unwrap_err().to_string(),
            "INVALID_REQUEST: path required"
        );
    }

    #[test]
    fn query_values_are_text_as_javascript_writes_it() {
        let query = json!({"a": 1, "b": 1.5, "c": true, "d": null, "e": ["x", 2], "f": {}});
        let call = decode(json!({"path": "/", "query": query})).unwrap();
        assert_eq!(
            Value::Object(call.asked.query),
            json!({"a": "1", "b": "1.5", "c": "true", "e": "x,2", "f": "[object Object]"})
        );
    }

    #[test]
    fn a_timeout_is_positive_and_bounded() {
        for (given, expected_ms) in [
            (json!(null), 20_000),
            (json!(500), 500),
            (json!(-1), 20_000),
            (json!("7"), 20_000),
            (json!(0.5), 1),
            (json!(1e300), 2_147_000_000),
        ] {
            let call = decode(json!({"path": "/", "timeoutMs": given})).unwrap();
            assert_eq!(call.asked.timeout.as_millis(), expected_ms, "{given}");
        }
    }

    #[test]
    fn an_upload_goes_with_its_command_and_route_alone() {
        let upload = json!({"envelope": "browser-upload-v1", "files": []});
        let chooser = json!({"method": "POST", "path": "/hooks/file-chooser", "upload": upload});
        let decode = |command, params: &Value| Call::decode(command, Some(&params.to_string()));
        assert!(decode(ProxyCommand::UploadV1, &chooser).is_ok());
        assert!(decode(ProxyCommand::Proxy, &chooser).is_err());
        let mut other = chooser.clone();
        other["path"] = "/act".into();
        assert!(decode(ProxyCommand::UploadV1, &other).is_err());
        let mut paths = chooser;
        paths["body"] = json!({"paths": []});
        assert!(decode(ProxyCommand::UploadV1, &paths).is_err());
    }
}
