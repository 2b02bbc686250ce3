//! The harness: nodes and Pods in network namespaces of their own, the real binaries as child
//! processes, and the stand-in.

pub mod agent;
pub mod binaries;
pub mod container;
pub mod http;
pub mod link;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod relay;
pub mod wait;
