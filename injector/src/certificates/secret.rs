//! The Secret, to and from what it holds.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::material::{Material, Useless, to_pem};

const AUTHORITIES: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Reads what the Secret holds, and wipes it there; `None` where nobody has filled it yet.
pub(super) fn read(secret: &mut Secret, names: &[String]) -> Option<Result<Material, Useless>> {
    let mut data = secret.data.take().unwrap_or_default();
    let parts = [AUTHORITIES, AUTHORITY_KEY, CERTIFICATE, KEY];
    let read = parts
        .iter()
        .any(|part| data.get(*part).is_some_and(|bytes| !bytes.0.is_empty()))
        .then(|| parse(&data, names));
    for bytes in data.values_mut() {
        bytes.0.zeroize();
    }
    read
}

fn parse(data: &BTreeMap<String, ByteString>, names: &[String]) -> Result<Material, Useless> {
    let text = |part: &str, missing| {
        let bytes = data.get(part).ok_or(Useless(missing))?;
        String::from_utf8(bytes.0.clone()).map_err(|_error| Useless(missing))
    };
    let authorities = text(AUTHORITIES, "`ca.crt` is missing")?;
    let authorities = CertificateDer::pem_slice_iter(authorities.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_error| Useless("`ca.crt` is no PEM"))?;
    Material::new(
        authorities,
        Zeroizing::new(text(AUTHORITY_KEY, "`ca.key` is missing")?),
        text(CERTIFICATE, "`tls.crt` is missing")?,
        Zeroizing::new(text(KEY, "`tls.key` is missing")?),
        names,
    )
}

/// A merge patch that fills the Secret, if it still is what was read: the API server compares the
/// version.
pub(super) fn patch(secret: &Secret, material: &Material) -> Value {
    let encode = |text: &str| Value::from(STANDARD.encode(text));
    json!({
        "metadata": { "resourceVersion": secret.metadata.resource_version },
        "data": {
            AUTHORITIES: encode(&to_pem(&material.authorities)),
            AUTHORITY_KEY: encode(&material.authority_key),
            CERTIFICATE: encode(&material.certificate),
            KEY: encode(&material.key),
        },
    })
}
