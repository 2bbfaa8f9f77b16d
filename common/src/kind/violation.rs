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

/// A choice that no variant fits: what is wrong with the variant that was meant, or, where no name fits, which names
/// there are.
fn explain_choice(error: &ValidationError<'_>, at: &str, variants: &[Vec<ValidationError<'_>>]) -> Vec<Violation> {
    let mut meant = variants.iter().filter(|errors| !errors.iter().any(|error| rules_out(error, at)));
    if let (Some(errors), None) = (meant.next(), meant.next()) {
        return errors.iter().flat_map(explain).collect();
    }
    let names: Vec<_> = variants.iter().filter_map(|errors| errors.iter().find_map(|e| wrong_name(e, at))).collect();
    match names.first() {
        Some((place, _)) if names.len() == variants.len() && names.iter().all(|(other, _)| other == place) => {
            let names: Vec<_> = names.iter().flat_map(|(_, names)| names.iter()).map(ToString::to_string).collect();
            vec![violation((*place).to_owned(), format!("must be one of {}", names.join(", ")))]
        }
        _ => vec![plain(error)],
    }
}

/// Whether an error within a variant shows that the variant was not meant: another name, or another type altogether.
fn rules_out(error: &ValidationError<'_>, at: &str) -> bool {
    let type_differs = matches!(error.kind(), Kind::Type { .. }) && error.instance_path().as_str() == at;
    type_differs || wrong_name(error, at).is_some()
}

/// The place where a variant wants other names, and those names: the value itself, or the member that tags it. A tag is a
/// constant; a member with several possible values is an ordinary one.
fn wrong_name<'e>(error: &'e ValidationError<'_>, at: &str) -> Option<(&'e str, &'e [Value])> {
    let place = error.instance_path().as_str();
    let is_member = place.rsplit_once('/').is_some_and(|(parent, _)| parent == at);
    match error.kind() {
        Kind::Constant { expected_value } if place == at || is_member => {
            Some((place, std::slice::from_ref(expected_value)))
        }
        Kind::Enum { options } if place == at => Some((place, options.as_array()?)),
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
