//! The section `[callbacks]`: what signs callbacks.

use serde::{Deserialize, Serialize};

use crate::callback::{BadSecret, Secret, SigningKey};

/// What signs callbacks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallbacksConfig {
    /// `whsec_…`: sign callbacks that name no secret of their own, each of these.
    pub secrets: Vec<String>,
    /// `whsk_…`: an ed25519 key that signs every callback besides.
    pub signing_key: Option<String>,
}

impl CallbacksConfig {
    /// Whether callbacks that name no secret are signed.
    #[must_use]
    pub fn signs(&self) -> bool {
        !self.secrets.is_empty() || self.signing_key.is_some()
    }

    /// The secrets, ready to sign.
    ///
    /// # Errors
    /// [`BadSecret`] where one is none.
    pub fn secrets(&self) -> Result<Vec<Secret>, BadSecret> {
        self.secrets.iter().map(|text| Secret::try_from(text.clone())).collect()
    }

    /// The key, ready to sign.
    ///
    /// # Errors
    /// [`BadSecret`] where it is none.
    pub fn signing_key(&self) -> Result<Option<SigningKey>, BadSecret> {
        self.signing_key.as_deref().map(SigningKey::read).transpose()
    }
}
