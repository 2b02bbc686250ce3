//! What is wrong, and what to do about it. Pure.

use jiff::{SignedDuration, Timestamp};

use super::document::{Breaker, Document, Identity, Problem, UnservedReason, UnservedView};
use super::span::span;

/// A Pod's error that is older is history: its SDK would have asked again.
const RECENT: SignedDuration = SignedDuration::from_mins(15);

/// The problems of a document, the worst first: what keeps the whole node from keys, then single
/// identities, then single Pods, then what somebody should look at in the morning.
pub(super) fn problems(document: &Document) -> Vec<Problem> {
    let mut found = Vec::new();
    issuer_keys(document, &mut found);
    coreweave(document, &mut found);
    for identity in &document.identities {
        found.extend(of_identity(identity, document));
    }
    unserved(document, &mut found);
    for pod in &document.pods {
        let Some(error) = &pod.last_error else {
            continue;
        };
        let is_recent = document.now.duration_since(error.at) <= RECENT;
        if is_recent && !is_of_an_identity(&error.message, document) {
            found.push(Problem {
                what: format!(
                    "Pod {}/{} got HTTP {} in place of credentials {} ago",
                    pod.namespace,
                    pod.name,
                    error.status,
                    span(error.at, document.now)
                ),
                remedy: error.message.clone(),
            });
        }
    }
    of_the_process(document, &mut found);
    found
}

/// What to do about a Pod that is not served.
pub(super) fn for_unserved(pod: &UnservedView) -> String {
    let UnservedView {
        namespace, name, ..
    } = pod;
    let delete = format!("`kubectl -n {namespace} delete pod {name}`");
    match pod.reason {
        UnservedReason::ListenerLost => format!("{delete}: it enrols when it starts"),
        UnservedReason::ListenerRejected => format!(
            "see what runs `caios-enroll` elsewhere than in the Pod's own network, then {delete}"
        ),
        UnservedReason::NotInjected => format!(
            "{delete}: the injector completes the next one, or the warning at its creation says \
             why not"
        ),
    }
}

/// One problem for all Pods that lack the same: the table has each of them.
fn unserved(document: &Document, found: &mut Vec<Problem>) {
    for (reason, lack) in [
        (
            UnservedReason::ListenerLost,
            "run without a listener, and their SDKs get connection refused",
        ),
        (
            UnservedReason::ListenerRejected,
            "handed over a listener that was not in their own network, and are not served",
        ),
        (
            UnservedReason::NotInjected,
            "ask for credentials and were created without",
        ),
    ] {
        let pods = document.unserved_pods.iter().flatten();
        let count = pods.filter(|it| it.pod.reason == reason).count();
        if count > 0 {
            found.push(Problem {
                what: format!("{count} Pods {lack}"),
                remedy: "start them anew: `kubectl rollout restart` of what they belong to, or as \
                         the table of Pods that are not served says of each"
                    .to_owned(),
            });
        }
    }
}

/// Whether a Pod was told what is told of its identity already.
fn is_of_an_identity(message: &str, document: &Document) -> bool {
    // Long ones are cut.
    let told = message.trim_end_matches('…');
    let mut failures = document
        .identities
        .iter()
        .filter_map(|one| one.failure.as_ref());
    failures.any(|failure| told.contains(&failure.message) || failure.message.starts_with(told))
}

fn issuer_keys(document: &Document, found: &mut Vec<Problem>) {
    let keys = &document.issuer_keys;
    let source = &keys.source;
    match (&keys.issuer, &keys.failure) {
        (None, failure) => {
            let why = failure.as_deref().unwrap_or("the first load has not ended");
            found.push(Problem {
                what: format!("not ready: no key of the issuer is loaded from {source}: {why}"),
                remedy: "no token can be verified until this works, so no Pod gets keys: see that \
                         the source answers from this node, or choose another with `--keys-from`"
                    .to_owned(),
            });
        }
        (Some(_), Some(failure)) => found.push(Problem {
            what: format!("the issuer's keys cannot be loaded again from {source}: {failure}"),
            remedy: "the last good ones stay in use, and Pods notice nothing until the issuer \
                     rotates its keys: see that the source answers from this node"
                .to_owned(),
        }),
        (Some(_), None) => {}
    }
}

fn coreweave(document: &Document, found: &mut Vec<Problem>) {
    let coreweave = &document.coreweave;
    let url = &coreweave.url;
    if coreweave.breaker == Breaker::Open {
        let next = coreweave.next_probe_at.map_or_else(
            || "a probe is under way".to_owned(),
            |at| {
                format!(
                    "the next probe is in {} at the latest",
                    span(document.now, at)
                )
            },
        );
        let ends = document
            .identities
            .iter()
            .filter_map(|identity| identity.key.as_ref());
        let bound = match ends.map(|key| key.expires_at).min() {
            Some(end) => format!(
                "Pods whose keys are in memory notice nothing for {}",
                span(document.now, end)
            ),
            None => "no key is in memory: every request waits, and then gets 503".to_owned(),
        };
        found.push(Problem {
            what: format!("CoreWeave's API at {url} does not answer; {next}"),
            remedy: format!(
                "{bound}. Nothing on this node has to be restarted: see CoreWeave's status page, and \
                 whether this node reaches the API (egress, proxy, DNS, certificate authorities)"
            ),
        });
    }
    if let Some(until) = coreweave.throttled_until {
        found.push(Problem {
            what: format!(
                "CoreWeave's API asked for fewer calls; renewals pause for {}",
                span(document.now, until)
            ),
            remedy: "nothing, if it passes; if it comes back, ask CoreWeave for a higher limit or \
                     spread restarts of workloads"
                .to_owned(),
        });
    }
    if coreweave.short_lived_identities > 0 {
        found.push(Problem {
            what: format!(
                "{} of the identities have keys of 15 minutes, because CoreWeave refuses the POST \
                 form of the exchange",
                coreweave.short_lived_identities
            ),
            remedy: "let their policy allow `cwobject:CreateAccessKeyOIDC` for it: until then an \
                     outage of CoreWeave is noticed after some minutes"
                .to_owned(),
        });
    }
}

fn of_identity(identity: &Identity, document: &Document) -> Option<Problem> {
    let name = &identity.service_account;
    let left = |key_ends: Timestamp| span(document.now, key_ends);
    if let Some(failure) = &identity.failure {
        let ago = span(failure.at, document.now);
        let consequence = match &identity.key {
            Some(key) => format!("its Pods notice nothing for {}", left(key.expires_at)),
            None if failure.is_refusal => "its Pods get 403".to_owned(),
            None => "its Pods wait, and then get 503".to_owned(),
        };
        let next = identity.next_exchange_at.map_or_else(
            || "tried again when a Pod asks".to_owned(),
            |at| format!("tried again in {}", span(document.now, at)),
        );
        return Some(Problem {
            what: format!("{name}: the exchange failed {ago} ago: {}", failure.message),
            remedy: if failure.is_refusal {
                format!("{consequence}; change what the message names; {next}")
            } else {
                format!("{consequence}; {next} by itself")
            },
        });
    }
    let key = identity.key.as_ref()?;
    identity.without_token.then(|| Problem {
        what: format!("{name}: its renewal is due, and no Pod has a valid service account token"),
        remedy: format!(
            "nothing, if its Pods have ended; otherwise see that they read their token file again: \
             the next request brings a token, and its key lives for {}",
            left(key.expires_at)
        ),
    })
}

fn of_the_process(document: &Document, found: &mut Vec<Problem>) {
    if document.worker_restarts > 0 {
        found.push(Problem {
            what: format!(
                "the agent's worker crashed and was started again {} times; this one lives for {}",
                document.worker_restarts,
                span(document.started_at, document.now)
            ),
            remedy:
                "the container's log has a line for each with the signal or exit code: `signal 9` \
                     may be the memory limit (`agent.resources`); report anything else"
                    .to_owned(),
        });
    }
    if document.panics > 0 {
        found.push(Problem {
            what: format!("{} tasks of the agent panicked", document.panics),
            remedy: "the container's log has the places: report them".to_owned(),
        });
    }
}
