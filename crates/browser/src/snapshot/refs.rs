//! What a tab remembers of its snapshots: what refs mean, and what was shown before.

use std::collections::{HashMap, HashSet};

use super::ai_form::AiRefs;
use super::finish::KeyKind;
use super::named::{NamedRefs, RefInfo, bare_ref};
use super::role_form::RoleOptions;

/// Kinds of snapshots whose last keys are remembered at most (upstream keeps 32 for all tabs).
const MOST_FAMILIES: usize = 16;

/// Frames whose place is remembered at most.
const MOST_FRAMES: usize = 4096;

/// The refs of a page.
#[derive(Debug, Default)]
pub struct Refs {
    named: NamedRefs,
    /// Whether the last snapshot had the default form: then `e12` means what that form says.
    is_default_form: bool,
    pub(crate) ai: AiRefs,
    pub(crate) frames: FrameSequence,
    families: Vec<(Family, i64, HashSet<String>)>,
}

/// No snapshot of the current document shows such a ref.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unknown ref \"{0}\". Run a new snapshot and use a ref from that snapshot.")]
pub struct UnknownRef(String);

impl Refs {
    /// The page has another document: no ref is valid any more.
    pub fn forget(&mut self) {
        self.named.clear();
        self.ai = AiRefs::default();
    }

    /// What a ref means, in any of the spellings `e12`, `@e12`, `ref=e12` and `12`.
    ///
    /// # Errors
    /// [`UnknownRef`].
    pub(crate) fn find(&self, written: &str) -> Result<RefInfo, UnknownRef> {
        let bare = bare_ref(written);
        let numbered = format!("e{bare}");
        let reference = if bare.len() <= 9 && bare.chars().all(|digit| digit.is_ascii_digit()) {
            numbered.as_str()
        } else {
            bare
        };
        let is_frame_ref = reference.starts_with('f');
        let found = if is_frame_ref || self.is_default_form && reference.starts_with('e') {
            self.ai.find(reference)
        } else {
            self.named
                .iter()
                .find(|(given, _)| given == reference)
                .map(|(_, info)| info)
        };
        found.cloned().ok_or_else(|| UnknownRef(bare.to_owned()))
    }

    /// Takes the refs of a new snapshot; those of the one before are dead.
    pub(crate) fn replace(&mut self, refs: &NamedRefs, is_default_form: bool) {
        self.is_default_form = is_default_form;
        self.named.clone_from(refs);
    }

    /// The refs that the last snapshot showed.
    pub(crate) fn shown(&self) -> NamedRefs {
        self.named.clone()
    }

    /// What the last snapshot of the same kind and document showed.
    pub(crate) fn shown_before(&self, family: &Family, document: i64) -> Option<&HashSet<String>> {
        self.families
            .iter()
            .find(|(known, shown, _)| known == family && *shown == document)
            .map(|(_, _, keys)| keys)
    }

    /// Remembers what a snapshot showed.
    pub(crate) fn remember_shown(&mut self, family: Family, document: i64, keys: HashSet<String>) {
        self.families.retain(|(known, _, _)| *known != family);
        if self.families.len() == MOST_FAMILIES {
            self.families.remove(0);
        }
        self.families.push((family, document, keys));
    }
}

/// Snapshots that are compared with each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Family {
    pub(crate) key_kind: KeyKind,
    pub(crate) options: RoleOptions,
    pub(crate) has_urls: bool,
    pub(crate) budget: Option<usize>,
    pub(crate) selector: Option<String>,
    pub(crate) frame: Option<String>,
}

/// The order in which the frames of a tab came. The refs of the default form begin with it.
#[derive(Debug, Default)]
pub struct FrameSequence {
    next: u32,
    places: HashMap<String, u32>,
}

impl FrameSequence {
    /// A frame's place: the next one where it has none yet.
    pub(crate) fn place(&mut self, frame: &str) -> u32 {
        if let Some(place) = self.places.get(frame) {
            return *place;
        }
        self.replace(frame)
    }

    /// A main frame that leaves a page takes a new place.
    pub(crate) fn main_frame_left(&mut self, frame: &str, left_url: &str) {
        if self.places.is_empty() {
            self.place(frame);
        }
        if !matches!(left_url, "" | "about:blank") {
            self.replace(frame);
        }
    }

    fn replace(&mut self, frame: &str) -> u32 {
        if self.places.len() >= MOST_FRAMES {
            self.places.clear();
        }
        let place = self.next;
        self.next += 1;
        self.places.insert(frame.to_owned(), place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameSequence, Refs};
    use crate::snapshot::named::{Identity, RefInfo};

    fn button(backend_node_id: i64) -> RefInfo {
        RefInfo {
            role: "button".to_owned(),
            name: None,
            nth: None,
            backend_node_id: Some(backend_node_id),
            frame_id: None,
            process_frame: None,
            identity: Identity::NodeId,
        }
    }

    #[test]
    fn takes_every_spelling_of_a_ref() {
        let mut refs = Refs::default();
        refs.replace(
            &vec![("e3".to_owned(), button(7)), ("ax4".to_owned(), button(8))],
            false,
        );
        for written in ["e3", "@e3", "ref=e3", " 3 "] {
            let found = refs.find(written).unwrap();
            assert_eq!(found.backend_node_id, Some(7), "{written}");
        }
        assert_eq!(refs.find("ax4").unwrap().backend_node_id, Some(8));
    }

    #[test]
    fn a_ref_dies_with_its_document() {
        let mut refs = Refs::default();
        refs.replace(&vec![("e3".to_owned(), button(7))], false);
        refs.forget();
        assert_eq!(
            refs.find("e3").unwrap_err().to_string(),
            "Unknown ref \"e3\". Run a new snapshot and use a ref from that snapshot."
        );
    }

    #[test]
    fn a_frame_keeps_its_place_until_it_leaves_a_page() {
        let mut frames = FrameSequence::default();
        frames.main_frame_left("main", "about:blank");
        assert_eq!(frames.place("main"), 0);
        frames.main_frame_left("main", "http://one/");
        assert_eq!(frames.place("main"), 1);
        assert_eq!(frames.place("child"), 2);
        assert_eq!(frames.place("main"), 1);
    }
}
