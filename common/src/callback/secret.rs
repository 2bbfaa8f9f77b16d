//! What signs: symmetric secrets, which the receiver has too, and an asymmetric key, of which it has the public half.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};

const SYMMETRIC: &str = "whsec_";
const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";

/// The bytes that a secret may have.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The bytes of an ed25519 seed; private keys are also written as the seed and the public key together.
const SEED_BYTES: usize = 32;

/// A text is no secret. The text is not part of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Of a symmetric secret.
    #[error("must be `whsec_` and the base64 of 24 to 64 random bytes")]
    Symmetric,
    /// Of a signing key.
    #[error("must be `whsk_` and the base64 of an ed25519 seed of 32 bytes, or of the seed and its public key")]
    Private,
}

/// A secret that sender and receiver share. Serialized only into the store, and shown by nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Secret {
    text: String,
    bytes: Vec<u8>,
}

impl Secret {
    /// Signs for receivers that have the secret.
    pub(super) fn sign(&self, content: &[u8]) -> String {
        STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.bytes), content))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl TryFrom<String> for Secret {
    type Error = BadSecret;

    fn try_from(text: String) -> Result<Self, BadSecret> {
        let bytes = text.strip_prefix(SYMMETRIC).and_then(|encoded| STANDARD.decode(encoded).ok());
        let bytes = bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len())).ok_or(BadSecret::Symmetric)?;
        Ok(Self { text, bytes })
    }
}

impl From<Secret> for String {
    fn from(secret: Secret) -> Self {
        secret.text
    }
}

/// An ed25519 key that signs for receivers that know its public half.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a private key.
    ///
    /// # Errors
    /// [`BadSecret`] where it is none.
    pub fn read(text: &str) -> Result<Self, BadSecret> {
        let bytes = text.strip_prefix(PRIVATE).and_then(|encoded| STANDARD.decode(encoded).ok());
        let bytes = bytes.ok_or(BadSecret::Private)?;
        let pair = match bytes.split_at_checked(SEED_BYTES).ok_or(BadSecret::Private)? {
            (seed, []) => Ed25519KeyPair::from_seed_unchecked(seed),
            (seed, public) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
        };
        pair.map(Self).map_err(|_| BadSecret::Private)
    }

    /// What receivers are given.
    #[must_use]
    pub fn public(&self) -> String {
        format!("{PUBLIC}{}", STANDARD.encode(self.0.public_key()))
    }

    pub(super) fn sign(&self, content: &[u8]) -> String {
        STANDARD.encode(self.0.sign(content))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secrets_are_secrets_and_none_is_shown() {
        let encoded = |length| format!("whsec_{}", STANDARD.encode(vec![7u8; length]));
        for (text, good) in [
            (encoded(23), false),
            (encoded(24), true),
            (encoded(64), true),
            (encoded(65), false),
            (STANDARD.encode([7u8; 32]), false),
            ("whsec_".to_owned(), false),
            ("whsec_not base64!".to_owned(), false),
        ] {
            let read = Secret::try_from(text.clone());
            assert_eq!(read.is_ok(), good, "{text}");
            let shown = match read {
                Ok(secret) => format!("{secret:?}"),
                Err(error) => format!("{error:?} {error}"),
            };
            assert!(!shown.contains(&text[6..]) || text == "whsec_", "{shown}");
        }
    }

    /// The first test vector of RFC 8032, section 7.1.
    #[test]
    fn keys_are_read_with_and_without_their_public_half() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
            0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = SigningKey::read(&format!("whsk_{}", STANDARD.encode(seed))).expect("a seed");
        assert_eq!(key.public(), "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
        let expected = "5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlUUFDjnoQCw==";
        assert_eq!(key.sign(b""), expected);
        let both = [&seed[..], key.0.public_key().as_ref()].concat();
        assert!(SigningKey::read(&format!("whsk_{}", STANDARD.encode(&both))).is_ok());
        let wrong = [&seed[..], &seed[..]].concat();
        for text in [STANDARD.encode(wrong), STANDARD.encode(&seed[..31]), STANDARD.encode([&both[..], b"x"].concat())]
        {
            assert!(SigningKey::read(&format!("whsk_{text}")).is_err());
        }
        assert!(SigningKey::read(&STANDARD.encode(seed)).is_err());
    }
}
