//! What the refs of the last snapshot mean.

/// The refs of a page.
#[derive(Debug, Default)]
pub struct Refs;

impl Refs {
    /// The page has another document: no ref is valid any more.
    pub fn forget(&mut self) {}
}
