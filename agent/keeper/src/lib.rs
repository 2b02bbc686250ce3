//! Keeps what must outlive an agent: the listeners in its Pods' network namespaces, and a snapshot
//! of its cache. The process is `caios-keeper`, the second container of the agent's Pod.
//!
//! It has no data path. It never accepts a connection of a Pod and never reads a snapshot: it holds
//! descriptors, hands them to the agent of its own Pod whenever that (re)connects, and passes them
//! on to the keeper of the Pod that takes this one's place. As long as somebody holds a listener,
//! connections wait in its backlog instead of being refused. The connections that an agent is just
//! answering wait with it too, in sockets that are handed on unread.
//!
//! [`protocol`] and [`packet`] are what the agent speaks too. Start with [`run`].

mod arguments;
mod descriptor;
mod keeper;
pub mod packet;
mod peer;
pub mod protocol;
mod signals;
mod store;
mod succession;

pub use arguments::Arguments;
pub use descriptor::{MAX_SNAPSHOT_BYTES, Unfit, check_listener, check_snapshot};
pub use keeper::{Problem, Settings, run, run_until_asked};
