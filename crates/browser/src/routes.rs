//! Which route a request is for. What is not here answers 404, as an unknown route.

pub mod status;
pub mod tabs;

use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::browser::Browser;
use crate::browser::live::Live;
use crate::control::Control;
use crate::request::{Method, Reply, Request, RouteError};
use crate::tab::Tab;
use crate::{act, snapshot};

/// The page that a request is about.
#[derive(Debug, Clone)]
pub struct Page {
    /// The profile's browser.
    pub browser: Rc<Browser>,
    /// Its running instance.
    pub live: Rc<Live>,
    /// The page.
    pub tab: Rc<Tab>,
}

impl Page {
    /// The page that the request names, attached to; the browser is started if it does not run.
    ///
    /// # Errors
    /// What keeps the page from being reached.
    pub async fn of(browser: &Rc<Browser>, request: &Request) -> Result<Self, RouteError> {
        let (live, tab) = browser.page(request.target()).await?;
        Ok(Self {
            browser: Rc::clone(browser),
            live,
            tab,
        })
    }

    /// `{ok, targetId, url}` and whatever the route adds.
    #[must_use]
    pub fn answer(&self, more: Value) -> Value {
        let url = self.tab.url();
        self.answer_at(&url, more)
    }

    /// The same, where the page has been elsewhere when it mattered.
    #[must_use]
    pub fn answer_at(&self, url: &str, more: Value) -> Value {
        let mut answer = Map::new();
        answer.insert("ok".to_owned(), true.into());
        answer.insert("targetId".to_owned(), self.tab.target_id().into());
        answer.insert("url".to_owned(), url.into());
        if let Value::Object(more) = more {
            answer.extend(more);
        }
        Value::Object(answer)
    }

    /// `{ok, targetId}`.
    #[must_use]
    pub fn done(&self) -> Value {
        json!({"ok": true, "targetId": self.tab.target_id()})
    }
}

/// Carries a request out.
///
/// # Errors
/// The route's.
pub async fn dispatch(control: &Control, browser: &Rc<Browser>, request: &Request) -> Reply {
    let path: Vec<&str> = request.path.split('/').skip(1).collect();
    match (request.method, path.as_slice()) {
        (Method::Get, [""]) => Ok(status::status(browser).await),
        (Method::Get, ["profiles"]) => status::profiles(control).await,
        (Method::Post, ["start"]) => status::start(browser, request).await,
        (Method::Post, ["stop"]) => Ok(status::stop(browser).await),
        (Method::Get, ["tabs"]) => tabs::list(browser).await,
        (Method::Post, ["tabs", "open"]) => tabs::open(browser, request).await,
        (Method::Get, ["snapshot"]) => {
            snapshot::snapshot(&Page::of(browser, request).await?, request).await
        }
        (Method::Post, ["act"]) => act::act(browser, request).await,
        _ => Err(RouteError::not_found("Not Found")),
    }
}
