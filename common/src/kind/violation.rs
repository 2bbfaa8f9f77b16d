//! What a schema's validator finds, as violations that lead to the field.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

/// One thing that is wrong with a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON Pointer (RFC 6901) into the payload. What is missing is pointed at where it should be.
    pub pointer: String,
    /// What is wrong there. Does not quote the value, which may be long, or secret.
    pub detail: String,
}

/// What an error says, field by field.
pub(super) fn explain(error: &ValidationError<'_>) -> Vec<Violation> {
    let at = error.instance_path().as_str();
    let unknown =
        |names: &[String]| names.iter().map(|name| violation(member(at, name), "is not a known field")).collect();
    match error.kind() {
        Kind::Required { property } => {
            vec![violation(member(at, property.as_str().unwrap_or_default()), "is required")]
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => unknown(unexpected),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => explain_choice(error, at, context),
        _ => vec![plain(error)],
    }
}

/// A choice that no variant fits: what is wrong with the variant that was meant, or, where no tag fits, which tags
/// there are.
fn explain_choice(error: &ValidationError<'_>, at: &str, variants: &[Vec<ValidationError<'_>>]) -> Vec<Violation> {
    let mut meant = variants.iter().filter(|errors| !errors.iter().any(|error| rules_out(error, at)));
    if let (Some(errors), None) = (meant.next(), meant.next()) {
        return errors.iter().flat_map(explain).collect();
    }
    let tags: Vec<(&str, &Value)> = variants.iter().flatten().filter_map(|error| wrong_tag(error, at)).collect();
    match tags.first() {
        Some((place, _)) if tags.len() == variants.len() && tags.iter().all(|(other, _)| other == place) => {
            let names: Vec<_> = tags.iter().map(|(_, expected)| expected.to_string()).collect();
            vec![violation((*place).to_owned(), format!("must be one of {}", names.join(", ")))]
        }
        _ => vec![plain(error)],
    }
}

/// Whether an error within a variant shows that the variant was not meant: another tag, or another type altogether.
fn rules_out(error: &ValidationError<'_>, at: &str) -> bool {
    let type_differs = matches!(error.kind(), Kind::Type { .. }) && error.instance_path().as_str() == at;
    type_differs || wrong_tag(error, at).is_some()
}

/// The place of a member that is not the constant that the variant wants, and that constant.
fn wrong_tag<'e>(error: &'e ValidationError<'_>, at: &str) -> Option<(&'e str, &'e Value)> {
    let place = error.instance_path().as_str();
    match error.kind() {
        Kind::Constant { expected_value } if place.rsplit_once('/')?.0 == at => Some((place, expected_value)),
        _ => None,
    }
}

fn plain(error: &ValidationError<'_>) -> Violation {
    violation(error.instance_path().as_str().to_owned(), error.masked_with("the value").to_string())
}

fn violation(pointer: String, detail: impl Into<String>) -> Violation {
    Violation { pointer, detail: detail.into() }
}

fn member(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}
