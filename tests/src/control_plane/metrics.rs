//! The API server's own measurements.

use super::ControlPlane;

/// A histogram as the API server shows it, summed over the series with the labels asked for.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Upper bounds with the number of observations up to them, in rising order.
    pub buckets: Vec<(f64, f64)>,
    /// All observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
}

impl ControlPlane {
    /// A histogram of the API server, such as `apiserver_admission_webhook_admission_duration_seconds`,
    /// of the series that have all these `labels`, each as `name="value"`.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn histogram(&self, family: &str, labels: &[&str]) -> anyhow::Result<Histogram> {
        let text = self.get("/metrics")?.accepted()?.body;
        let text = text.as_str().unwrap_or_default();
        let mut histogram = Histogram::default();
        for line in text.lines() {
            histogram.add(line, family, labels);
        }
        histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(histogram)
    }
}

impl Histogram {
    fn add(&mut self, line: &str, family: &str, labels: &[&str]) -> Option<()> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, shown) = series.split_once('{')?;
        let part = name.strip_prefix(family)?;
        if !labels.iter().all(|label| shown.contains(label)) {
            return None;
        }
        let value: f64 = value.parse().ok()?;
        match part {
            "_count" => self.count += value,
            "_sum" => self.sum += value,
            "_bucket" => {
                let bound = shown.split_once("le=\"")?.1.split_once('"')?.0;
                let bound: f64 = bound.replace("+Inf", "inf").parse().ok()?;
                match self
                    .buckets
                    .iter_mut()
                    .find(|(known, _)| known.total_cmp(&bound).is_eq())
                {
                    Some((_, count)) => *count += value,
                    None => self.buckets.push((bound, value)),
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// What was observed since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            let mut known = earlier.buckets.iter();
            known
                .find(|(known, _)| known.total_cmp(&bound).is_eq())
                .map_or(0.0, |(_, count)| *count)
        };
        Self {
            buckets: self
                .buckets
                .iter()
                .map(|&(bound, count)| (bound, count - before(bound)))
                .collect(),
            count: self.count - earlier.count,
            sum: self.sum - earlier.sum,
        }
    }

    /// The value below which the share `q` of the observations lies (0 to 1), interpolated within
    /// its bucket as Prometheus does. `None` without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = self.count * q;
        let (mut below, mut floor) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if self.count > 0.0 && count >= rank && count > below {
                let share = (rank - below) / (count - below);
                return Some(if bound.is_finite() {
                    floor + (bound - floor) * share
                } else {
                    floor
                });
            }
            (below, floor) = (count, bound);
        }
        None
    }
}
