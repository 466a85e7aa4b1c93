//! Elements of a page by ref or selector, as objects of the browser.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cdp::{CdpError, Session};

/// Finds elements below `this`.
const FIND_ALL: &str = include_str!("selector.js");

/// Objects that the browser keeps for us until the last of them is dropped.
#[derive(Debug)]
pub(crate) struct ObjectGroup {
    session: Session,
    name: String,
}

impl ObjectGroup {
    /// A group of its own.
    pub(crate) fn new(session: &Session) -> Rc<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Rc::new(Self {
            session: session.clone(),
            name: format!("openclaw-node-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        })
    }

    /// What the browser calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for ObjectGroup {
    fn drop(&mut self) {
        let session = self.session.clone();
        let params = json!({"objectGroup": self.name});
        actix_rt::spawn(async move {
            // A session that is gone holds nothing.
            session
                .call("Runtime.releaseObjectGroup", params)
                .await
                .ok();
        });
    }
}

/// An object of a page, such as an element.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    group: Rc<ObjectGroup>,
    /// Its id in its session.
    id: String,
}

/// A script of the page failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScriptError {
    /// What it threw, as the page says it.
    #[error("{0}")]
    Thrown(String),
    /// The browser could not run it.
    #[error(transparent)]
    Cdp(#[from] CdpError),
}

impl Object {
    /// An element by the browser's id.
    ///
    /// # Errors
    /// [`CdpError`]; a refusal where the element is gone.
    pub(crate) async fn resolve(session: &Session, backend_node_id: i64) -> Result<Self, CdpError> {
        let group = ObjectGroup::new(session);
        let params = json!({"backendNodeId": backend_node_id, "objectGroup": group.name()});
        let resolved = session.call("DOM.resolveNode", params).await?;
        Self::of(group, resolved.pointer("/object/objectId"))
    }

    /// The document of the session's root frame.
    ///
    /// # Errors
    /// [`ScriptError`].
    pub(crate) async fn document(session: &Session) -> Result<Self, ScriptError> {
        let group = ObjectGroup::new(session);
        let params = json!({"expression": "document", "objectGroup": group.name()});
        let evaluated = session.call("Runtime.evaluate", params).await?;
        Ok(Self::of(group, evaluated.pointer("/result/objectId"))?)
    }

    fn of(group: Rc<ObjectGroup>, id: Option<&Value>) -> Result<Self, CdpError> {
        let id = id.and_then(Value::as_str).ok_or(CdpError::Refused {
            code: 0,
            message: "the element is gone".to_owned(),
        })?;
        Ok(Self {
            group,
            id: id.to_owned(),
        })
    }

    /// The session that it belongs to.
    pub(crate) fn session(&self) -> &Session {
        &self.group.session
    }

    /// Its id in its session.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Calls a function of our own on the object and returns its JSON value; promises are awaited.
    ///
    /// # Errors
    /// [`ScriptError`].
    pub(crate) async fn call(
        &self,
        function: &str,
        arguments: &[Value],
    ) -> Result<Value, ScriptError> {
        let answer = self.call_function(function, arguments, true).await?;
        Ok(answer
            .pointer("/result/value")
            .cloned()
            .unwrap_or(Value::Null))
    }

    /// The same for a function that returns an object.
    ///
    /// # Errors
    /// [`ScriptError`].
    pub(crate) async fn call_for_object(
        &self,
        function: &str,
        arguments: &[Value],
    ) -> Result<Option<Self>, ScriptError> {
        let answer = self.call_function(function, arguments, false).await?;
        let group = Rc::clone(&self.group);
        Ok(Self::of(group, answer.pointer("/result/objectId")).ok())
    }

    /// Calls a function of the agent, as if a user did it. What it throws is in the answer.
    ///
    /// # Errors
    /// [`CdpError`].
    pub(crate) async fn call_as_user(
        &self,
        function: &str,
        arguments: &[Value],
        deadline: Duration,
    ) -> Result<Value, CdpError> {
        let params = self.call_params(function, arguments, true, ("userGesture", true.into()));
        self.session()
            .call_within("Runtime.callFunctionOn", params, deadline)
            .await
    }

    fn call_params(
        &self,
        function: &str,
        arguments: &[Value],
        by_value: bool,
        (name, value): (&str, Value),
    ) -> Value {
        let arguments: Vec<Value> = arguments
            .iter()
            .map(|value| json!({"value": value}))
            .collect();
        json!({
            "objectId": self.id,
            "functionDeclaration": function,
            "arguments": arguments,
            "returnByValue": by_value,
            "awaitPromise": true,
            name: value,
        })
    }

    async fn call_function(
        &self,
        function: &str,
        arguments: &[Value],
        by_value: bool,
    ) -> Result<Value, ScriptError> {
        let group = ("objectGroup", self.group.name().into());
        let params = self.call_params(function, arguments, by_value, group);
        let answer = self
            .session()
            .call("Runtime.callFunctionOn", params)
            .await?;
        match thrown(&answer) {
            Some(text) => Err(ScriptError::Thrown(text)),
            None => Ok(answer),
        }
    }

    /// The elements below that a selector matches: the first one, and how many there are.
    ///
    /// # Errors
    /// [`ScriptError`], also for a selector that cannot be read.
    pub(crate) async fn find(&self, selector: &str) -> Result<(Option<Self>, u64), ScriptError> {
        let arguments = [json!(selector)];
        let Some(found) = self.call_for_object(FIND_ALL, &arguments).await? else {
            return Ok((None, 0));
        };
        let count = found.call("function () { return this.length; }", &[]);
        let first = found.call_for_object("function () { return this[0]; }", &[]);
        let (count, first) = futures_util::future::try_join(count, first).await?;
        Ok((first, count.as_u64().unwrap_or(0)))
    }

    /// The browser's description of the node: `backendNodeId`, `frameId`, `contentDocument` …
    ///
    /// # Errors
    /// [`CdpError`].
    pub(crate) async fn describe(&self) -> Result<Value, CdpError> {
        let params = json!({"objectId": self.id, "depth": 0, "pierce": true});
        let mut answer = self.session().call("DOM.describeNode", params).await?;
        Ok(answer.get_mut("node").map(Value::take).unwrap_or_default())
    }
}

/// What a script threw, if it did: its stack, or the value as text.
pub(crate) fn thrown(answer: &Value) -> Option<String> {
    let details = answer.get("exceptionDetails")?;
    let exception = details.get("exception");
    let described = exception.and_then(|exception| exception.get("description"));
    let value = exception.and_then(|exception| exception.get("value"));
    Some(match (described.and_then(Value::as_str), value) {
        (Some(description), _) => description.to_owned(),
        (None, Some(Value::String(text))) => text.clone(),
        (None, Some(value)) => value.to_string(),
        (None, None) => details
            .get("text")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    })
}
