//! Elements that look or act clickable though their role does not say so (browser proxy §5.2).

use serde::Deserialize;

/// The script that finds them.
pub(crate) const FIND: &str = include_str!("cursor.js");

/// What makes an element look or act clickable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CursorElement {
    /// Its text, at most 100 UTF-16 units; the name of an element that has none.
    pub(crate) text: String,
    /// The pointer is a hand over it.
    has_pointer: bool,
    /// It has an `onclick`.
    has_onclick: bool,
    /// The keyboard reaches it.
    has_tabindex: bool,
    /// It is `contenteditable`.
    is_editable: bool,
    /// The type of an input that it hides, empty without.
    hidden_input: String,
}

impl CursorElement {
    /// The end of the element's line.
    pub(crate) fn suffix(&self) -> String {
        let hidden = format!("hidden-{}", self.hidden_input);
        let reasons: Vec<&str> = [
            (self.has_pointer, "cursor:pointer"),
            (self.has_onclick, "onclick"),
            (self.has_tabindex, "tabindex"),
            (self.is_editable, "contenteditable"),
            (!self.hidden_input.is_empty(), hidden.as_str()),
        ]
        .into_iter()
        .filter_map(|(applies, reason)| applies.then_some(reason))
        .collect();
        if reasons.is_empty() {
            String::new()
        } else {
            format!(" [{}]", reasons.join(", "))
        }
    }
}
