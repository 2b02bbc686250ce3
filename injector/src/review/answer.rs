//! What the API server is answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::mutate::{Decision, Verdict};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
}

/// Writes the body of the answer to the call `uid`.
///
/// A patch is base64 of a JSON Patch, and the API server wants its type beside it; a Pod that is
/// refused is refused with 403 and the verdict's reason.
pub fn answer(uid: &str, verdict: &Verdict) -> Vec<u8> {
    let refused = verdict.decision == Decision::Refused;
    let patch =
        (!refused && !verdict.patch.is_empty()).then(|| STANDARD.encode(bytes(&verdict.patch)));
    bytes(&Review {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response: Response {
            uid,
            allowed: !refused,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            warnings: &verdict.warnings,
            status: refused.then(|| Status {
                code: 403,
                reason: "Forbidden",
                message: verdict
                    .refusal
                    .as_deref()
                    .unwrap_or("the Pod cannot be given credentials"),
            }),
        },
    })
}

#[expect(
    clippy::expect_used,
    reason = "strings, numbers and maps with string keys always serialize into memory"
)]
fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data is JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn verdict(decision: Decision) -> Verdict {
        Verdict {
            decision,
            patch: Vec::new(),
            warnings: Vec::new(),
            refusal: None,
        }
    }

    fn response(verdict: &Verdict) -> Value {
        let review: Value = serde_json::from_slice(&answer("u-1", verdict)).unwrap();
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(review["kind"], "AdmissionReview");
        review["response"].clone()
    }

    #[test]
    fn a_pod_without_changes_is_allowed_and_nothing_else_is_said() {
        assert_eq!(
            response(&verdict(Decision::NotAsked)),
            json!({"uid": "u-1", "allowed": true})
        );
    }

    #[test]
    fn a_patch_comes_with_its_type_and_the_warnings() {
        let operations = vec![json!({"op": "add", "path": "/spec/volumes", "value": []})];
        let response = response(&Verdict {
            patch: operations.clone(),
            warnings: vec!["mind this".to_owned()],
            ..verdict(Decision::Injected)
        });
        assert_eq!(response["allowed"], true);
        assert_eq!(response["patchType"], "JSONPatch");
        assert_eq!(response["warnings"], json!(["mind this"]));
        let patch = STANDARD
            .decode(response["patch"].as_str().unwrap())
            .unwrap();
        assert_eq!(
            serde_json::from_slice::<Vec<Value>>(&patch).unwrap(),
            operations
        );
    }

    #[test]
    fn a_refusal_says_why_and_carries_no_patch() {
        let response = response(&Verdict {
            patch: vec![json!({"op": "add", "path": "/spec/volumes", "value": []})],
            refusal: Some("it is for Windows nodes".to_owned()),
            ..verdict(Decision::Refused)
        });
        assert_eq!(
            response,
            json!({
                "uid": "u-1",
                "allowed": false,
                "status": {
                    "code": 403,
                    "reason": "Forbidden",
                    "message": "it is for Windows nodes",
                },
            })
        );
    }
}
