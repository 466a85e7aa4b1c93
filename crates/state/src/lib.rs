//! The node's own SQLite store.
