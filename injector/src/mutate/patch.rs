//! A JSON Patch (RFC 6902) of `add` operations.
//!
//! Nothing is written back that was read: fields that a newer API server knows and we do not
//! survive as they are.

use serde_json::Value;

use super::list::List;

/// The operations so far.
#[derive(Debug, Default)]
pub(super) struct Patch(Vec<Value>);

impl Patch {
    /// Adds a member, or replaces the one that is there.
    pub(super) fn add(&mut self, path: &str, value: Value) {
        let members = [
            ("op", "add".into()),
            ("path", path.into()),
            ("value", value),
        ];
        let members = members.map(|(name, value)| (name.to_owned(), value));
        self.0.push(Value::Object(members.into_iter().collect()));
    }

    /// Appends to the list at `path`, and makes it where the Pod has none.
    pub(super) fn append(&mut self, path: &str, existing: List<'_>, items: Vec<Value>) {
        if items.is_empty() {
            return;
        }
        if existing.is_none() {
            self.add(path, Value::Array(items));
        } else {
            for item in items {
                self.add(&format!("{path}/-"), item);
            }
        }
    }

    /// Puts one item in front of the list at `path`, and makes it where the Pod has none. Paths of
    /// later operations must count it.
    pub(super) fn prepend(&mut self, path: &str, existing: List<'_>, item: Value) {
        if existing.is_none() {
            self.add(path, Value::Array(vec![item]));
        } else {
            self.add(&format!("{path}/0"), item);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_operations(self) -> Vec<Value> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_made_where_there_is_none() {
        let mut patch = Patch::default();
        patch.append("/a", None, vec![json!(1), json!(2)]);
        patch.append("/b", Some(&[]), vec![json!(3), json!(4)]);
        patch.append("/c", None, Vec::new());
        patch.prepend("/d", None, json!(5));
        patch.prepend("/e", Some(&[]), json!(6));
        assert_eq!(
            patch.into_operations(),
            [
                json!({"op": "add", "path": "/a", "value": [1, 2]}),
                json!({"op": "add", "path": "/b/-", "value": 3}),
                json!({"op": "add", "path": "/b/-", "value": 4}),
                json!({"op": "add", "path": "/d", "value": [5]}),
                json!({"op": "add", "path": "/e/0", "value": 6}),
            ]
        );
    }
}
