//! What keeps a whole Pod from being given credentials.

use std::fmt;

use super::list::Malformed;
use super::warnings::quote;

/// What keeps a whole Pod from being given credentials. As text: the reason, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle<'a> {
    /// This opts out of what the Pod's label demands.
    OptedOut(&'static str),
    /// The kubelet runs it without a ServiceAccount.
    Mirror,
    /// The agent runs on Linux.
    Windows,
    /// The runtime class keeps the Pod from the node's sockets.
    RuntimeClass(&'a str),
    /// The Pod has a volume of our name that is not ours.
    Volume(&'static str),
    /// The Pod has a container of our name that is not ours.
    Container(&'a str),
    /// Every container is skipped or has settings of its own.
    NoContainer,
    /// A part of the Pod is not what the API says.
    Malformed(Malformed),
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OptedOut(whose) => write!(
                formatter,
                "{whose} caios.coreweave.com/inject opts out; remove either that or the label"
            ),
            Self::Mirror => formatter.write_str(
                "it is a static Pod's mirror, which has no ServiceAccount; remove the label",
            ),
            Self::Windows => formatter.write_str(
                "it is for Windows, and the agent runs on Linux alone; give it static keys, or \
                 move it to Linux",
            ),
            Self::RuntimeClass(class) => write!(
                formatter,
                "Pods of runtime class {} cannot reach the sockets of their node; use another \
                 runtime class",
                quote(class)
            ),
            Self::Volume(name) => write!(
                formatter,
                "it has a volume named `{name}` that differs from the one to be added; rename or \
                 remove it"
            ),
            Self::Container(name) => write!(
                formatter,
                "it has a container named {} that differs from the one to be added; rename or \
                 remove it",
                quote(name)
            ),
            Self::NoContainer => formatter.write_str(
                "each of its containers is named in caios.coreweave.com/skip-containers or has \
                 settings of its own; change one of them",
            ),
            Self::Malformed(Malformed(path)) => write!(
                formatter,
                "{} is not what the API of Pods says; correct it",
                quote(path)
            ),
        }
    }
}

impl From<Malformed> for Obstacle<'_> {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}
