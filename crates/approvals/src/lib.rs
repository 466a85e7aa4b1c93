//! The exec policy: documents, allowlists and the decision, as pure functions.
