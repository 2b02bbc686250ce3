//! Metrics of one name with one label from a fixed set: looked up by index, never by text.

use std::marker::PhantomData;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::labels::{ExchangeOutcome, Label, Method};

/// Counters of one name, one for each value of `L`.
#[derive(Clone, Debug)]
pub struct Counters<L> {
    children: Vec<IntCounter>,
    label: PhantomData<L>,
}

impl<L: Label> Counters<L> {
    /// The counter of one label value.
    #[expect(
        clippy::indexing_slicing,
        reason = "one child for each value in `L::ALL`"
    )]
    pub fn of(&self, value: L) -> &IntCounter {
        &self.children[value.index()]
    }
}

/// Histograms of one name, one for each value of `L`.
#[derive(Clone, Debug)]
pub struct Histograms<L> {
    children: Vec<Histogram>,
    label: PhantomData<L>,
}

impl<L: Label> Histograms<L> {
    /// The histogram of one label value.
    #[expect(
        clippy::indexing_slicing,
        reason = "one child for each value in `L::ALL`"
    )]
    pub fn of(&self, value: L) -> &Histogram {
        &self.children[value.index()]
    }
}

/// Gauges of one name, one for each value of `L`.
#[derive(Clone, Debug)]
pub struct Gauges<L> {
    children: Vec<IntGauge>,
    label: PhantomData<L>,
}

impl<L: Label> Gauges<L> {
    /// The gauge of one label value.
    #[expect(
        clippy::indexing_slicing,
        reason = "one child for each value in `L::ALL`"
    )]
    pub fn of(&self, value: L) -> &IntGauge {
        &self.children[value.index()]
    }
}

/// Counters by exchange method and outcome.
#[derive(Clone, Debug)]
pub struct ExchangeCounters(IntCounterVec);

impl ExchangeCounters {
    pub(super) const fn new(counters: IntCounterVec) -> Self {
        Self(counters)
    }

    /// The counter of one method and outcome.
    pub fn of(&self, method: Method, outcome: ExchangeOutcome) -> IntCounter {
        self.0.with_label_values(&[method.text(), outcome.text()])
    }
}

/// Makes metrics of one prefix and registers them.
pub(super) struct Factory<'a> {
    registry: &'a Registry,
}

impl<'a> Factory<'a> {
    pub(super) const fn new(registry: &'a Registry) -> Self {
        Self { registry }
    }

    pub(super) fn register<C: Collector + Clone + 'static>(
        &self,
        metric: C,
    ) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("caios_agent_{name}"), help)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(Self::opts(name, help))?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::with_opts(Self::opts(name, help))?)
    }

    pub(super) fn counters<L: Label>(
        &self,
        name: &str,
        help: &str,
    ) -> Result<Counters<L>, prometheus::Error> {
        let vec = self.register(IntCounterVec::new(Self::opts(name, help), &[L::NAME])?)?;
        let children = L::ALL
            .iter()
            .map(|l| vec.with_label_values(&[l.text()]))
            .collect();
        Ok(Counters {
            children,
            label: PhantomData,
        })
    }

    pub(super) fn gauges<L: Label>(
        &self,
        name: &str,
        help: &str,
    ) -> Result<Gauges<L>, prometheus::Error> {
        let vec = self.register(IntGaugeVec::new(Self::opts(name, help), &[L::NAME])?)?;
        let children = L::ALL
            .iter()
            .map(|l| vec.with_label_values(&[l.text()]))
            .collect();
        Ok(Gauges {
            children,
            label: PhantomData,
        })
    }

    pub(super) fn histograms<L: Label>(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histograms<L>, prometheus::Error> {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(buckets.to_vec());
        let vec = self.register(HistogramVec::new(opts, &[L::NAME])?)?;
        let children = L::ALL
            .iter()
            .map(|l| vec.with_label_values(&[l.text()]))
            .collect();
        Ok(Histograms {
            children,
            label: PhantomData,
        })
    }
}
