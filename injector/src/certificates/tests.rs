//! The plan over years, step by step, with real certificates; the clock is a number.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;

use super::bundle::{publishes, repair};
use super::material::{Material, Useless, take, to_pem};
use super::period::{later, signed};
use super::plan::{Facts, Step, overlap, plan};
use super::secret;
use crate::config;

const DAY: Duration = Duration::from_hours(24);

pub(super) fn settings() -> config::Managed {
    config::Managed {
        namespace: "caios".to_owned(),
        secret: "certificate".to_owned(),
        webhook_configuration: "webhooks".to_owned(),
        service: "injector".to_owned(),
        certificate_lifetime: 90 * DAY,
        ca_lifetime: 5 * 365 * DAY,
    }
}

pub(super) fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(super) fn made(step: Step, old: Option<&Material>, now: Timestamp) -> Material {
    take(step, old, &[], &settings(), now).unwrap().unwrap()
}

/// The Secret that a patch makes of an empty one.
fn filled(material: &Material) -> Secret {
    let mut secret = serde_json::to_value(Secret::default()).unwrap();
    json_patch::merge(&mut secret, &secret::patch(&Secret::default(), material));
    serde_json::from_value(secret).unwrap()
}

#[test]
fn over_twelve_years_every_step_is_trusted_by_what_was_published_before_it() {
    let settings = settings();
    let apart = overlap(settings.certificate_lifetime);
    assert_eq!(apart, Duration::from_hours(1));
    let mut now = start();
    let mut material = made(Step::Start, None, now);
    let (mut certificates, mut authorities, mut dropped) = (0, 0, 0);
    while now < later(start(), signed(12 * 365 * DAY)) {
        let before = material.clone();
        let step = plan(Some(material.facts()), true, now, apart);
        match step {
            Step::Wait(until) => {
                assert!(now < until, "the plan waits for the past");
                now = until;
                continue;
            }
            Step::Start => panic!("everything was let expire"),
            Step::AddAuthority => authorities += 1,
            Step::Renew => certificates += 1,
            Step::DropOld => dropped += 1,
        }
        material = made(step, Some(&before), now);
        // Who has seen the step before trusts the certificate of this one, and the other way round.
        let signer = material.signer().expect("the certificate is signed");
        assert!(before.authorities.contains(signer), "{step:?} at {now}");
        let signer = before.signer().expect("the certificate was signed");
        let only_dropped = step == Step::DropOld || material.authorities.contains(signer);
        assert!(only_dropped, "{step:?} at {now}");
        let facts = material.facts();
        assert!(now < facts.certificate.left(6), "the certificate is old");
        assert!(
            facts
                .authorities
                .iter()
                .all(|authority| now < authority.until)
        );
    }
    // Renewed every 60 days; an authority lives 5 years and is followed after 40 months.
    assert!((70..=80).contains(&certificates), "{certificates}");
    assert_eq!((authorities, dropped), (3, 3));
}

#[test]
fn what_an_injector_makes_whose_clock_is_an_hour_ahead_is_valid_at_once() {
    let made = made(Step::Start, None, later(start(), signed(DAY / 24)));
    let certificate = CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap();
    for certificate in made.authorities.iter().chain([&certificate]) {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        let from = parsed.validity().not_before.timestamp();
        assert!(from < start().as_second(), "valid from {from} on");
    }
}

#[test]
fn an_authority_that_nobody_was_seen_to_trust_signs_only_when_time_runs_out() {
    let now = start();
    let facts = Facts {
        authorities: vec![
            super::period::Period {
                from: now,
                until: later(now, signed(100 * DAY)),
            },
            super::period::Period {
                from: later(now, -signed(100 * DAY)),
                until: later(now, signed(30 * DAY)),
            },
        ],
        certificate: super::period::Period {
            from: later(now, -signed(60 * DAY)),
            until: later(now, signed(30 * DAY)),
        },
        signed_by: Some(1),
    };
    let hour = Duration::from_hours(1);
    let at = |days: u32, published| {
        let then = later(now, signed(days * DAY));
        plan(Some(&facts), published, then, hour)
    };
    assert_eq!(at(0, true), Step::Wait(later(now, signed(hour))));
    assert_eq!(at(1, true), Step::Renew);
    let urgent = later(now, signed(15 * DAY));
    assert_eq!(at(1, false), Step::Wait(urgent));
    assert_eq!(at(15, false), Step::Renew);
}

#[test]
fn what_has_expired_or_is_for_other_names_is_made_anew() {
    let (now, hour) = (start(), Duration::from_hours(1));
    let material = made(Step::Start, None, now);
    let at = |facts: &Facts, then| plan(Some(facts), true, then, hour);
    let after = |days: u32| later(now, signed(days * DAY));
    assert_eq!(plan(None, true, now, hour), Step::Start);
    assert_eq!(at(material.facts(), after(91)), Step::Renew);
    assert_eq!(at(material.facts(), after(5 * 365 + 1)), Step::Start);

    let mut elsewhere = settings();
    elsewhere.service = "renamed".to_owned();
    let mut secret = filled(&material);
    let moved = secret::read(&mut secret, &elsewhere.names())
        .unwrap()
        .unwrap();
    assert_eq!(at(moved.facts(), now), Step::Renew);
    let renewed = take(Step::Renew, Some(&moved), &[], &elsewhere, now);
    let renewed = renewed.unwrap().unwrap();
    assert!(matches!(at(renewed.facts(), now), Step::Wait(_)));
}

#[test]
fn a_new_start_goes_on_publishing_what_may_still_be_served() {
    let now = start();
    let old = made(Step::Start, None, now);
    let new = take(Step::Start, None, &old.authorities, &settings(), now);
    let new = new.unwrap().unwrap();
    assert_eq!(new.authorities.len(), 2);
    assert_eq!(new.authorities[1], old.authorities[0]);
    assert_eq!(new.facts().signed_by, Some(0));
    // An overlap later nobody serves it any more.
    let then = later(now, SignedDuration::from_hours(1));
    let hour = Duration::from_hours(1);
    assert_eq!(plan(Some(new.facts()), true, then, hour), Step::DropOld);
    assert_eq!(made(Step::DropOld, Some(&new), then).authorities.len(), 1);
    // And what has expired is not published again.
    let later = later(now, signed(6 * 365 * DAY));
    let newest = take(Step::Start, None, &old.authorities, &settings(), later);
    assert_eq!(newest.unwrap().unwrap().authorities.len(), 1);
}

#[test]
fn a_secret_is_read_as_it_was_written_and_wiped() {
    let material = made(Step::Start, None, start());
    let mut secret = filled(&material);
    let read = secret::read(&mut secret, &settings().names())
        .unwrap()
        .unwrap();
    assert_eq!(read.facts(), material.facts());
    assert_eq!(read.authorities, material.authorities);
    assert!(secret.data.is_none());
    for empty in [None, Some(std::collections::BTreeMap::new())] {
        let mut secret = Secret {
            data: empty,
            ..Secret::default()
        };
        assert!(secret::read(&mut secret, &settings().names()).is_none());
    }
}

#[test]
fn a_secret_that_is_half_written_or_foreign_is_of_no_use() {
    let (one, other) = (
        made(Step::Start, None, start()),
        made(Step::Start, None, start()),
    );
    let useless = |part: &str, with: Option<&str>| {
        let mut secret = filled(&one);
        let data = secret.data.as_mut().unwrap();
        match with {
            Some(text) => data.insert(part.to_owned(), ByteString(text.into())),
            None => data.remove(part),
        };
        let read = secret::read(&mut secret, &settings().names());
        read.unwrap().map(|_material| ()).unwrap_err()
    };
    for (part, text) in [
        ("ca.crt", "`ca.crt` is missing"),
        ("ca.key", "`ca.key` is missing"),
        ("tls.crt", "`tls.crt` is missing"),
        ("tls.key", "`tls.key` is missing"),
    ] {
        assert_eq!(useless(part, None), Useless(text));
    }
    let foreign = useless("ca.key", Some(&other.authority_key));
    assert_eq!(foreign, Useless("`ca.key` is not the key of `ca.crt`"));
    let pair = Useless("`tls.crt` and `tls.key` are no pair");
    assert_eq!(useless("tls.key", Some(&other.key)), pair);
    assert_eq!(useless("tls.crt", Some("garbage")), pair);
    let empty = useless("ca.crt", Some("garbage"));
    assert_eq!(empty, Useless("`ca.crt` has no certificate"));

    // A certificate of another authority makes sense by itself: it is renewed.
    let mut secret = filled(&one);
    let data = secret.data.as_mut().unwrap();
    data.insert(
        "ca.crt".to_owned(),
        ByteString(to_pem(&other.authorities).into()),
    );
    let key = other.authority_key.as_bytes().to_vec();
    data.insert("ca.key".to_owned(), ByteString(key));
    let read = secret::read(&mut secret, &settings().names())
        .unwrap()
        .unwrap();
    assert_eq!(read.facts().signed_by, None);
}

#[test]
fn a_certificate_that_nobody_would_accept_is_an_error_and_no_endless_renewal() {
    let settings = config::Managed {
        service: "a".repeat(64),
        ..settings()
    };
    let old = made(Step::Start, None, start());
    for (step, old) in [(Step::Start, None), (Step::Renew, Some(&old))] {
        let taken = take(step, old, &[], &settings, start());
        let error = taken.map(|_made| ()).unwrap_err().to_string();
        assert!(error.contains("`--service`"), "{error}");
    }
}

pub(super) fn webhooks(bundles: [&str; 2]) -> MutatingWebhookConfiguration {
    let entry = |(place, bundle): (usize, &str)| {
        json!({
            "name": format!("w{place}.example"),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {
                "service": { "name": "injector", "namespace": "caios" },
                "caBundle": ByteString(bundle.into()),
            },
        })
    };
    let entries: Vec<_> = bundles.into_iter().enumerate().map(entry).collect();
    serde_json::from_value(json!({
        "metadata": { "name": "webhooks", "resourceVersion": "7" },
        "webhooks": entries,
    }))
    .unwrap()
}

#[test]
fn only_a_wrong_bundle_is_touched_and_only_while_nobody_else_does() {
    let material = made(Step::Start, None, start());
    let authorities = &material.authorities;
    let right = to_pem(authorities);
    let both = webhooks([&right, &right]);
    assert!(publishes(&both, &authorities[0]));
    assert_eq!(repair(&both, authorities), None);

    let one = webhooks([&right, ""]);
    assert!(!publishes(&one, &authorities[0]));
    let patch = repair(&one, authorities).unwrap();
    let mut patched = serde_json::to_value(&one).unwrap();
    json_patch::patch(&mut patched, &patch).unwrap();
    let patched: MutatingWebhookConfiguration = serde_json::from_value(patched).unwrap();
    assert_eq!(patched.webhooks, both.webhooks);

    let mut meanwhile = one;
    meanwhile.metadata.resource_version = Some("8".to_owned());
    let mut changed = serde_json::to_value(&meanwhile).unwrap();
    assert!(json_patch::patch(&mut changed, &patch).is_err());

    let nothing = MutatingWebhookConfiguration::default();
    assert!(!publishes(&nothing, &authorities[0]));
    assert_eq!(repair(&nothing, authorities), None);
}
