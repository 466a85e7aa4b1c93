//! Command texts that run what they are handed as positional arguments (D4).

/// What a shell runs when its command text `payload` is followed by `arguments`, of which the
/// first is `$0`: each simple command that takes one of its words from an argument, with the
/// argument in the word's place.
///
/// This is for finding what must be refused, never for allowing anything: it reads more than
/// [`analyse`](super::analyse) does, and takes unquoted arguments apart at white space only.
#[must_use]
pub fn carried(_payload: &str, _arguments: &[String]) -> Vec<Vec<String>> {
    Vec::new()
}
