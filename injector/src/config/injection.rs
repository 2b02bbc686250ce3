//! Flags that say what Pods get.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::flags::Problems;

use super::args::RunArgs;
use super::choices::VolumeFlag;
use crate::mutate::{Delivery, EnrolmentMode, PullPolicy, Resources, Settings, VolumeChoice};
use crate::name::is_name;

/// What Pods get, as far as the flags say it: audiences may come from the injector's own token.
#[derive(Clone, Debug)]
pub struct Injection {
    image: String,
    pull_policy: PullPolicy,
    resources: Resources,
    audience: Option<String>,
    additional_audiences: BTreeSet<String>,
    api_audiences: BTreeSet<String>,
    token_expiration: u32,
    region: Option<String>,
    s3_endpoint: Option<String>,
    delivery: Delivery,
    volume: VolumeChoice,
    csi: bool,
    port: u16,
    enrolment_mode: EnrolmentMode,
    public_directory: String,
    relay_runtime_classes: BTreeSet<String>,
    unsupported_runtime_classes: BTreeSet<String>,
}

impl Injection {
    /// Whether the flags leave something to the injector's own token.
    pub fn needs_own_token(&self) -> bool {
        self.audience.is_none() || self.api_audiences.is_empty()
    }

    /// Completes the settings: `issuer` and `audiences` are those of the injector's own token, and
    /// take the place of what no flag gives.
    pub fn complete(self, issuer: &str, audiences: &[String]) -> Settings {
        let api_audiences = if self.api_audiences.is_empty() {
            audiences.iter().cloned().collect()
        } else {
            self.api_audiences
        };
        Settings {
            image: self.image,
            pull_policy: self.pull_policy,
            resources: self.resources,
            audience: self.audience.unwrap_or_else(|| issuer.to_owned()),
            additional_audiences: self.additional_audiences,
            api_audiences,
            token_expiration: self.token_expiration,
            region: self.region,
            s3_endpoint: self.s3_endpoint,
            delivery: self.delivery,
            volume: self.volume,
            csi: self.csi,
            port: self.port,
            enrolment_mode: self.enrolment_mode,
            public_directory: self.public_directory,
            relay_runtime_classes: self.relay_runtime_classes,
            unsupported_runtime_classes: self.unsupported_runtime_classes,
        }
    }
}

/// What Pods get.
pub(super) fn settings(args: &RunArgs, problems: &mut Problems) -> Injection {
    for (flag, given) in [
        ("--image", &args.image),
        ("--audience", &args.audience),
        ("--region", &args.region),
    ] {
        problems.not_empty(flag, given);
    }
    problems.not_empty("--additional-audience", &args.additional_audiences);
    problems.not_empty("--api-audience", &args.api_audiences);
    if args.image.is_none() {
        problems.add("`--image` is missing: the image with `caios-enroll`");
    }
    if let Some(endpoint) = &args.s3_endpoint {
        problems.url("--s3-endpoint", endpoint);
    }
    for (flag, quantity) in [
        ("--enroll-cpu", &args.enroll_cpu),
        ("--enroll-memory", &args.enroll_memory),
    ] {
        if !is_quantity(quantity) {
            problems.add(format!(
                "`{flag}` is `{quantity}`: must be a Kubernetes quantity above zero, such as `100m` or \
                 `32Mi`"
            ));
        }
    }
    if !is_clean_path(&args.public_directory) {
        problems.add(format!(
            "`--public-directory` is `{}`: must be an absolute path without `..` or `:`",
            args.public_directory
        ));
    }
    if args.volume == VolumeFlag::Csi && !args.csi {
        problems.add(
            "`--volume` is `csi`: must be `auto` or `hostPath`, or `--csi` must say that the nodes \
             have the driver",
        );
    }
    let expiration = problems.duration(
        "--token-expiration",
        &args.token_expiration,
        Duration::from_mins(10)..=Duration::from_hours(24),
    );
    let port = problems.count("--port", &args.port, 1024..=65_535);
    let (relay_runtime_classes, unsupported_runtime_classes) = runtime_classes(args, problems);
    Injection {
        image: args.image.clone().unwrap_or_default(),
        pull_policy: args.image_pull_policy.into(),
        resources: Resources {
            cpu: args.enroll_cpu.clone(),
            memory: args.enroll_memory.clone(),
        },
        audience: args.audience.clone(),
        additional_audiences: args.additional_audiences.iter().cloned().collect(),
        api_audiences: args.api_audiences.iter().cloned().collect(),
        token_expiration: u32::try_from(expiration.as_secs()).unwrap_or(u32::MAX),
        region: args.region.clone(),
        s3_endpoint: args.s3_endpoint.clone(),
        delivery: args.delivery.into(),
        volume: args.volume.into(),
        csi: args.csi,
        port: u16::try_from(port).unwrap_or(u16::MAX),
        enrolment_mode: args.enrolment_mode.into(),
        public_directory: args.public_directory.clone(),
        relay_runtime_classes,
        unsupported_runtime_classes,
    }
}

fn runtime_classes(
    args: &RunArgs,
    problems: &mut Problems,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut classes = |flag: &str, given: &[String]| {
        // Set to nothing: no class at all.
        let named = given.iter().filter(|name| !name.is_empty());
        let named: BTreeSet<_> = named.cloned().collect();
        for name in &named {
            if !is_name(name) {
                problems.add(format!(
                    "`{flag}` is `{name}`: must be the name of a runtime class"
                ));
            }
        }
        named
    };
    let relay = classes("--relay-runtime-class", &args.relay_runtime_classes);
    let unsupported = classes(
        "--unsupported-runtime-class",
        &args.unsupported_runtime_classes,
    );
    for both in relay.intersection(&unsupported) {
        problems.add(format!(
            "`--relay-runtime-class` and `--unsupported-runtime-class` both name `{both}`"
        ));
    }
    (relay, unsupported)
}

/// Whether this is a Kubernetes quantity above zero in one of its usual forms: a decimal number and
/// a suffix.
fn is_quantity(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text.strip_prefix(number).unwrap_or_default();
    let known = ["", "m", "k", "M", "G", "Ki", "Mi", "Gi"].contains(&suffix);
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    known && plain && number.parse::<f64>().is_ok_and(|number| number > 0.0)
}

/// Whether the API server accepts this as the path of a hostPath volume and of a mount.
fn is_clean_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() > 1
        && !path.contains(':')
        && path.split('/').all(|part| part != "..")
}
