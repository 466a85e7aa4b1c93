//! The device identity: an Ed25519 key pair, and the id that a gateway derives from it (§3).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signer as _, SigningKey, Verifier as _, VerifyingKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A device id: 64 lower-case hex digits, the SHA-256 of the raw public key.
///
/// It is also the node's id on the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceId(String);

impl DeviceId {
    /// Derives the id of a raw 32-byte public key.
    #[must_use]
    pub fn of_public_key(raw: &[u8; 32]) -> Self {
        Self(
            Sha256::digest(raw)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        )
    }

    /// The 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why key material is not an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system gave no random bytes.
    #[error("no randomness for a new device key: {0}")]
    NoRandomness(getrandom::Error),
    /// The text is not an Ed25519 private key in PKCS#8 PEM.
    #[error("the stored device key is not an Ed25519 key in PKCS#8 PEM")]
    NotAPrivateKey,
    /// A public key or a signature is not the base64url text that the protocol demands.
    #[error("{0} is not valid base64url of the expected length")]
    NotBase64Url(&'static str),
    /// The signature was not made over this payload by this key.
    #[error("the signature does not match")]
    BadSignature,
}

/// A device's key pair. Generated once; the private half is never printed.
pub struct DeviceIdentity {
    signing_key: SigningKey,
    device_id: DeviceId,
}

impl fmt::Debug for DeviceIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeviceIdentity")
            .field("device_id", &self.device_id)
            .finish()
    }
}

impl DeviceIdentity {
    /// Makes a new identity.
    ///
    /// # Errors
    /// [`IdentityError::NoRandomness`].
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed).map_err(IdentityError::NoRandomness)?;
        Ok(Self::from_seed(&seed))
    }

    /// The identity of a 32-byte private seed (RFC 8032).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::from_signing_key(SigningKey::from_bytes(seed))
    }

    /// Reads a PKCS#8 PEM private key, the form in which every OpenClaw release stores it.
    ///
    /// # Errors
    /// [`IdentityError::NotAPrivateKey`].
    pub fn from_private_key_pem(pem: &SecretString) -> Result<Self, IdentityError> {
        SigningKey::from_pkcs8_pem(pem.expose_secret())
            .map(Self::from_signing_key)
            .map_err(|_| IdentityError::NotAPrivateKey)
    }

    fn from_signing_key(signing_key: SigningKey) -> Self {
        let device_id = DeviceId::of_public_key(signing_key.verifying_key().as_bytes());
        Self {
            signing_key,
            device_id,
        }
    }

    /// The id that a gateway knows this device by.
    #[must_use]
    pub fn device_id(&self) -> &DeviceId {
        &self.device_id
    }

    /// The raw public key as base64url without padding, 43 characters.
    #[must_use]
    pub fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.signing_key.verifying_key().as_bytes())
    }

    /// The private key as PKCS#8 PEM, for the state database only.
    ///
    /// # Errors
    /// [`IdentityError::NotAPrivateKey`] when it does not encode, which a valid key always does.
    pub fn private_key_pem(&self) -> Result<SecretString, IdentityError> {
        // The 48-byte form without the optional public half is what upstream writes (§3).
        let private_half = ed25519_dalek::pkcs8::KeypairBytes {
            secret_key: self.signing_key.to_bytes(),
            public_key: None,
        };
        private_half
            .to_pkcs8_pem(LineEnding::LF)
            .map(|pem| SecretString::from(pem.to_string()))
            .map_err(|_| IdentityError::NotAPrivateKey)
    }

    /// The public key as SPKI PEM.
    ///
    /// # Errors
    /// [`IdentityError::NotAPrivateKey`] when it does not encode, which a valid key always does.
    pub fn public_key_pem(&self) -> Result<String, IdentityError> {
        self.signing_key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| IdentityError::NotAPrivateKey)
    }

    /// Signs a payload; base64url without padding, 86 characters.
    #[must_use]
    pub fn sign(&self, payload: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.signing_key.sign(payload.as_bytes()).to_bytes())
    }
}

/// The public half of a device, as a gateway sees it.
#[derive(Debug, Clone)]
pub struct DevicePublicKey(VerifyingKey);

impl DevicePublicKey {
    /// Parses the base64url form of the wire.
    ///
    /// # Errors
    /// [`IdentityError::NotBase64Url`] when it is no 32-byte Ed25519 point in base64url.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let invalid = IdentityError::NotBase64Url("the public key");
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else {
            return Err(invalid);
        };
        let Ok(raw) = <[u8; 32]>::try_from(bytes) else {
            return Err(invalid);
        };
        VerifyingKey::from_bytes(&raw)
            .map(Self)
            .map_err(|_| invalid)
    }

    /// The id that follows from this key.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        DeviceId::of_public_key(self.0.as_bytes())
    }

    /// Checks a base64url signature over `payload`.
    ///
    /// # Errors
    /// [`IdentityError::NotBase64Url`] or [`IdentityError::BadSignature`].
    pub fn verify(&self, payload: &str, signature: &str) -> Result<(), IdentityError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| IdentityError::NotBase64Url("the signature"))?;
        let signature = ed25519_dalek::Signature::from_slice(&bytes)
            .map_err(|_| IdentityError::NotBase64Url("the signature"))?;
        self.0
            .verify(payload.as_bytes(), &signature)
            .map_err(|_| IdentityError::BadSignature)
    }
}

/// What a device signs when it connects (§6).
///
/// The fields are joined by `|` without escaping, exactly as they stand in the connect request,
/// but for platform and family, which are trimmed and lower-cased in ASCII only.
#[derive(Debug, Clone, Copy)]
pub struct SignaturePayload<'a> {
    /// The device's id.
    pub device_id: &'a str,
    /// `client.id`.
    pub client_id: &'a str,
    /// `client.mode`.
    pub client_mode: &'a str,
    /// `role`.
    pub role: &'a str,
    /// `scopes`.
    pub scopes: &'a [String],
    /// When it was signed, unix milliseconds.
    pub signed_at_ms: u64,
    /// The token the request carries, or nothing; a password never stands here.
    pub token: &'a str,
    /// The challenge's nonce.
    pub nonce: &'a str,
    /// `client.platform`, empty when absent.
    pub platform: &'a str,
    /// `client.deviceFamily`, empty when absent.
    pub device_family: &'a str,
}

impl SignaturePayload<'_> {
    /// The current form, which also binds platform and family.
    #[must_use]
    pub fn v3(&self) -> String {
        format!(
            "{}|{}|{}",
            self.common("v3"),
            self.platform.trim().to_ascii_lowercase(),
            self.device_family.trim().to_ascii_lowercase()
        )
    }

    /// The older form, which gateways still accept.
    #[must_use]
    pub fn v2(&self) -> String {
        self.common("v2")
    }

    fn common(&self, version: &str) -> String {
        format!(
            "{version}|{}|{}|{}|{}|{}|{}|{}|{}",
            self.device_id,
            self.client_id,
            self.client_mode,
            self.role,
            self.scopes.join(","),
            self.signed_at_ms,
            self.token,
            self.nonce,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from a live gateway, which accepted these very signatures.
    const VECTOR: &str = include_str!("../fixtures/signature-vector.json");

    fn vector() -> serde_json::Value {
        serde_json::from_str(VECTOR).unwrap()
    }

    fn text<'a>(vector: &'a serde_json::Value, pointer: &str) -> &'a str {
        vector
            .pointer(pointer)
            .and_then(serde_json::Value::as_str)
            .unwrap()
    }

    fn payload<'a>(vector: &'a serde_json::Value, token: &'a str) -> SignaturePayload<'a> {
        SignaturePayload {
            device_id: text(vector, "/inputs/id"),
            client_id: text(vector, "/inputs/clientId"),
            client_mode: text(vector, "/inputs/mode"),
            role: text(vector, "/inputs/role"),
            scopes: &[],
            signed_at_ms: vector
                .pointer("/inputs/signedAt")
                .unwrap()
                .as_u64()
                .unwrap(),
            token,
            nonce: text(vector, "/inputs/nonce"),
            platform: text(vector, "/inputs/platform"),
            device_family: text(vector, "/inputs/deviceFamily"),
        }
    }

    fn seeded() -> DeviceIdentity {
        let seed: Vec<u8> = (0..32).collect();
        DeviceIdentity::from_seed(&seed.try_into().unwrap())
    }

    #[test]
    fn the_recorded_vector_is_reproduced_byte_for_byte() {
        let vector = vector();
        let identity = seeded();
        assert_eq!(identity.device_id().as_str(), text(&vector, "/deviceId"));
        assert_eq!(identity.public_key(), text(&vector, "/publicKeyBase64Url"));
        assert_eq!(
            identity.public_key_pem().unwrap(),
            text(&vector, "/publicKeySpkiPem")
        );
        assert_eq!(
            identity.private_key_pem().unwrap().expose_secret(),
            text(&vector, "/privateKeyPkcs8Pem")
        );

        let with_token = payload(&vector, "TOKEN");
        assert_eq!(with_token.v3(), text(&vector, "/payloadV3"));
        assert_eq!(
            identity.sign(&with_token.v3()),
            text(&vector, "/signatureV3")
        );
        assert_eq!(with_token.v2(), text(&vector, "/payloadV2"));
        assert_eq!(
            identity.sign(&with_token.v2()),
            text(&vector, "/signatureV2")
        );

        let without_token = payload(&vector, "");
        assert_eq!(without_token.v3(), text(&vector, "/payloadV3_noToken"));
        assert_eq!(
            identity.sign(&without_token.v3()),
            text(&vector, "/signatureV3_noToken")
        );

        let mut mac = payload(&vector, "TOKEN");
        mac.platform = "macos";
        mac.device_family = "";
        assert_eq!(mac.v3(), text(&vector, "/payloadV3_macos_noFamily"));
        assert_eq!(
            identity.sign(&mac.v3()),
            text(&vector, "/signatureV3_macos_noFamily")
        );
    }

    #[test]
    fn a_key_survives_its_stored_form() {
        let identity = DeviceIdentity::generate().unwrap();
        let pem = identity.private_key_pem().unwrap();
        let restored = DeviceIdentity::from_private_key_pem(&pem).unwrap();
        assert_eq!(restored.device_id(), identity.device_id());
        assert_eq!(restored.sign("x"), identity.sign("x"));
    }

    #[test]
    fn only_the_right_key_and_payload_verify() {
        let identity = seeded();
        let key = DevicePublicKey::parse(&identity.public_key()).unwrap();
        assert_eq!(&key.device_id(), identity.device_id());
        let signature = identity.sign("payload");
        assert!(key.verify("payload", &signature).is_ok());
        assert!(key.verify("other", &signature).is_err());
        assert!(key.verify("payload", "AAAA").is_err());
        assert!(DevicePublicKey::parse("AAAA").is_err());
        assert!(DevicePublicKey::parse("not base64!").is_err());
    }

    #[test]
    fn a_private_key_is_never_printed() {
        let printed = format!("{:?}", seeded());
        assert!(printed.contains("56475aa75463474c"));
        assert!(!printed.contains("MC4C") && !printed.contains("signing_key"));
    }

    #[test]
    fn only_ascii_letters_are_folded() {
        let mut folded = payload(Box::leak(Box::new(vector())), "");
        folded.platform = " LİNUX ";
        assert!(folded.v3().ends_with("|lİnux|linux"));
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        let text =
            SecretString::from("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        assert!(matches!(
            DeviceIdentity::from_private_key_pem(&text),
            Err(IdentityError::NotAPrivateKey)
        ));
    }
}
