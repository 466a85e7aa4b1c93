//! Which route a request is for. What is not here answers 404, as an unknown route.

pub mod capture;
pub mod devices;
pub mod doctor;
pub mod downloads;
pub mod emulation;
pub mod hooks;
pub mod navigate;
pub mod observe;
pub mod paths;
pub mod response_body;
pub mod status;
pub mod storage;
pub mod tabs;
pub mod trace;

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
    /// The page that the request names, attached to; the browser is started if it does not run. A
    /// page that is where it may not be can be resized and closed, and nothing else.
    ///
    /// # Errors
    /// What keeps the page from being reached.
    pub async fn of(browser: &Rc<Browser>, request: &Request) -> Result<Self, RouteError> {
        let page = Self::anywhere(browser, request).await?;
        let is_harmless =
            request.path == "/act" && matches!(request.text("kind"), Some("resize" | "close"));
        if !is_harmless {
            browser.policy().check_place(&page.tab.url()).await?;
        }
        Ok(page)
    }

    /// The same, wherever the page is.
    ///
    /// # Errors
    /// What keeps the page from being reached.
    pub async fn anywhere(browser: &Rc<Browser>, request: &Request) -> Result<Self, RouteError> {
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
    match request.method {
        Method::Get => get(control, browser, request, &path).await,
        Method::Post => post(browser, request, &path).await,
        Method::Delete => match path.as_slice() {
            ["tabs", target] => tabs::close(browser, request, target).await,
            _ => Err(unknown()),
        },
    }
}

fn unknown() -> RouteError {
    RouteError::not_found("Not Found")
}

async fn get(control: &Control, browser: &Rc<Browser>, request: &Request, path: &[&str]) -> Reply {
    match path {
        [""] => Ok(status::status(browser).await),
        ["profiles"] => status::profiles(control).await,
        ["doctor"] => doctor::doctor(browser, request).await,
        ["tabs"] => tabs::list(browser).await,
        ["snapshot"] => {
            let page = Page::of(browser, request).await?;
            snapshot::snapshot(&page, request).await
        }
        ["console"] => observe::console(&Page::of(browser, request).await?, request),
        ["errors"] => observe::errors(&Page::of(browser, request).await?, request),
        ["requests"] => observe::requests(&Page::of(browser, request).await?, request),
        ["text"] => observe::text(&Page::of(browser, request).await?, request).await,
        ["dialogs"] => Ok(hooks::dialogs(&Page::of(browser, request).await?)),
        ["cookies"] => storage::cookies(&Page::of(browser, request).await?).await,
        ["storage", kind] => storage::read(browser, request, kind).await,
        _ => Err(unknown()),
    }
}

async fn post(browser: &Rc<Browser>, request: &Request, path: &[&str]) -> Reply {
    match path {
        ["start"] => status::start(browser, request).await,
        ["stop"] => Ok(status::stop(browser).await),
        ["tabs", "open"] => tabs::open(browser, request).await,
        ["tabs", "focus"] => tabs::focus(browser, request).await,
        ["tabs", "action"] => tabs::action(browser, request).await,
        ["act"] => act::act(browser, request).await,
        ["navigate"] => navigate::navigate(browser, request).await,
        ["screenshot"] => capture::screenshot(browser, request).await,
        ["pdf"] => capture::pdf(&Page::of(browser, request).await?).await,
        ["highlight"] => capture::highlight(browser, request).await,
        ["download"] => downloads::download(browser, request).await,
        ["wait", "download"] => downloads::wait(browser, request).await,
        ["hooks", "dialog"] => hooks::dialog(browser, request).await,
        ["hooks", "file-chooser"] => hooks::file_chooser(browser, request).await,
        ["cookies", "set"] => storage::set_cookie(browser, request).await,
        ["cookies", "set-many"] => storage::set_cookies(browser, request).await,
        ["cookies", "clear"] => storage::clear_cookies(&Page::of(browser, request).await?).await,
        ["storage", kind, "set"] => storage::write(browser, request, kind).await,
        ["storage", kind, "clear"] => storage::clear(browser, request, kind).await,
        ["set", what] => emulation::set(browser, request, what).await,
        ["permissions", "grant"] => emulation::grant(browser, request).await,
        ["response", "body"] => response_body::response_body(browser, request).await,
        ["trace", "start"] => trace::start(browser, request).await,
        ["trace", "stop"] => trace::stop(browser, request).await,
        _ => Err(unknown()),
    }
}
