//! The one character that JSON allows and databases do not.

use serde_json::Value;

use super::pointer;
use crate::problem::FieldError;

/// Notes every string and every key that contains U+0000, which PostgreSQL cannot store.
pub(super) fn find_nul(value: &Value, errors: &mut Vec<FieldError>) {
    visit(value, &mut String::new(), errors);
}

fn visit(value: &Value, path: &mut String, errors: &mut Vec<FieldError>) {
    let wrong = |path: &str| FieldError::at(path, "must not contain the character U+0000");
    match value {
        Value::String(text) if text.contains('\0') => errors.push(wrong(path)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                step(path, &index.to_string(), |path| visit(item, path, errors));
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                step(path, name, |path| {
                    if name.contains('\0') {
                        errors.push(wrong(path));
                    }
                    visit(member, path, errors);
                });
            }
        }
        _ => {}
    }
}

/// Goes one step down and back. One buffer for the whole walk: most values are fine, and need no pointer.
fn step(path: &mut String, to: &str, act: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(&pointer("", to));
    act(path);
    path.truncate(length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_place_is_named() {
        let mut errors = Vec::new();
        let value = json!({"a": [1, "x\0"], "b~/c": {"\0": true}, "fine": "\\u0000"});
        find_nul(&value, &mut errors);
        let pointers: Vec<_> = errors.into_iter().filter_map(|error| error.pointer).collect();
        assert_eq!(pointers, ["/a/1", "/b~0~1c/\0"]);
    }
}
