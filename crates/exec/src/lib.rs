//! Processes: environment, plans, spawning, capture and killing.
