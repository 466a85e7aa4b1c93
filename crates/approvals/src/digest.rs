//! SHA-256 as the approvals wire spells it.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The SHA-256 of some bytes, as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    let digest = Sha256::digest(bytes);
    let mut hex = String::with_capacity(2 * digest.len());
    for byte in digest {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The first 16 digits of [`sha256_hex`], as generated patterns carry them.
pub fn sha256_hex16(text: &str) -> String {
    let mut hex = sha256_hex(text);
    hex.truncate(16);
    hex
}

#[cfg(test)]
mod tests {
    use super::{sha256_hex, sha256_hex16};

    #[test]
    fn digests_are_lower_case_hexadecimal() {
        assert_eq!(
            sha256_hex(""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(sha256_hex16("/usr/bin/echo a"), "fa74956a31fe77b2");
    }
}
