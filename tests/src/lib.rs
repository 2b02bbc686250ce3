//! The harness: nodes and Pods in network namespaces of their own, the real binaries as child
//! processes, the stand-in, and a real control plane.

pub mod admin;
pub mod agent;
pub mod binaries;
pub mod chart;
pub mod cluster;
pub mod container;
pub mod control_plane;
pub mod daemon;
pub mod family;
pub mod guest;
pub mod http;
pub mod injector;
pub mod keeper;
pub mod kubelet;
pub mod link;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod program;
pub mod prometheus;
pub mod relay;
pub mod server;
pub mod supervised;
pub mod tools;
pub mod wait;
pub mod webhook;
