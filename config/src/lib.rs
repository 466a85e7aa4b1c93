//! Typed settings from openclaw.json and the environment.
