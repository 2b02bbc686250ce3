//! Flags that say where the serving certificate comes from.

use std::path::PathBuf;
use std::time::Duration;

use shared::flags::Problems;

use super::args::RunArgs;
use super::choices::CertificatesFlag;
use crate::name::is_name;

const YEAR: Duration = Duration::from_hours(24 * 365);
/// humantime's year has 365.25 days.
const MOST_OF_AUTHORITY: Duration = Duration::from_hours(24 * 7_305);

/// Where the serving certificate comes from.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// Made, rotated and published by the injector itself.
    Managed(Managed),
    /// `tls.crt` and `tls.key` of a directory.
    Directory(PathBuf),
}

/// The certificate that the injector makes itself.
#[derive(Clone, Debug)]
pub struct Managed {
    /// The injector's namespace.
    pub namespace: String,
    /// The Secret that all replicas share. It must exist.
    pub secret: String,
    /// The `MutatingWebhookConfiguration` with our entries.
    pub webhook_configuration: String,
    /// The Service that the API server calls.
    pub service: String,
    /// Life of the serving certificate.
    pub certificate_lifetime: Duration,
    /// Life of the certificate authority.
    pub ca_lifetime: Duration,
}

impl Managed {
    /// The names that the serving certificate is for; the API server asks for the third.
    pub fn names(&self) -> [String; 4] {
        let Self {
            service, namespace, ..
        } = self;
        [
            service.clone(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ]
    }
}

/// The settings of the certificate.
pub(super) fn settings(args: &RunArgs, problems: &mut Problems) -> Certificates {
    let certificate_lifetime = problems.duration(
        "--certificate-lifetime",
        &args.certificate_lifetime,
        Duration::from_secs(10)..=YEAR + YEAR / 365,
    );
    let ca_lifetime = problems.duration(
        "--ca-lifetime",
        &args.ca_lifetime,
        Duration::from_secs(20)..=MOST_OF_AUTHORITY,
    );
    if ca_lifetime < 2 * certificate_lifetime {
        problems.add(
            "`--ca-lifetime` must be at least twice `--certificate-lifetime`, or every certificate \
             would need a new authority",
        );
    }
    match args.certificates {
        CertificatesFlag::Managed => {
            if args.certificate_directory.is_some() {
                problems.add(
                    "`--certificate-directory` is given, but `--certificates` is `managed`: choose one",
                );
            }
            Certificates::Managed(Managed {
                namespace: needed("--namespace", args.namespace.as_deref(), problems),
                secret: needed(
                    "--certificate-secret",
                    args.certificate_secret.as_deref(),
                    problems,
                ),
                webhook_configuration: needed(
                    "--webhook-configuration",
                    args.webhook_configuration.as_deref(),
                    problems,
                ),
                service: needed("--service", args.service.as_deref(), problems),
                certificate_lifetime,
                ca_lifetime,
            })
        }
        CertificatesFlag::Directory => {
            if args.certificate_directory.is_none() {
                problems.add(
                    "`--certificate-directory` is missing: `--certificates directory` needs it",
                );
            }
            Certificates::Directory(args.certificate_directory.clone().unwrap_or_default())
        }
    }
}

/// An object's name, which managed certificates need.
fn needed(flag: &str, given: Option<&str>, problems: &mut Problems) -> String {
    match given {
        Some(name) if is_name(name) => {}
        Some(name) => problems.add(format!(
            "`{flag}` is `{name}`: must be the name of a Kubernetes object"
        )),
        None => problems.add(format!(
            "`{flag}` is missing: `--certificates managed` needs it"
        )),
    }
    given.unwrap_or_default().to_owned()
}
