//! Flags that say how to exchange.

use std::collections::BTreeMap;
use std::time::Duration;

use super::args::RunArgs;
use super::{HOUR, MINUTE};
use crate::exchange::settings::Settings;
use shared::flags::Problems;

/// The settings of the exchange.
pub(super) fn settings(args: RunArgs, problems: &mut Problems) -> Settings {
    if args.org_id.is_none() {
        problems.add("`--org-id` is missing: the CoreWeave organisation that mints the keys");
    }
    let mut settings = Settings::new(args.org_id.as_deref().unwrap_or("missing"));
    settings.api = problems.url("--api-url", &args.api_url);
    settings.duration = problems.duration(
        "--credential-duration",
        &args.credential_duration,
        15 * MINUTE..=12 * HOUR,
    );
    settings.connect_timeout = problems.duration(
        "--exchange-connect-timeout",
        &args.exchange_connect_timeout,
        Duration::from_millis(100)..=Duration::from_secs(30),
    );
    settings.timeout = problems.duration(
        "--exchange-timeout",
        &args.exchange_timeout,
        Duration::from_millis(500)..=MINUTE,
    );
    settings.attributes = attributes(&args.attributes, problems);
    settings.session_token_placeholder = args.session_token_placeholder.into();
    settings.ca_file = args.ca_file;
    for problem in settings.problems() {
        problems.add(problem.to_string());
    }
    settings
}

fn attributes(given: &[String], problems: &mut Problems) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    for attribute in given {
        match attribute.split_once('=') {
            Some((key, value)) => {
                let before = attributes.insert(key.to_owned(), value.to_owned());
                if before.is_some() {
                    problems.add(format!("`--attribute` gives `{key}` twice"));
                }
            }
            None => problems.add(format!("`--attribute` is `{attribute}`: must be KEY=VALUE")),
        }
    }
    attributes
}
