//! Which roles get a ref, and which only structure a page (browser proxy §5.2).

/// Roles that a user acts on: they always get a ref.
const INTERACTIVE: [&str; 17] = [
    "button",
    "checkbox",
    "combobox",
    "link",
    "listbox",
    "menuitem",
    "menuitemcheckbox",
    "menuitemradio",
    "option",
    "radio",
    "searchbox",
    "slider",
    "spinbutton",
    "switch",
    "tab",
    "textbox",
    "treeitem",
];

/// Roles that carry content: they get a ref where they have a name.
const CONTENT: [&str; 10] = [
    "article",
    "cell",
    "columnheader",
    "gridcell",
    "heading",
    "listitem",
    "main",
    "navigation",
    "region",
    "rowheader",
];

/// Roles that only structure: a compact snapshot leaves them out where they have no name and no ref.
const STRUCTURAL: [&str; 19] = [
    "application",
    "directory",
    "document",
    "generic",
    "grid",
    "group",
    "ignored",
    "list",
    "menu",
    "menubar",
    "none",
    "presentation",
    "row",
    "rowgroup",
    "table",
    "tablist",
    "toolbar",
    "tree",
    "treegrid",
];

/// Whether a lower-case role is one that a user acts on.
pub(crate) fn is_interactive(role: &str) -> bool {
    INTERACTIVE.contains(&role)
}

/// Whether a lower-case role carries content.
pub(crate) fn is_content(role: &str) -> bool {
    CONTENT.contains(&role)
}

/// Whether a lower-case role only structures the page.
pub(crate) fn is_structural(role: &str) -> bool {
    STRUCTURAL.contains(&role)
}
