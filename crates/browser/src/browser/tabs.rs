//! How pages are named: `t1`, `t2`, … in the order in which they appear, a label that the agent gives,
//! and the browser's own ids (browser proxy §4).

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::request::RouteError;
use crate::tab::text;

/// Pages that are the browser's own.
const INTERNAL: [&str; 6] = [
    "chrome://",
    "chrome-untrusted://",
    "devtools://",
    "edge://",
    "brave://",
    "vivaldi://",
];

/// A page as the browser lists it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The browser's id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Where it is.
    pub url: String,
    /// The page's own WebSocket.
    pub websocket: String,
}

impl Target {
    /// Reads an entry of `/json/list` or of `Target.getTargets`; `None` for what is no page.
    #[must_use]
    pub fn from_listed(entry: &Value) -> Option<Self> {
        let url = text(entry, "url");
        let is_internal =
            INTERNAL.iter().any(|prefix| url.starts_with(prefix)) || url.starts_with("opera://");
        // The browser's own first page is nowhere for a moment before it is one of the internal ones.
        let is_somewhere = !url.is_empty() && !is_internal;
        (is_page(entry) && is_somewhere).then(|| Self {
            id: id_of(entry).to_owned(),
            title: text(entry, "title").to_owned(),
            url: url.to_owned(),
            websocket: text(entry, "webSocketDebuggerUrl").to_owned(),
        })
    }
}

/// What a browser lists.
#[derive(Debug, Default)]
pub struct Listing {
    /// The pages that an agent is told of.
    pub targets: Vec<Target>,
    /// The ids of all pages, also of those that show something of the browser's, or nothing yet.
    pub pages: HashSet<String>,
}

impl Listing {
    /// Reads `/json/list` or the answer to `Target.getTargets`.
    #[must_use]
    pub fn of(entries: &[Value]) -> Self {
        Self {
            targets: entries.iter().filter_map(Target::from_listed).collect(),
            pages: entries
                .iter()
                .filter(|entry| is_page(entry))
                .map(|entry| id_of(entry).to_owned())
                .collect(),
        }
    }
}

fn id_of(entry: &Value) -> &str {
    match text(entry, "id") {
        "" => text(entry, "targetId"),
        id => id,
    }
}

fn is_page(entry: &Value) -> bool {
    text(entry, "type") == "page" && !id_of(entry).is_empty()
}

/// A page with its names.
#[derive(Debug, Clone)]
pub struct ListedTab {
    /// The browser's id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Where it is.
    pub url: String,
    /// The page's own WebSocket.
    pub websocket: String,
    /// `t1`, …
    pub tab_id: String,
    /// What the agent calls it.
    pub label: Option<String>,
}

impl ListedTab {
    /// What an agent should say to mean this page.
    #[must_use]
    pub fn suggested(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.tab_id)
    }

    /// As routes answer it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.with(None)
    }

    /// As `open` answers it: with what proves whose it is.
    #[must_use]
    pub fn with(&self, ownership: Option<Value>) -> Value {
        let mut tab = json!({
            "targetId": self.id,
            "title": self.title,
            "url": self.url,
            "wsUrl": self.websocket,
            "type": "page",
        });
        if let Value::Object(members) = &mut tab {
            if let Some(ownership) = ownership {
                members.insert("ownership".to_owned(), ownership);
            }
            members.insert("suggestedTargetId".to_owned(), self.suggested().into());
            members.insert("tabId".to_owned(), self.tab_id.as_str().into());
            if let Some(label) = &self.label {
                members.insert("label".to_owned(), label.as_str().into());
            }
        }
        tab
    }
}

/// Whether an agent may call a page this.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(is_allowed)
}

/// Refuses a label that is none.
///
/// # Errors
/// 400.
pub fn check_label(label: &str) -> Result<(), RouteError> {
    if is_label(label) {
        return Ok(());
    }
    Err(RouteError::bad_request(
        "label must be 1-64 characters of letters, digits, \"_\", \".\", \":\" or \"-\"",
    ))
}

fn is_number(named: &str) -> bool {
    !named.is_empty() && named.bytes().all(|byte| byte.is_ascii_digit())
}

/// 404 with upstream's texts.
#[must_use]
pub fn not_found(named: &str) -> RouteError {
    let hint = if is_number(named) {
        format!(
            "Numeric values are not tab targets; use a stable tab id like \"t1\", a label, or a raw \
             targetId. For positional selection, use \"openclaw browser tab select {named}\"."
        )
    } else {
        "Use action=tabs and pass suggestedTargetId, tabId, label, or raw targetId.".to_owned()
    };
    RouteError::not_found(format!(
        "tab not found: browser tab \"{named}\" not found. {hint}"
    ))
}

/// Which page a name means.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolution {
    /// This one, by the browser's id.
    One(String),
    /// More than one.
    Ambiguous,
    /// None.
    None,
}

#[derive(Debug)]
struct Names {
    number: u64,
    label: Option<String>,
}

/// The names of a profile's pages. Numbers are never given twice.
#[derive(Debug, Default)]
pub struct Aliases {
    count: u64,
    names: HashMap<String, Names>,
}

impl Aliases {
    /// Numbers a page that has no number yet.
    pub fn name(&mut self, target: &str) {
        if !self.names.contains_key(target) {
            self.count += 1;
            let names = Names {
                number: self.count,
                label: None,
            };
            self.names.insert(target.to_owned(), names);
        }
    }

    /// How many pages were ever numbered.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Forgets the pages that are gone: those that are not among all `pages` although they had been
    /// numbered, as the `count`th or before, when the list was asked for.
    pub fn forget_gone(&mut self, count: u64, pages: &HashSet<String>) {
        self.names
            .retain(|id, names| names.number > count || pages.contains(id));
    }

    /// Gives a page a label, which whoever had it loses.
    pub fn label(&mut self, target: &str, label: &str) {
        for names in self.names.values_mut() {
            if names.label.as_deref() == Some(label) {
                names.label = None;
            }
        }
        if let Some(names) = self.names.get_mut(target) {
            names.label = Some(label.to_owned());
        }
    }

    /// A page with its names.
    #[must_use]
    pub fn describe(&self, target: Target) -> ListedTab {
        let names = self.names.get(&target.id);
        ListedTab {
            tab_id: names.map_or_else(|| target.id.clone(), |names| format!("t{}", names.number)),
            label: names.and_then(|names| names.label.clone()),
            id: target.id,
            title: target.title,
            url: target.url,
            websocket: target.websocket,
        }
    }

    /// Which of the listed pages is meant.
    #[must_use]
    pub fn resolve(&self, named: &str, listed: &[ListedTab]) -> Resolution {
        let exact = listed.iter().find(|tab| {
            tab.id == named || tab.tab_id == named || tab.label.as_deref() == Some(named)
        });
        if let Some(tab) = exact {
            return Resolution::One(tab.id.clone());
        }
        if is_number(named) {
            // Agents count pages; that an id begins with the same digit is chance.
            return Resolution::None;
        }
        let wanted = named.to_ascii_lowercase();
        let mut matching = listed
            .iter()
            .filter(|tab| tab.id.to_ascii_lowercase().starts_with(&wanted));
        match (matching.next(), matching.next()) {
            (Some(tab), None) if !wanted.is_empty() => Resolution::One(tab.id.clone()),
            (Some(_), Some(_)) => Resolution::Ambiguous,
            (Some(_) | None, None) | (None, Some(_)) => Resolution::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(id: &str) -> Value {
        json!({"id": id, "type": "page", "url": "http://x/", "title": "X"})
    }

    fn listed(aliases: &mut Aliases, ids: &[&str]) -> Vec<ListedTab> {
        ids.iter()
            .map(|id| {
                aliases.name(id);
                aliases.describe(Target::from_listed(&page(id)).unwrap())
            })
            .collect()
    }

    #[test]
    fn a_page_is_found_by_each_of_its_names() {
        let mut aliases = Aliases::default();
        listed(&mut aliases, &["ABC1", "ABC2", "F00", "1DE"]);
        aliases.label("F00", "home");
        let tabs = listed(&mut aliases, &["ABC1", "ABC2", "F00", "1DE"]);
        let one = |id: &str| Resolution::One(id.to_owned());
        for (named, expected) in [
            ("ABC1", one("ABC1")),
            ("t2", one("ABC2")),
            ("home", one("F00")),
            ("f0", one("F00")),
            ("abc", Resolution::Ambiguous),
            ("zzz", Resolution::None),
            ("1d", one("1DE")),
            ("1", Resolution::None),
        ] {
            assert_eq!(aliases.resolve(named, &tabs), expected, "{named}");
        }
    }

    #[test]
    fn a_label_moves_and_a_number_is_never_given_twice() {
        let mut aliases = Aliases::default();
        aliases.name("A");
        aliases.label("A", "home");
        aliases.name("B");
        aliases.label("B", "home");
        let tabs = listed(&mut aliases, &["A", "B", "C"]);
        assert_eq!(tabs[0].suggested(), "t1");
        assert_eq!(tabs[1].suggested(), "home");
        assert_eq!(tabs[2].tab_id, "t3");
    }

    #[test]
    fn names_of_pages_that_are_gone_are_forgotten() {
        let mut aliases = Aliases::default();
        listed(&mut aliases, &["A", "B"]);
        let asked_at = aliases.count();
        // Opened while the list was on its way.
        listed(&mut aliases, &["C"]);
        aliases.label("C", "new");
        aliases.forget_gone(asked_at, &Listing::of(&[page("A")]).pages);
        let tabs = listed(&mut aliases, &["A", "B", "C"]);
        let names: Vec<_> = tabs.iter().map(ListedTab::suggested).collect();
        assert_eq!(names, ["t1", "t4", "new"]);
    }

    #[test]
    fn a_page_that_is_not_listed_for_a_moment_keeps_its_names() {
        let mut aliases = Aliases::default();
        listed(&mut aliases, &["A", "B"]);
        aliases.label("B", "home");
        for url in ["", "chrome://settings/"] {
            let entry = json!({"targetId": "B", "type": "page", "url": url});
            let listing = Listing::of(&[page("A"), entry]);
            assert_eq!(listing.targets.len(), 1, "{url}");
            aliases.forget_gone(aliases.count(), &listing.pages);
        }
        let tabs = listed(&mut aliases, &["B"]);
        assert_eq!((&*tabs[0].tab_id, tabs[0].suggested()), ("t2", "home"));
    }

    #[test]
    fn only_pages_of_the_web_are_listed() {
        for url in ["", "chrome://settings/", "devtools://x", "opera://about"] {
            let entry = json!({"id": "A", "type": "page", "url": url});
            assert!(Target::from_listed(&entry).is_none(), "{url}");
        }
        let worker = json!({"id": "A", "type": "service_worker", "url": "http://x/"});
        assert!(Target::from_listed(&worker).is_none());
    }

    #[test]
    fn labels_are_short_and_plain() {
        for good in ["a", "A_b.c:d-9", &"x".repeat(64)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "a b", "ä", &"x".repeat(65), "a/b"] {
            assert!(!is_label(bad), "{bad}");
        }
    }
}
