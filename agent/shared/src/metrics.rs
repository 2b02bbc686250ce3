//! Metrics of one name with one label from a fixed set.
//!
//! Label values come from enums alone: nothing that a client sends can make a new series, and
//! every series exists from the start with the value 0. A series is found by index, never by text.

mod factory;

use std::marker::PhantomData;

pub use factory::Factory;
use prometheus::{Histogram, IntCounter, IntGauge};

/// One label: its name, its values, and their text. [`label!`](crate::label) declares one.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, each at its [`index`](Self::index).
    const ALL: &'static [Self];
    /// The value's place in [`ALL`](Self::ALL).
    fn index(self) -> usize;
    /// The value's text.
    fn text(self) -> &'static str;
}

/// Declares a `Label`: an enum and its texts, in one place.
#[macro_export]
macro_rules! label {
    ($(#[$doc:meta])* $visible:vis $name:ident = $label:literal { $($(#[$vdoc:meta])* $value:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visible enum $name { $($(#[$vdoc])* $value,)+ }

        impl $crate::metrics::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$value,)+];
            fn index(self) -> usize {
                self as usize
            }
            fn text(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }
    };
}

/// Metrics `M` of one name, one for each value of `L`.
#[derive(Clone, Debug)]
pub struct Family<L, M> {
    children: Vec<M>,
    label: PhantomData<L>,
}

/// Counters of one name, one for each value of `L`.
pub type Counters<L> = Family<L, IntCounter>;
/// Gauges of one name, one for each value of `L`.
pub type Gauges<L> = Family<L, IntGauge>;
/// Histograms of one name, one for each value of `L`.
pub type Histograms<L> = Family<L, Histogram>;

impl<L: Label, M> Family<L, M> {
    fn new(child: impl Fn(&'static str) -> M) -> Self {
        Self {
            children: L::ALL.iter().map(|value| child(value.text())).collect(),
            label: PhantomData,
        }
    }

    /// The metric of one label value.
    #[expect(
        clippy::indexing_slicing,
        reason = "one child for each value in `L::ALL`"
    )]
    pub fn of(&self, value: L) -> &M {
        &self.children[value.index()]
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::*;

    label! {
        /// Half of a day.
        Half = "half" {
            /// Until noon.
            Morning => "morning",
            /// From noon on.
            Evening => "evening",
        }
    }

    #[test]
    fn every_series_of_a_family_is_there_from_the_start_and_counts_for_its_value() {
        let registry = Registry::new();
        let make = Factory::new("day", &registry);
        make.build_info("1.2.3").unwrap();
        let cups = make.counters::<Half>("cups_total", "Cups.").unwrap();
        let open = make.gauges::<Half>("open", "Windows.").unwrap();
        let naps = make
            .histograms::<Half>("nap_seconds", "Naps.", &[60.0])
            .unwrap();
        cups.of(Half::Evening).inc();
        open.of(Half::Morning).set(2);
        naps.of(Half::Evening).observe(90.0);
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "day_build_info{version=\"1.2.3\"} 1",
            "day_cups_total{half=\"morning\"} 0",
            "day_cups_total{half=\"evening\"} 1",
            "day_open{half=\"morning\"} 2",
            "day_open{half=\"evening\"} 0",
            "day_nap_seconds_bucket{half=\"evening\",le=\"60\"} 0",
            "day_nap_seconds_count{half=\"evening\"} 1",
            "day_nap_seconds_count{half=\"morning\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        let twice = make.gauge("open", "Windows.");
        assert!(twice.is_err(), "one name, one metric");
    }
}
