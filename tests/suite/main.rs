//! The component suite: the real agent and the real `caios-enroll` as processes, Pods in network
//! namespaces, the stand-in for issuer and CoreWeave. `cargo test` runs it and needs nothing else.

#![cfg(test)]

mod abuse;
mod check;
mod check_config;
mod credentials;
mod csi;
mod docs;
mod enrolment;
mod handover;
mod heir;
mod outage;
mod prepare;
mod proxy;
mod registration;
mod relay;
mod secrets;
mod shutdown;
mod status;
mod supervise;
mod tokens;
