//! Makes authorities and certificates.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use x509_parser::public_key::PublicKey;
use zeroize::Zeroizing;

use super::period::{BACKDATED, Period, later, signed};

/// A certificate and its private key, in PEM.
pub(super) struct Made {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: Zeroizing<String>,
}

/// Makes an authority, whose name tells its second: so that people can tell two apart.
pub(super) fn make_authority(now: Timestamp, lifetime: Duration) -> Result<Made, rcgen::Error> {
    let mut params = params(now, later(now, signed(lifetime)));
    let name = format!("caios-injector authority {}", now.as_second());
    params.distinguished_name = named(&name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Made {
        certificate: certificate.der().clone(),
        key: Zeroizing::new(key.serialize_pem()),
    })
}

/// Has an authority sign a certificate for `names`, which lives no longer than the authority.
pub(super) fn make_certificate(
    authority: &CertificateDer<'static>,
    authority_key: &str,
    names: &[String],
    now: Timestamp,
    lifetime: Duration,
) -> Result<Made, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_der(authority, KeyPair::from_pem(authority_key)?)?;
    let mut until = later(now, signed(lifetime));
    if let Some(period) = Period::of(authority) {
        until = until.min(period.until);
    }
    let mut params = params(now, until);
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params.distinguished_name = named("caios-injector");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Made {
        certificate: certificate.der().clone(),
        key: Zeroizing::new(key.serialize_pem()),
    })
}

/// Whether this is the private key of that certificate.
pub(super) fn belongs(certificate: &CertificateDer<'_>, key: &str) -> bool {
    let Ok(key) = KeyPair::from_pem(key) else {
        return false;
    };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    match certificate.public_key().parsed() {
        Ok(PublicKey::EC(point)) => point.data() == key.public_key_raw(),
        _ => false,
    }
}

fn params(now: Timestamp, until: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = SystemTime::from(later(now, -signed(BACKDATED))).into();
    params.not_after = SystemTime::from(until).into();
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
