//! What the API server asks.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// A Pod that is about to be created, as the API server asks about it.
///
/// Has no `Debug` of the object: a Pod's variables may be secrets.
#[derive(Clone)]
pub struct Request {
    /// Identifies this call; the answer repeats it.
    pub uid: String,
    /// The Pod's namespace.
    pub namespace: String,
    /// The Pod's name; for a Pod whose name is still to be made up, its `generateName` and a `*`.
    pub name: String,
    /// The name of its ServiceAccount; `default` where the Pod names none, as the API server has it.
    pub service_account: String,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The Pod as the API server sent it.
    pub object: Value,
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("uid", &self.uid)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why bytes are not a review that this webhook can answer: the HTTP status is 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not of the form of a review. Says where it stops, never what is there.
    #[error("not an AdmissionReview: unreadable at line {line}, column {column}")]
    Unreadable {
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 at the start of a line.
        column: usize,
    },
    /// Another version, or not a review at all.
    #[error("not an AdmissionReview of `admission.k8s.io/v1`; check `admissionReviewVersions`")]
    Version,
    /// A review that already has its answer, or lost its question.
    #[error("the AdmissionReview has no request")]
    NoRequest,
    /// The rule of the webhook configuration matches more than it should.
    #[error("not about the creation of a Pod; check the `rules` of the webhook configuration")]
    NotAPod,
    /// There is nothing to decide about.
    #[error("the request has no object")]
    NoObject,
    /// The answer could not name the question.
    #[error("the request has no uid")]
    NoUid,
    /// The namespace is missing.
    #[error("the request names no namespace")]
    NoNamespace,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Asked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    kind: GroupVersionKind,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    operation: String,
    sub_resource: Option<String>,
    dry_run: Option<bool>,
    object: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GroupVersionKind {
    group: String,
    version: String,
    kind: String,
}

impl Request {
    /// Reads the body of a call of the API server. Fields that are not needed may be anything.
    ///
    /// # Errors
    /// An [`Error`] if this is no review of the creation of a Pod.
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let review: Review = serde_json::from_slice(body).map_err(|error| Error::Unreadable {
            line: error.line(),
            column: error.column(),
        })?;
        if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
            return Err(Error::Version);
        }
        let asked = review.request.ok_or(Error::NoRequest)?;
        if asked.uid.is_empty() {
            return Err(Error::NoUid);
        }
        let GroupVersionKind {
            group,
            version,
            kind,
        } = &asked.kind;
        let is_pod = (group.as_str(), version.as_str(), kind.as_str()) == ("", "v1", "Pod");
        let is_part = asked.sub_resource.is_some_and(|part| !part.is_empty());
        if !is_pod || is_part || asked.operation != "CREATE" {
            return Err(Error::NotAPod);
        }
        if asked.namespace.is_empty() {
            return Err(Error::NoNamespace);
        }
        let object = asked
            .object
            .filter(Value::is_object)
            .ok_or(Error::NoObject)?;
        Ok(Self {
            uid: asked.uid,
            namespace: asked.namespace,
            name: name(&object),
            service_account: service_account(&object),
            dry_run: asked.dry_run.unwrap_or_default(),
            object,
        })
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

fn name(pod: &Value) -> String {
    match (
        text(pod, "/metadata/name"),
        text(pod, "/metadata/generateName"),
    ) {
        (Some(name), _) => name.to_owned(),
        (None, Some(prefix)) => format!("{prefix}*"),
        (None, None) => "*".to_owned(),
    }
}

/// `serviceAccount` is the old name of the field, which the API server keeps equal.
fn service_account(pod: &Value) -> String {
    text(pod, "/spec/serviceAccountName")
        .or_else(|| text(pod, "/spec/serviceAccount"))
        .unwrap_or("default")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn review() -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
                "namespace": "research",
                "operation": "CREATE",
                "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
                "object": {
                    "metadata": {"generateName": "train-7d4b9-"},
                    "spec": {"serviceAccountName": "trainer", "containers": [{"name": "app"}]},
                },
                "oldObject": null,
                "dryRun": true,
                "options": {"kind": "CreateOptions"},
            },
        })
    }

    fn read(review: &Value) -> Result<Request, Error> {
        Request::read(&serde_json::to_vec(review).unwrap())
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Value), expected: &Error) {
        let mut review = review();
        change(&mut review);
        assert_eq!(&read(&review).unwrap_err(), expected);
    }

    #[test]
    fn what_the_api_server_sends_is_read() {
        let request = read(&review()).unwrap();
        assert_eq!(request.uid, "705ab4f5-6393-11e8-b7cc-42010a800002");
        assert_eq!(request.namespace, "research");
        assert_eq!(request.name, "train-7d4b9-*");
        assert_eq!(request.service_account, "trainer");
        assert!(request.dry_run);
        assert_eq!(request.object, review()["request"]["object"]);
    }

    #[test]
    fn a_pod_without_a_service_account_runs_as_default() {
        for (spec, expected) in [
            (json!({}), "default"),
            (json!({"serviceAccountName": ""}), "default"),
            (json!({"serviceAccount": "old"}), "old"),
            (
                json!({"serviceAccount": "old", "serviceAccountName": "new"}),
                "new",
            ),
        ] {
            let mut review = review();
            review["request"]["object"]["spec"] = spec;
            assert_eq!(read(&review).unwrap().service_account, expected);
        }
    }

    #[test]
    fn a_name_wins_over_its_prefix() {
        let mut review = review();
        review["request"]["object"]["metadata"]["name"] = json!("train-7d4b9-x2x1z");
        assert_eq!(read(&review).unwrap().name, "train-7d4b9-x2x1z");
        review["request"]["object"]["metadata"] = json!({});
        assert_eq!(read(&review).unwrap().name, "*");
    }

    #[test]
    fn what_is_no_review_of_a_new_pod_is_named() {
        refused(
            |it| it["apiVersion"] = json!("admission.k8s.io/v1beta1"),
            &Error::Version,
        );
        refused(|it| it["kind"] = json!("Pod"), &Error::Version);
        refused(|it| it["request"] = json!(null), &Error::NoRequest);
        refused(|it| it["request"]["uid"] = json!(""), &Error::NoUid);
        refused(
            |it| it["request"]["operation"] = json!("UPDATE"),
            &Error::NotAPod,
        );
        refused(
            |it| it["request"]["subResource"] = json!("binding"),
            &Error::NotAPod,
        );
        refused(
            |it| it["request"]["kind"]["kind"] = json!("Secret"),
            &Error::NotAPod,
        );
        refused(
            |it| it["request"]["kind"]["version"] = json!("v2"),
            &Error::NotAPod,
        );
        refused(
            |it| it["request"]["namespace"] = json!(""),
            &Error::NoNamespace,
        );
        refused(|it| it["request"]["object"] = json!(null), &Error::NoObject);
        refused(
            |it| it["request"]["object"] = json!("a Pod"),
            &Error::NoObject,
        );
    }

    #[test]
    fn neither_errors_nor_debug_repeat_the_object() {
        const CANARY: &str = "AKIACANARY";
        let mut review = review();
        review["request"]["object"]["spec"]["containers"][0]["env"] =
            json!([{"name": "AWS_ACCESS_KEY_ID", "value": CANARY}]);
        let request = read(&review).unwrap();
        assert!(!format!("{request:?}").contains(CANARY));

        review["request"]["dryRun"] = json!(CANARY);
        let error = read(&review).unwrap_err();
        assert!(matches!(error, Error::Unreadable { line: 1, .. }));
        assert!(!format!("{error:?} {error}").contains(CANARY));
    }

    #[test]
    fn bytes_that_are_not_json_are_refused() {
        for body in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe",
            "[".repeat(100_000).as_bytes(),
        ] {
            assert!(matches!(
                Request::read(body).unwrap_err(),
                Error::Unreadable { .. }
            ));
        }
    }
}
