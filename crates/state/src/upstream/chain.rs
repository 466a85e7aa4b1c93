//! The places of one item in their order, of which the first sound one counts.

use std::path::Path;

use super::database::UpstreamDatabase;
use super::{Found, Source, UpstreamError, files};

/// What upstream's migrations append to the name of a file that they have claimed (state §3.3).
const CLAIM_SUFFIXES: [&str; 2] = [".doctor-importing", ".native-importing"];

/// Reads an item from what a place holds: `None` if the item is not there, or what is wrong.
type Reading<T> = Result<Option<T>, String>;

/// The search for one item.
#[derive(Debug)]
pub(super) struct Chain<T> {
    what: &'static str,
    found: Option<Found<T>>,
    faults: Vec<String>,
}

impl<T> Chain<T> {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            found: None,
            faults: Vec::new(),
        }
    }

    /// Looks into the database, if nothing was found yet.
    pub(super) fn row(
        &mut self,
        database: Option<&UpstreamDatabase>,
        table: &'static str,
        read: impl FnOnce(&UpstreamDatabase) -> Result<Reading<T>, UpstreamError>,
    ) -> Result<(), UpstreamError> {
        if let (None, Some(database)) = (&self.found, database) {
            let source = Source {
                path: database.path().to_owned(),
                table: Some(table),
            };
            let reading = read(database)?;
            self.take(source, reading);
        }
        Ok(())
    }

    /// Looks into a file and those that were claimed of it, if nothing was found yet.
    pub(super) fn files(
        &mut self,
        file: &Path,
        limit_bytes: u64,
        read: impl Fn(String) -> Reading<T>,
    ) -> Result<(), UpstreamError> {
        let claims = CLAIM_SUFFIXES.map(|suffix| {
            let mut name = file.as_os_str().to_owned();
            name.push(suffix);
            name.into()
        });
        for path in std::iter::once(file.to_owned()).chain(claims) {
            if self.found.is_some() {
                return Ok(());
            }
            if let Some(content) = files::read(&path, limit_bytes)? {
                let reading = content.and_then(&read);
                self.take(Source { path, table: None }, reading);
            }
        }
        Ok(())
    }

    fn take(&mut self, source: Source, reading: Reading<T>) {
        match reading {
            Ok(Some(value)) => self.found = Some(Found { value, source }),
            Ok(None) => {}
            Err(fault) => self.faults.push(format!("{source}: {fault}")),
        }
    }

    /// What was found. Places that were passed over for it are told; an item that is nowhere sound
    /// is an error, because going on without it would not be the same node.
    pub(super) fn settle(
        self,
        passed_over: &mut Vec<String>,
    ) -> Result<Option<Found<T>>, UpstreamError> {
        if self.found.is_none() && !self.faults.is_empty() {
            return Err(UpstreamError::Invalid {
                what: self.what,
                faults: self.faults,
            });
        }
        Ok(self.settle_for_less(passed_over))
    }

    /// As [`Chain::settle`], for an item that can be got anew.
    pub(super) fn settle_for_less(self, passed_over: &mut Vec<String>) -> Option<Found<T>> {
        passed_over.extend(self.faults);
        self.found
    }
}
