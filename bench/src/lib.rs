//! The bench: how fast and how small the agent is, against the physical limit and against what users
//! would do without it.
//!
//! A [`stage::Stage`] has a node full of Pods and all contenders beside each other; each case measures
//! all of them in turns and gives [`report::Figure`]s; a [`report::Report`] is written as a table, as JSON
//! and as plots.
//!
//! ```text
//! plan ─► stage ─► case ─► report
//!           │        └─► load ─► contender
//!           └─► tests::node, tests::pod, tests::agent
//! ```

pub mod case;
pub mod contender;
pub mod cores;
pub mod hotpath;
pub mod load;
pub mod machine;
pub mod plan;
pub mod process;
pub mod report;
pub mod stage;
pub mod usual;
