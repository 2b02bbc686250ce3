//! What the Secret holds: authorities, a certificate, and the keys of both.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use zeroize::Zeroizing;

use super::authority::{belongs, make_authority, make_certificate};
use super::period::Period;
use super::plan::{Facts, Step};
use crate::config;
use crate::tls::Pair;

/// Authorities that are published together: the new one, the old one, and one of a replica that
/// had to start anew meanwhile.
const MOST_AUTHORITIES: usize = 3;

/// Authorities, a certificate, and the keys of both, as far as they make sense.
#[derive(Clone)]
pub(super) struct Material {
    /// The authorities that are published; the first one signs.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// The key of the first authority, in PEM.
    pub(super) authority_key: Zeroizing<String>,
    /// The certificate, in PEM.
    pub(super) certificate: String,
    /// The key of the certificate, in PEM.
    pub(super) key: Zeroizing<String>,
    /// The same two, ready to be served.
    pub(super) pair: Pair,
    facts: Facts,
}

/// Why what the Secret holds is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Useless(pub(super) &'static str);

impl Material {
    /// Checks what was read: that each certificate makes sense and each key belongs to its
    /// certificate. Whether anything is still valid is for [`plan`](super::plan) to say.
    pub(super) fn new(
        authorities: Vec<CertificateDer<'static>>,
        authority_key: Zeroizing<String>,
        certificate: String,
        key: Zeroizing<String>,
        names: &[String],
    ) -> Result<Self, Useless> {
        let first = authorities
            .first()
            .ok_or(Useless("`ca.crt` has no certificate"))?;
        if !belongs(first, &authority_key) {
            return Err(Useless("`ca.key` is not the key of `ca.crt`"));
        }
        let pair = Pair::from_pem(certificate.as_bytes(), key.as_bytes())
            .map_err(|_error| Useless("`tls.crt` and `tls.key` are no pair"))?;
        let periods = authorities.iter().map(Period::of).collect::<Option<_>>();
        let served = pair.chain().first().and_then(Period::of);
        let facts = Facts {
            authorities: periods.ok_or(Useless("`ca.crt` makes no sense"))?,
            certificate: served.ok_or(Useless("`tls.crt` makes no sense"))?,
            signed_by: authorities
                .iter()
                .position(|authority| trusts(authority, &pair, names)),
        };
        Ok(Self {
            authorities,
            authority_key,
            certificate,
            key,
            pair,
            facts,
        })
    }

    /// What there is to plan with.
    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The authority that has signed the certificate.
    pub(super) fn signer(&self) -> Option<&CertificateDer<'static>> {
        self.authorities.get(self.facts.signed_by?)
    }
}

/// Does one step. `known` are authorities whose certificates may still be served by a replica.
pub(super) fn take(
    step: Step,
    material: Option<&Material>,
    known: &[CertificateDer<'static>],
    settings: &config::Managed,
    now: Timestamp,
) -> anyhow::Result<Option<Material>> {
    let names = settings.names();
    let sign = |authority: &_, key: &str| {
        make_certificate(authority, key, &names, now, settings.certificate_lifetime)
    };
    let (authorities, authority_key, certificate) = match (step, material) {
        (Step::Wait(_), _) => return Ok(None),
        (Step::Start, _) | (_, None) => {
            let authority = make_authority(now, settings.ca_lifetime)?;
            let certificate = sign(&authority.certificate, &authority.key)?;
            let authorities = beside(authority.certificate, known, now);
            (authorities, authority.key, Some(certificate))
        }
        (Step::AddAuthority, Some(old)) => {
            let authority = make_authority(now, settings.ca_lifetime)?;
            let authorities = beside(authority.certificate, &old.authorities, now);
            (authorities, authority.key, None)
        }
        (Step::Renew, Some(old)) => {
            let authority = old.authorities.first();
            let certificate = authority.map(|authority| sign(authority, &old.authority_key));
            let (authorities, key) = (old.authorities.clone(), old.authority_key.clone());
            (authorities, key, certificate.transpose()?)
        }
        (Step::DropOld, Some(old)) => {
            let first = old.authorities.iter().take(1).cloned();
            (first.collect(), old.authority_key.clone(), None)
        }
    };
    let is_made = certificate.is_some();
    let (certificate, key) = match (certificate, material) {
        (Some(made), _) => (to_pem([&made.certificate]), made.key),
        (None, Some(old)) => (old.certificate.clone(), old.key.clone()),
        (None, None) => return Ok(None),
    };
    let material = Material::new(authorities, authority_key, certificate, key, &names)?;
    // Written, it would be renewed at once, again and again.
    anyhow::ensure!(
        !is_made || material.facts.signed_by == Some(0),
        "a certificate for `{}` is not accepted by who trusts the first of `ca.crt`: check `--service`, \
         or empty the Secret, and a new authority is made",
        names.join("`, `")
    );
    Ok(Some(material))
}

/// The new authority and those of before that have not expired.
fn beside(
    new: CertificateDer<'static>,
    before: &[CertificateDer<'static>],
    now: Timestamp,
) -> Vec<CertificateDer<'static>> {
    let alive = before
        .iter()
        .filter(|authority| Period::of(authority).is_some_and(|period| now < period.until));
    std::iter::once(new)
        .chain(alive.cloned())
        .take(MOST_AUTHORITIES)
        .collect()
}

/// Whether who trusts `authority` accepts the certificate for every name, in its own time.
fn trusts(authority: &CertificateDer<'static>, pair: &Pair, names: &[String]) -> bool {
    let mut roots = RootCertStore::empty();
    if roots.add(authority.clone()).is_err() {
        return false;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let (Ok(verifier), Some((leaf, rest))) = (verifier, pair.chain().split_first()) else {
        return false;
    };
    let Some(made) = Period::of(leaf).map(|period| period.from.as_second()) else {
        return false;
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs(made.try_into().unwrap_or(0)));
    names.iter().all(|name| {
        ServerName::try_from(name.as_str()).is_ok_and(|name| {
            verifier
                .verify_server_cert(leaf, rest, &name, &[], time)
                .is_ok()
        })
    })
}

/// Writes certificates as PEM.
pub(super) fn to_pem<'a>(
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    const COLUMNS: usize = 64;
    let mut pem = String::new();
    for certificate in certificates {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        for (place, character) in encoded.chars().enumerate() {
            if place > 0 && place % COLUMNS == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    pem
}
