//! Flags that say whether and how this node's Pods are watched.

use std::time::Duration;

use super::MINUTE;
use super::args::RunArgs;
use crate::identity::KeySource;
use crate::watch::Settings;
use shared::flags::Problems;

/// The settings of the watch; `None` where Pods are not watched. `in_cluster` decides by default.
pub(super) fn settings(
    args: &RunArgs,
    keys: &KeySource,
    in_cluster: bool,
    problems: &mut Problems,
) -> Option<Settings> {
    let wanted = args
        .watch_pods
        .as_ref()
        .map(|flag| problems.read("--watch-pods", flag, false));
    let events = problems.read("--events", &args.events, true);
    problems.not_empty("--excluded-namespace", &args.excluded_namespaces);
    let grace = problems.duration(
        "--pod-grace",
        &args.pod_grace,
        Duration::from_secs(1)..=10 * MINUTE,
    );
    if wanted == Some(true) && args.node_name.is_none() {
        problems.add("`--node-name` is missing: `--watch-pods true` watches the Pods of that node");
    }
    if !wanted.unwrap_or(in_cluster) {
        return None;
    }
    Some(Settings {
        api_server: match keys {
            KeySource::ApiServer { url, .. } => url.clone(),
            _ => problems.url("--api-server-url", &args.api_server_url),
        },
        service_account_directory: args.service_account_directory.clone(),
        node: args.node_name.clone()?,
        excluded_namespaces: args.excluded_namespaces.iter().cloned().collect(),
        grace,
        events,
    })
}
