//! The chart: what both versions of Helm make of it, and what a real API server makes of that.

mod alerts;
mod containers;
mod golden;
mod release;
mod rendered;
mod rights;
mod values;
