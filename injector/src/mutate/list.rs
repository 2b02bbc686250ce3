//! The lists of a raw Pod.

use serde_json::Value;

/// A list of the Pod; `None` where the Pod has none, so that it must be made to be added to.
pub(super) type List<'a> = Option<&'a [Value]>;

/// A part of the Pod is not what the API says: the API server refuses such a Pod by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

/// A list of objects, which may be missing.
pub(super) fn list<'a>(parent: &'a Value, key: &str, path: &str) -> Result<List<'a>, Malformed> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => Ok(Some(items)),
        Some(_) => Err(Malformed(format!("{path}/{key}"))),
    }
}
