//! The document is a promise: a change of it shows here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::testing;

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                found.insert(reference);
            }
            members.values().for_each(|member| references(member, found));
        }
        _ => {}
    }
}

#[test]
fn the_document_changes_only_on_purpose() {
    let document = openapi(&testing::specs());
    let text = serde_json::to_string_pretty(&document).expect("JSON");
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version));
    insta::assert_snapshot!(text.replace(&version, "\"version\": \"…\""));
}

#[test]
fn every_endpoint_every_problem_and_every_kind_is_in_it() {
    let document = openapi(&testing::specs());
    for endpoint in routes::endpoints() {
        let described = &document["paths"][endpoint.path][endpoint.method.as_str().to_ascii_lowercase()];
        assert_eq!(described.is_object(), endpoint.describe.is_some(), "{} {}", endpoint.method, endpoint.path);
        if endpoint.describe.is_none() {
            continue;
        }
        for parameter in endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = parameter.trim_end_matches('}');
            let parameters = described["parameters"].as_array().expect("parameters");
            assert!(parameters.iter().any(|p| p["name"] == name && p["in"] == "path"), "{}", endpoint.path);
        }
    }
    let text = document["paths"].to_string();
    for kind in ProblemType::ALL {
        // Any address may be wrong, and any method: these two belong to no endpoint.
        let answered = kind == ProblemType::MethodNotAllowed
            || text.contains(&format!("{COMPONENTS}{}\"", operation::problem_schema(kind)));
        assert!(answered, "{kind:?} is answered by no endpoint");
        assert!(document["components"]["schemas"][operation::problem_schema(kind)].is_object());
    }
    let kinds = &document["components"]["schemas"]["Submission"]["discriminator"]["mapping"];
    assert_eq!(kinds["test.kind"], "#/components/schemas/Submission.test.kind");
}

#[test]
fn every_reference_leads_somewhere_and_operations_have_names_of_their_own() {
    for specs in [testing::specs(), Vec::new()] {
        let document = openapi(&specs);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a local reference");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let operations = document["paths"].as_object().expect("paths").values();
        let ids: Vec<_> = operations
            .flat_map(|methods| methods.as_object().expect("methods").values())
            .map(|o| o["operationId"].to_string())
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }
}
