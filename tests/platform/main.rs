//! The real binaries and the chart on a real control plane: etcd, kube-apiserver, kubectl, Helm.
//! Not part of plain `cargo test`: it needs what `tests/tools/fetch.sh` installs, and `make test`
//! runs it.

#![cfg(test)]

mod agent;
mod cases;
mod chart;
mod control_plane;
mod helm_test;
mod injector;
mod kubectl;
mod prometheus;
mod reinvocation;
mod schemas;
mod tutorial;
mod warned;
mod watch;
