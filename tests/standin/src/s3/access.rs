//! Asks the policy whether a signed request may be done.

use std::sync::Arc;

use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    path::S3Path,
    s3_error,
};

use crate::standin::State;

/// The organisation's policy, as s3s asks it.
pub(super) struct PolicyAccess(pub(super) Arc<State>);

#[async_trait::async_trait]
impl S3Access for PolicyAccess {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let action = action(cx.s3_op().name());
        let Some(credentials) = cx.credentials() else {
            return Err(s3_error!(
                AccessDenied,
                "User: anonymous is not authorized to perform: {action}"
            ));
        };
        let Some(key) = self.0.keys.find(&credentials.access_key) else {
            return Err(s3_error!(InvalidAccessKeyId));
        };
        let sent = cx
            .headers()
            .get("x-amz-security-token")
            .and_then(|token| token.to_str().ok())
            .unwrap_or_default();
        if sent != key.session_token.unwrap_or_default() {
            return Err(s3_error!(
                InvalidToken,
                "The session token does not belong to the access key"
            ));
        }
        if self.0.policy.allows(&key.principal, &action) {
            return Ok(());
        }
        let resource = match cx.s3_path() {
            S3Path::Root => "*".to_owned(),
            S3Path::Bucket { bucket } => format!("arn:aws:s3:::{bucket}"),
            S3Path::Object { bucket, key } => format!("arn:aws:s3:::{bucket}/{key}"),
        };
        Err(s3_error!(
            AccessDenied,
            "User: {} is not authorized to perform: {action} on resource: {resource}",
            key.principal
        ))
    }
}

/// The policy action of an S3 operation, where the two differ.
fn action(operation: &str) -> String {
    let name = match operation {
        "ListBuckets" => "ListAllMyBuckets",
        "HeadObject" => "GetObject",
        "HeadBucket" | "ListObjects" | "ListObjectsV2" => "ListBucket",
        "CreateMultipartUpload"
        | "UploadPart"
        | "CompleteMultipartUpload"
        | "CopyObject"
        | "UploadPartCopy" => "PutObject",
        "DeleteObjects" => "DeleteObject",
        other => other,
    };
    format!("s3:{name}")
}
