//! The pinned certificate of a gateway.

use std::fmt;
use std::str::FromStr;

/// SHA-256 over the DER of the gateway's leaf certificate (wire protocol §1.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// The text is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Invalid TLS fingerprint; expected a SHA-256 certificate fingerprint.")]
pub struct InvalidFingerprint;

impl Fingerprint {
    /// The digest to compare with.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    /// Takes an optional `sha256:` in any case, then 64 hex digits or 32 pairs with colons
    /// between them; surrounding white space is ignored.
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let text = text.trim();
        let digits = match text.split_at_checked("sha256:".len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("sha256:") => rest,
            _ => text,
        };
        let digits = digits.as_bytes();
        let pairs: Vec<&[u8]> = match digits.len() {
            64 => digits.chunks(2).collect(),
            95 => digits.split(|byte| *byte == b':').collect(),
            _ => return Err(InvalidFingerprint),
        };
        let bytes = pairs
            .into_iter()
            .map(byte_of)
            .collect::<Result<Vec<u8>, _>>()?;
        bytes.try_into().map(Self).map_err(|_| InvalidFingerprint)
    }
}

fn byte_of(pair: &[u8]) -> Result<u8, InvalidFingerprint> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(InvalidFingerprint);
    let [high, low] = *pair else {
        return Err(InvalidFingerprint);
    };
    u8::try_from(digit(high)? * 16 + digit(low)?).map_err(|_| InvalidFingerprint)
}

impl fmt::Display for Fingerprint {
    /// 64 lower-case hex digits, the form to store and compare.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn with_colons(text: &str) -> String {
        let pairs: Vec<&str> = (0..text.len() / 2)
            .map(|pair| &text[2 * pair..2 * pair + 2])
            .collect();
        pairs.join(":")
    }

    #[test]
    fn every_accepted_spelling_is_the_same_pin() {
        let colons = with_colons(PLAIN);
        let spellings = [
            PLAIN.to_owned(),
            PLAIN.to_uppercase(),
            format!("sha256:{PLAIN}"),
            format!("SHA256:{}", PLAIN.to_uppercase()),
            format!("Sha256:{colons}"),
            format!("  {colons}\n"),
            colons.to_uppercase(),
        ];
        for spelling in spellings {
            let fingerprint: Fingerprint = spelling.parse().expect(&spelling);
            assert_eq!(fingerprint.to_string(), PLAIN);
            assert_eq!(fingerprint.as_bytes()[1], 0x11);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let colons = with_colons(PLAIN);
        let texts = [
            String::new(),
            "sha256:".to_owned(),
            PLAIN[1..].to_owned(),
            format!("{PLAIN}0"),
            format!("sha1:{PLAIN}"),
            format!("sha256:sha256:{PLAIN}"),
            format!("sha256: {PLAIN}"),
            format!("g{}", &PLAIN[1..]),
            format!("+{}", &PLAIN[1..]),
            colons.replace(':', "-"),
            colons.replacen(':', "0", 1),
            format!(":{}", &colons[..94]),
            "é".repeat(32),
            "sha25é".to_owned(),
        ];
        for text in texts {
            assert_eq!(
                text.parse::<Fingerprint>(),
                Err(InvalidFingerprint),
                "{text:?}"
            );
        }
    }
}
