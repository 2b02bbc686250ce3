//! What is measured, one file for each subject.

pub mod cached;
pub mod connections;
pub mod enrolment;
pub mod idle;
pub mod instructions;
pub mod latency;
pub mod review;
pub mod sizes;
pub mod start;
pub mod storm;
pub mod webhook;
