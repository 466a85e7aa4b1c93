//! Any text as an approvals document: no panic, and what is read is written and read again the same.

use approvals::document::Document;
use approvals::edit::Preset;
use approvals::policy::{Approval, ExecConfig, resolve};
use approvals::rules::Rules;
use approvals::snapshot::Stored;
use secrecy::ExposeSecret as _;
use serde_json::Value;

/// What must hold for this input.
pub(crate) fn check(text: &str) {
    let config = ExecConfig::default();
    let stored = Stored::read(Some(text));
    let policy = resolve(&config, stored.document(), Some("main"), Approval::None);
    let rules = Rules::of(stored.document(), Some("/home/op"));
    let _ = rules.for_agent("main");
    assert!(stored.error().is_none() || policy.security.value.as_str() == "deny");
    if let Ok(document) = Document::parse(text) {
        stays(&document);
    }

    let Ok(Value::Object(file)) = serde_json::from_str(text) else {
        return;
    };
    let mut count = 0;
    let mut ids = || {
        count += 1;
        format!("id-{count}")
    };
    if let Ok(mut document) = Document::from_value(&file, &mut ids) {
        stays(&document);
        let is_new = document.allow("main", "/usr/bin/rg", &mut ids);
        stays(&document);
        assert!(!document.allow("main", "/usr/bin/rg", &mut ids));
        assert!(document.disallow("main", "/usr/bin/rg") > 0 || !is_new);
        stays(&document);
        document.apply(Preset::Deny);
        stays(&document);
        let policy = resolve(&config, &document, Some("main"), Approval::None);
        assert_eq!(policy.security.value.as_str(), "deny");
    }
}

fn stays(document: &Document) {
    let text = document.canonical_text();
    let again = Document::parse(text.expose_secret()).expect("what was written can be read");
    assert_eq!(again, *document);
    assert_eq!(again.revision(), document.revision());
    assert_eq!(again.canonical_text().expose_secret(), text.expose_secret());
    assert!(document.redacted()["socket"].get("token").is_none());
}
