//! Makes the metrics of one program.

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::{Counters, Family, Gauges, Histograms, Label};

/// Makes metrics whose names begin with one prefix, and registers them.
#[derive(Debug)]
pub struct Factory<'a> {
    prefix: &'static str,
    registry: &'a Registry,
}

impl<'a> Factory<'a> {
    /// A factory for `prefix`, which the names get with an underscore behind it.
    pub const fn new(prefix: &'static str, registry: &'a Registry) -> Self {
        Self { prefix, registry }
    }

    /// What a metric is called and about, for those that no method here makes.
    pub fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("{}_{name}", self.prefix), help)
    }

    /// Registers a metric that was made from [`opts`](Self::opts).
    ///
    /// # Errors
    /// [`prometheus::Error`] when the registry has a metric of its name already.
    pub fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// Registers `build_info`, which says the program's version.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn build_info(&self, version: &str) -> Result<(), Error> {
        let opts = self.opts("build_info", "Always 1; the label has the version.");
        let info = IntGauge::with_opts(opts.const_label("version", version))?;
        self.register(info)?.set(1);
        Ok(())
    }

    /// A counter.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.register(IntCounter::with_opts(self.opts(name, help))?)
    }

    /// A gauge of whole numbers.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.register(IntGauge::with_opts(self.opts(name, help))?)
    }

    /// A gauge that is NaN, "not known", until it is set.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn unknown(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        let gauge = self.register(Gauge::with_opts(self.opts(name, help))?)?;
        gauge.set(f64::NAN);
        Ok(gauge)
    }

    /// A histogram with these upper bounds.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(opts)?)
    }

    /// Counters by a label.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn counters<L: Label>(&self, name: &str, help: &str) -> Result<Counters<L>, Error> {
        let vec = self.register(IntCounterVec::new(self.opts(name, help), &[L::NAME])?)?;
        Ok(Family::new(|value| vec.with_label_values(&[value])))
    }

    /// Gauges by a label.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn gauges<L: Label>(&self, name: &str, help: &str) -> Result<Gauges<L>, Error> {
        let vec = self.register(IntGaugeVec::new(self.opts(name, help), &[L::NAME])?)?;
        Ok(Family::new(|value| vec.with_label_values(&[value])))
    }

    /// Histograms by a label, with these upper bounds.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn histograms<L: Label>(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histograms<L>, Error> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets.to_vec());
        let vec = self.register(HistogramVec::new(opts, &[L::NAME])?)?;
        Ok(Family::new(|value| vec.with_label_values(&[value])))
    }
}
