//! The `caBundle` of our webhooks: what API servers trust.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, TestOperation};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::material::to_pem;

/// Whether every entry trusts `authority`.
pub(super) fn publishes(
    configuration: &MutatingWebhookConfiguration,
    authority: &CertificateDer<'_>,
) -> bool {
    let mut entries = entries(configuration).peekable();
    entries.peek().is_some()
        && entries.all(|entry| {
            entry.client_config.ca_bundle.iter().any(|bundle| {
                CertificateDer::pem_slice_iter(&bundle.0)
                    .flatten()
                    .any(|published| published == *authority)
            })
        })
}

/// The patch that makes every entry trust `authorities` and nothing else; `None` where all do.
///
/// It tests the version that was seen, so it never undoes what somebody else does at the same
/// time, and touches nothing but `caBundle`.
pub(super) fn repair(
    configuration: &MutatingWebhookConfiguration,
    authorities: &[CertificateDer<'static>],
) -> Option<Patch> {
    let bundle = ByteString(to_pem(authorities).into_bytes());
    let mut operations = Vec::new();
    for (place, entry) in entries(configuration).enumerate() {
        if entry.client_config.ca_bundle.as_ref() == Some(&bundle) {
            continue;
        }
        let place = place.to_string();
        operations.push(PatchOperation::Test(TestOperation {
            path: pointer(&["webhooks", &place, "name"]),
            value: Value::from(entry.name.clone()),
        }));
        operations.push(PatchOperation::Add(AddOperation {
            path: pointer(&["webhooks", &place, "clientConfig", "caBundle"]),
            value: json!(bundle),
        }));
    }
    if operations.is_empty() {
        return None;
    }
    let version = PatchOperation::Test(TestOperation {
        path: pointer(&["metadata", "resourceVersion"]),
        value: json!(configuration.metadata.resource_version),
    });
    operations.insert(0, version);
    Some(Patch(operations))
}

fn entries(configuration: &MutatingWebhookConfiguration) -> impl Iterator<Item = &MutatingWebhook> {
    configuration.webhooks.iter().flatten()
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}
