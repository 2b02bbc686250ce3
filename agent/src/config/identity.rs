//! Flags that say which tokens are accepted, and where the keys that verify them come from.

use std::time::Duration;

use super::MINUTE;
use super::args::{KeysFrom, RunArgs};
use crate::identity::{KeySource, Settings};
use shared::flags::Problems;

/// The settings of the verifier. `in_cluster` decides where keys come from by default.
pub(super) fn settings(
    args: &RunArgs,
    in_cluster: bool,
    problems: &mut Problems,
) -> (Settings, KeySource) {
    let capacity = problems.count(
        "--max-remembered-tokens",
        &args.max_remembered_tokens,
        16..=1_000_000,
    );
    // A variable that is set to nothing would refuse every token.
    problems.not_empty("--issuer", &args.issuer);
    problems.not_empty("--audience", &args.audiences);
    problems.not_empty("--node-name", &args.node_name);
    let settings = Settings {
        issuer: args.issuer.clone(),
        audiences: args.audiences.clone(),
        node: args.node_name.clone(),
        leeway: problems.duration(
            "--clock-skew",
            &args.clock_skew,
            Duration::ZERO..=5 * MINUTE,
        ),
        memo_capacity: capacity as u64,
    };
    (settings, key_source(args, in_cluster, problems))
}

fn key_source(args: &RunArgs, in_cluster: bool, problems: &mut Problems) -> KeySource {
    let from = args
        .keys_from
        .unwrap_or(match (&args.jwks_file, &args.jwks_url) {
            (Some(_), _) => KeysFrom::File,
            (None, Some(_)) => KeysFrom::Url,
            (None, None) if in_cluster => KeysFrom::ApiServer,
            (None, None) => KeysFrom::Issuer,
        });
    for (flag, given, used) in [
        (
            "--jwks-file",
            args.jwks_file.is_some(),
            from == KeysFrom::File,
        ),
        ("--jwks-url", args.jwks_url.is_some(), from == KeysFrom::Url),
    ] {
        if given && !used {
            problems.add(format!(
                "`{flag}` is given, but the keys come from elsewhere"
            ));
        }
    }
    if matches!(from, KeysFrom::Url | KeysFrom::File) && args.issuer.is_none() {
        problems.add("`--issuer` is missing: a bare key set does not name it");
    }
    let ca_file = args.issuer_ca_file.clone();
    match from {
        KeysFrom::ApiServer => KeySource::ApiServer {
            url: problems.url("--api-server-url", &args.api_server_url),
            ca_file: Some(args.service_account_directory.join("ca.crt")),
            token_file: args.service_account_directory.join("token"),
        },
        KeysFrom::Issuer => {
            match args.issuer.as_deref() {
                // An empty one is reported already.
                Some("") => {}
                Some(issuer) => {
                    problems.url("--issuer", issuer);
                }
                None => {
                    problems.add("`--issuer` is missing: outside a cluster nothing else names it");
                }
            }
            KeySource::Issuer {
                issuer: args.issuer.clone().unwrap_or_default(),
                ca_file,
            }
        }
        KeysFrom::Url => {
            if args.jwks_url.is_none() {
                problems.add("`--jwks-url` is missing: `--keys-from url` needs it");
            }
            let given = args.jwks_url.as_deref();
            KeySource::Url {
                url: problems.url("--jwks-url", given.unwrap_or(Problems::NOWHERE)),
                ca_file,
            }
        }
        KeysFrom::File => {
            if args.jwks_file.is_none() {
                problems.add("`--jwks-file` is missing: `--keys-from file` needs it");
            }
            KeySource::File(args.jwks_file.clone().unwrap_or_default())
        }
    }
}
