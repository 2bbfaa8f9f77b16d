//! The headers of a message, as Standard Webhooks 1.0 says.

use uuid::Uuid;

use super::{Secret, SigningKey};

/// The id of the message about a job or a batch: it has one end, and so one message, however often that is sent.
#[must_use]
pub fn message_id(subject: Uuid) -> String {
    format!("msg_{}", subject.simple())
}

/// Signs messages.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// Each gives a signature: while one secret takes the place of another, receivers may have either.
    pub secrets: &'a [Secret],
    /// Gives one more.
    pub key: Option<&'a SigningKey>,
}

impl Signer<'_> {
    /// The value of `webhook-signature`; `None` where nothing can sign. `timestamp` is that of this try, in seconds.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> Option<String> {
        let content = format!("{id}.{timestamp}.{body}").into_bytes();
        let symmetric = self.secrets.iter().map(|secret| format!("v1,{}", secret.sign(&content)));
        let asymmetric = self.key.map(|key| format!("v1a,{}", key.sign(&content)));
        let signatures: Vec<String> = symmetric.chain(asymmetric).collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::try_from(text.to_owned()).expect("a secret")
    }

    /// The vector that the reference libraries test themselves with.
    #[test]
    fn the_signature_is_that_of_the_reference_libraries() {
        let secrets = [secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        let signer = Signer { secrets: &secrets, key: None };
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn everything_that_can_sign_does() {
        let secrets =
            [secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")];
        let key = SigningKey::read("whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").expect("a key");
        let all = Signer { secrets: &secrets, key: Some(&key) }.sign("a", 1, "b").expect("signed");
        let each = |signer: Signer<'_>| signer.sign("a", 1, "b").expect("signed");
        let expected = [
            each(Signer { secrets: &secrets[..1], key: None }),
            each(Signer { secrets: &secrets[1..], key: None }),
            each(Signer { secrets: &[], key: Some(&key) }),
        ];
        assert_eq!(all, expected.join(" "));
        assert!(expected[2].starts_with("v1a,"));
        assert_eq!(Signer { secrets: &[], key: None }.sign("a", 1, "b"), None);
    }

    #[test]
    fn an_id_holds_no_dot() {
        assert_eq!(message_id(Uuid::from_u128(7)), "msg_00000000000000000000000000000007");
    }
}
