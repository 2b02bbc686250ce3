//! The document on one screen, for a person at 3 a.m. Pure.

use std::fmt::Write as _;

use super::document::{Breaker, Document, Identity, PodLine, Unserved, UnservedReason};
use super::span::span;

/// What stands where there is nothing to say.
const NOTHING: &str = "–";

/// Renders the document: what is wrong first, then the node, its identities and its Pods.
pub fn render(document: &Document) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(&mut text, document);
    text
}

fn write_all(text: &mut String, document: &Document) -> std::fmt::Result {
    let unmet: Vec<_> = document
        .readiness
        .iter()
        .filter(|requirement| !requirement.holds)
        .map(|requirement| requirement.name.as_str())
        .collect();
    let ready = if unmet.is_empty() {
        "ready".to_owned()
    } else {
        format!("NOT READY ({})", unmet.join(", "))
    };
    let node = document.node.as_deref().unwrap_or("a node without a name");
    writeln!(
        text,
        "caios-agent {} on {node}: {ready}, up {}, {} worker restarts",
        document.version,
        span(document.started_at, document.now),
        document.worker_restarts
    )?;
    write_node(text, document)?;
    if document.problems.is_empty() {
        writeln!(text, "\nNo problem is known.")?;
    } else {
        writeln!(text, "\nPROBLEMS")?;
    }
    for problem in &document.problems {
        writeln!(text, "! {}\n  do: {}", problem.what, problem.remedy)?;
    }
    let mut rows = vec![row([
        "IDENTITY",
        "KEY AGE",
        "EXPIRES IN",
        "NEXT EXCHANGE",
        "PODS",
        "STATE",
    ])];
    rows.extend(
        document
            .identities
            .iter()
            .map(|identity| identity_row(identity, document)),
    );
    write_table(text, &rows)?;
    let mut rows = vec![row([
        "POD",
        "SERVICE ACCOUNT",
        "LISTENER",
        "SINCE",
        "LAST ERROR",
    ])];
    rows.extend(document.pods.iter().map(|pod| pod_row(pod, document)));
    write_table(text, &rows)?;
    let unserved = document.unserved_pods.as_deref().unwrap_or_default();
    if unserved.is_empty() {
        return Ok(());
    }
    let mut rows = vec![row([
        "POD THAT IS NOT SERVED",
        "SERVICE ACCOUNT",
        "WHY",
        "DO",
    ])];
    rows.extend(unserved.iter().map(unserved_row));
    write_table(text, &rows)
}

fn write_node(text: &mut String, document: &Document) -> std::fmt::Result {
    let keys = &document.issuer_keys;
    match &keys.issuer {
        Some(issuer) => writeln!(
            text,
            "issuer     {} keys of {issuer} from {}",
            keys.count, keys.source
        )?,
        None => writeln!(text, "issuer     no keys yet from {}", keys.source)?,
    }
    let coreweave = &document.coreweave;
    let breaker = match coreweave.breaker {
        Breaker::Closed => "breaker closed",
        Breaker::Open => "BREAKER OPEN",
    };
    writeln!(
        text,
        "CoreWeave  {breaker}, {} of {} exchanges under way, {}",
        coreweave.exchanges, coreweave.max_exchanges, coreweave.url
    )?;
    let keys = document
        .identities
        .iter()
        .filter_map(|identity| identity.key.as_ref());
    let ends: Vec<_> = keys.map(|key| key.expires_at).collect();
    let first = ends.iter().min().map_or_else(
        || "none in memory".to_owned(),
        |end| {
            format!(
                "{} in memory, the first expires in {}",
                ends.len(),
                span(document.now, *end)
            )
        },
    );
    writeln!(text, "keys       {first}")?;
    writeln!(
        text,
        "serving    {} Pods, {} connections, {} requests held",
        document.pods.len(),
        document.connections,
        document.held_requests
    )
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn identity_row(identity: &Identity, document: &Document) -> Vec<String> {
    let now = document.now;
    let nothing = || NOTHING.to_owned();
    let received_at = identity.key.as_ref().and_then(|key| key.received_at);
    let state = match (&identity.key, &identity.failure) {
        (Some(_), None) if identity.without_token => "no token to renew with",
        (Some(_), None) => "good",
        (Some(_), Some(_)) => "good, renewal fails",
        (None, Some(failure)) if failure.is_refusal => "REFUSED",
        (None, Some(_)) => "NO KEY",
        (None, None) if identity.held_requests > 0 => "first exchange",
        (None, None) => "idle",
    };
    vec![
        identity.service_account.clone(),
        received_at.map_or_else(nothing, |at| span(at, now)),
        identity
            .key
            .as_ref()
            .map_or_else(nothing, |key| span(now, key.expires_at)),
        identity
            .next_exchange_at
            .map_or_else(nothing, |at| format!("in {}", span(now, at))),
        identity.pods.to_string(),
        state.to_owned(),
    ]
}

fn pod_row(pod: &PodLine, document: &Document) -> Vec<String> {
    let error = pod.last_error.as_ref().map_or_else(
        || NOTHING.to_owned(),
        |error| format!("{}, {} ago", error.status, span(error.at, document.now)),
    );
    vec![
        format!("{}/{}", pod.namespace, pod.name),
        pod.service_account.clone(),
        pod.listeners.join(" "),
        span(pod.since, document.now),
        error,
    ]
}

fn unserved_row(unserved: &Unserved) -> Vec<String> {
    let pod = &unserved.pod;
    let why = match pod.reason {
        UnservedReason::ListenerLost => "no listener",
        UnservedReason::ListenerRejected => "listener refused",
        UnservedReason::NotInjected => "not injected",
    };
    vec![
        format!("{}/{}", pod.namespace, pod.name),
        pod.service_account.clone(),
        why.to_owned(),
        unserved.remedy.clone(),
    ]
}

/// Columns as wide as what is in them; the first row is the heading.
fn write_table(text: &mut String, rows: &[Vec<String>]) -> std::fmt::Result {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    writeln!(text)?;
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(text, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
