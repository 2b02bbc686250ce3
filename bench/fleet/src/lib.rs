//! A fleet of agents in one process: the agent's own cache and renewal, simulated time and network.
//!
//! Nothing here decides anything about renewals: what the figures say, the agent's code does.

pub mod day;
pub mod issuer;
pub mod node;
pub mod plan;
pub mod report;
#[cfg(test)]
mod tests;
