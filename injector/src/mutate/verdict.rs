//! What was decided about a Pod.

use serde_json::Value;

/// What was decided about a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The patch points it at its agent.
    Injected,
    /// It has everything already: an earlier call, or a template that was copied from a Pod.
    Unchanged,
    /// Nobody asked for injection.
    NotAsked,
    /// The Pod or its ServiceAccount opts out.
    OptedOut,
    /// It cannot be given credentials; it starts without, and a warning says why.
    Skipped,
    /// It cannot be given credentials and must not start without: a message says why.
    Refused,
}

impl Decision {
    /// All decisions, in the order of their declaration.
    pub const ALL: [Self; 6] = [
        Self::Injected,
        Self::Unchanged,
        Self::NotAsked,
        Self::OptedOut,
        Self::Skipped,
        Self::Refused,
    ];

    /// The decision as a metric's label and in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Unchanged => "unchanged",
            Self::NotAsked => "not_asked",
            Self::OptedOut => "opted_out",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
        }
    }
}

/// What was decided about a Pod, and what to tell the API server.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// JSON Patch (RFC 6902) operations, `add` alone. Empty unless injected.
    pub patch: Vec<Value>,
    /// What the person who applies the Pod should know, one sentence each. The API server shows
    /// them with `Warning: ` in front and cuts each at 256 bytes when they are many.
    pub warnings: Vec<String>,
    /// Why a refused Pod is refused and what to do.
    pub refusal: Option<String>,
}
