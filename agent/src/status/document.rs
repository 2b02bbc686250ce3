//! The document, as `caios-agent status --json` prints it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::cache::{FailureView as Failure, KeyView as Key};
pub use crate::identity::KeysView as IssuerKeys;
pub use crate::watch::{UnservedReason, UnservedView};

/// All that is told of an agent. Times are the node's clock; what is not known or not there is
/// `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The agent's release.
    pub version: String,
    /// The node that it serves, where it was told.
    pub node: Option<String>,
    /// When this was written.
    pub now: Timestamp,
    /// When the worker started.
    pub started_at: Timestamp,
    /// Workers that crashed before this one in its container.
    pub worker_restarts: u64,
    /// Panics that were caught.
    pub panics: u64,
    /// What `/readyz` asks for.
    pub readiness: Vec<Requirement>,
    /// The keys that tokens are verified with.
    pub issuer_keys: IssuerKeys,
    /// The way to CoreWeave's API.
    pub coreweave: CoreWeave,
    /// Requests that are held for a first exchange.
    pub held_requests: u64,
    /// Open connections of workloads.
    pub connections: u64,
    /// Identities in memory, by principal.
    pub identities: Vec<Identity>,
    /// Pods whose listeners are served, by namespace and name.
    pub pods: Vec<PodLine>,
    /// Pods of the node that run without what they need to be served, by namespace and name; `null`
    /// where Pods are not watched, and until the API server has shown them.
    pub unserved_pods: Option<Vec<Unserved>>,
    /// What is wrong and what to do, the worst first; empty when all is well.
    pub problems: Vec<Problem>,
}

/// A condition of readiness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// As `/readyz` names it.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
}

/// The state of the circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breaker {
    /// Exchanges pass.
    Closed,
    /// Exchanges are held back, but for one probe at a time.
    Open,
}

/// The way to CoreWeave's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreWeave {
    /// Where it is.
    pub url: String,
    /// Whether exchanges pass.
    pub breaker: Breaker,
    /// When the next probe of an open breaker is due at the latest, if none is out.
    pub next_probe_at: Option<Timestamp>,
    /// Until when CoreWeave asked for a pause of renewals.
    pub throttled_until: Option<Timestamp>,
    /// Exchanges under way.
    pub exchanges: usize,
    /// How many may be.
    pub max_exchanges: usize,
    /// Identities that CoreWeave refuses the POST form, so that their keys live 15 minutes.
    pub short_lived_identities: u64,
}

/// One identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What CoreWeave's policies call it.
    pub principal: String,
    /// `<namespace>/<ServiceAccount>`.
    pub service_account: String,
    /// The audience of its tokens.
    pub audience: String,
    /// The key in memory; `null` while there is none.
    pub key: Option<Key>,
    /// When it is to be renewed, or the exchange is tried again; `null` while nobody waits for it.
    pub next_exchange_at: Option<Timestamp>,
    /// Pods that have shown a token which is still valid.
    pub pods: usize,
    /// Requests that wait for its first key.
    pub held_requests: usize,
    /// Whether its renewal was due when no Pod had a valid token left.
    pub without_token: bool,
    /// What the last exchange failed with; `null` after one that did not.
    pub failure: Option<Failure>,
}

/// A Pod that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Where the agent listens in it.
    pub listeners: Vec<String>,
    /// Since when this agent serves them.
    pub since: Timestamp,
    /// The last request of it that got no credentials.
    pub last_error: Option<Refusal>,
}

/// A Pod that is to be served and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unserved {
    /// Which one, and what it lacks.
    #[serde(flatten)]
    pub pod: UnservedView,
    /// What to do about it.
    pub remedy: String,
}

/// A request that got no credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// The HTTP status that it got.
    pub status: u16,
    /// What its log shows.
    pub message: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What, and since when or how often.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}
