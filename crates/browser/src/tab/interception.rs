//! Requests that are held until they are looked at: documents where navigation is guarded, and
//! everything where a page was given credentials.

use std::rc::{Rc, Weak};

use serde_json::{Value, json};
use tracing::debug;

use super::{Tab, text};
use crate::cdp::{CdpError, Session};
use crate::navigation::Policy;

/// How many authenticated requests are remembered.
const TOLD: usize = 64;

/// What is looked at.
#[derive(Debug, Default)]
pub struct Interception {
    /// Where documents may come from.
    policy: Option<Rc<Policy>>,
    /// What a server that asks is told.
    credentials: Option<Credentials>,
    /// Requests that were told the credentials; asked again, they were wrong.
    told: Vec<String>,
    /// Why the last document was refused.
    pub refused: Option<String>,
}

/// A user name and a password.
#[derive(Clone)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Credentials")
            .finish_non_exhaustive()
    }
}

impl Interception {
    /// Looks at documents.
    pub fn guard(&mut self, policy: Rc<Policy>) {
        self.policy = Some(policy);
    }

    /// Answers servers that ask, or no longer does.
    pub fn authenticate(&mut self, credentials: Option<Credentials>) {
        self.credentials = credentials;
        self.told.clear();
    }

    /// Tells the browser what to hold.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn apply(tab: &Tab, session: &Session) -> Result<(), CdpError> {
        let (guards, authenticates) = {
            let state = tab.state();
            let interception = &state.interception;
            (
                interception.policy.is_some(),
                interception.credentials.is_some(),
            )
        };
        if !guards && !authenticates {
            session.call("Fetch.disable", json!({})).await?;
            return Ok(());
        }
        let patterns = if authenticates {
            json!([{"urlPattern": "*"}])
        } else {
            json!([{"urlPattern": "*", "resourceType": "Document"}])
        };
        let params = json!({"patterns": patterns, "handleAuthRequests": authenticates});
        session.call("Fetch.enable", params).await?;
        Ok(())
    }
}

/// A request is held.
pub(super) fn on_held(tab: &Rc<Tab>, session: Session, params: &Value) {
    let id = text(params, "requestId").to_owned();
    let url = params
        .pointer("/request/url")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let is_document = text(params, "resourceType") == "Document";
    let policy = tab.state().interception.policy.clone();
    let tab: Weak<Tab> = Rc::downgrade(tab);
    actix_rt::spawn(async move {
        let refused = match policy {
            Some(policy) if is_document => policy.check_place(&url).await.err(),
            Some(_) | None => None,
        };
        let answered = match refused {
            None => {
                let params = json!({"requestId": id});
                session.call("Fetch.continueRequest", params).await
            }
            Some(error) => {
                if let Some(tab) = tab.upgrade() {
                    tab.change(|state| state.interception.refused = Some(error.message));
                }
                let params = json!({"requestId": id, "errorReason": "BlockedByClient"});
                session.call("Fetch.failRequest", params).await
            }
        };
        if let Err(error) = answered {
            debug!(%error, "a held request was gone before it was answered");
        }
    });
}

/// A server asks who it is.
pub(super) fn on_auth_required(tab: &Rc<Tab>, session: Session, params: &Value) {
    let id = text(params, "requestId").to_owned();
    let is_server = params
        .pointer("/authChallenge/source")
        .and_then(Value::as_str)
        != Some("Proxy");
    let credentials = tab.change(|state| {
        let interception = &mut state.interception;
        if !is_server || interception.told.contains(&id) {
            return None;
        }
        interception.told.push(id.clone());
        let excess = interception.told.len().saturating_sub(TOLD);
        interception.told.drain(..excess);
        interception.credentials.clone()
    });
    actix_rt::spawn(async move {
        let answer = match credentials {
            Some(credentials) => json!({
                "response": "ProvideCredentials",
                "username": credentials.username,
                "password": credentials.password,
            }),
            None => json!({"response": "CancelAuth"}),
        };
        let params = json!({"requestId": id, "authChallengeResponse": answer});
        if let Err(error) = session.call("Fetch.continueWithAuth", params).await {
            debug!(%error, "a request was gone before it was authenticated");
        }
    });
}
