//! Owns how a family of metrics is declared and how its series are written. Names follow Prometheus: a prefix, base units,
//! `_total` at the end of what only rises. Never knows a family.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

use crate::metrics::Distribution;

/// In front of every name.
pub(super) const PREFIX: &str = "waymark";

/// What is counted; all but pieces is the last word of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Pieces,
    Bytes,
    Seconds,
}

/// A metric: its series differ in labels alone.
#[derive(Debug)]
pub(super) struct Family {
    /// Without prefix, unit and what the kind adds.
    pub(super) name: &'static str,
    pub(super) measure: Measure,
    pub(super) kind: MetricType,
    /// What a person who meets it has to know.
    pub(super) help: &'static str,
}

/// A number that goes up and down.
pub(super) const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, measure: Measure::Pieces, kind: MetricType::Gauge, help }
}

/// A number that only rises while the process lives.
pub(super) const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, measure: Measure::Pieces, kind: MetricType::Counter, help }
}

/// How long something took, in seconds.
pub(super) const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, measure: Measure::Seconds, kind: MetricType::Histogram, help }
}

/// What does not change while the process lives, in labels.
pub(super) const fn info(name: &'static str, help: &'static str) -> Family {
    Family { name, measure: Measure::Pieces, kind: MetricType::Info, help }
}

impl Family {
    /// Counted in bytes.
    pub(super) const fn bytes(self) -> Self {
        self.counted_in(Measure::Bytes)
    }

    /// Counted in seconds.
    pub(super) const fn seconds(self) -> Self {
        self.counted_in(Measure::Seconds)
    }

    const fn counted_in(self, measure: Measure) -> Self {
        Self { measure, ..self }
    }

    fn unit(&self) -> Option<&'static Unit> {
        match self.measure {
            Measure::Pieces => None,
            Measure::Bytes => Some(&Unit::Bytes),
            Measure::Seconds => Some(&Unit::Seconds),
        }
    }
}

/// Label names and values of one series; values may hold anything.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// What a scrape gives, as far as it is written.
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Begins a family. One without a series is named too, so that who looks for it knows that it exists.
    pub(super) fn family(&mut self, family: &'static Family) -> Result<Series<'_>, fmt::Error> {
        let Family { name, kind, help, .. } = family;
        self.0.encode_descriptor(name, help, family.unit(), *kind).map(Series)
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, family: &'static Family, value: u64) -> fmt::Result {
        self.family(family)?.gauge(&[], value)
    }

    /// A counter without labels.
    pub(super) fn counter(&mut self, family: &'static Family, value: u64) -> fmt::Result {
        self.family(family)?.counter(&[], value)
    }

    /// A histogram without labels.
    pub(super) fn histogram(
        &mut self,
        family: &'static Family,
        seen: &Distribution,
    ) -> fmt::Result {
        let no_exemplars = None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>;
        let Distribution { buckets, sum, count } = seen;
        self.family(family)?.0.encode_histogram(sum.as_secs_f64(), *count, buckets, no_exemplars)
    }
}

/// The series of one family.
pub(super) struct Series<'a>(MetricEncoder<'a>);

impl Series<'_> {
    pub(super) fn gauge(&mut self, labels: Labels<'_>, value: u64) -> fmt::Result {
        match labels {
            [] => self.0.encode_gauge(&value),
            _ => self.0.encode_family(&labels)?.encode_gauge(&value),
        }
    }

    pub(super) fn counter(&mut self, labels: Labels<'_>, value: u64) -> fmt::Result {
        let no_exemplar = None::<&Exemplar<NoLabelSet, f64>>;
        match labels {
            [] => self.0.encode_counter(&value, no_exemplar),
            _ => self.0.encode_family(&labels)?.encode_counter(&value, no_exemplar),
        }
    }

    /// A gauge that is no whole number.
    pub(super) fn fraction(&mut self, value: f64) -> fmt::Result {
        self.0.encode_gauge(&value)
    }

    /// A gauge with labels that may be no whole number, or below 0.
    pub(super) fn measured(&mut self, labels: Labels<'_>, value: f64) -> fmt::Result {
        self.0.encode_family(&labels)?.encode_gauge(&value)
    }

    /// A counter that is no whole number.
    pub(super) fn risen(&mut self, value: f64) -> fmt::Result {
        self.0.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
    }

    pub(super) fn info(&mut self, labels: Labels<'_>) -> fmt::Result {
        self.0.encode_info(&labels)
    }
}

/// What `gauge` and `counter` take.
pub(super) fn wide(number: usize) -> u64 {
    number as u64
}

/// Offsets and epochs are never negative.
pub(super) fn whole(number: impl Into<i64>) -> u64 {
    u64::try_from(number.into()).unwrap_or(0)
}
