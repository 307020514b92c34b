//! Prometheus text exposition (format 0.0.4) of a status report. Pure: a report in, text out.
//!
//! Built on the `prometheus` crate's encoder, fed with families made from the report:
//! `prometheus-client` writes `OpenMetrics` only, whose counters are untyped to a 0.0.4 parser.

mod datapath;
mod listeners;
mod node;
mod proxy;

#[cfg(test)]
mod tests;

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::{
    proxy::stats::{BOUNDS, HistogramTotals},
    report::StatusReport,
};

/// What [`render`] writes.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The report in the text format.
pub fn render(report: &StatusReport) -> Result<String, prometheus::Error> {
    let mut families = Vec::new();
    node::families(report, &mut families);
    if let Some(datapath) = &report.datapath {
        datapath::families(datapath, &mut families);
        datapath::outcomes(report, &mut families);
    }
    listeners::families(report, &mut families);
    if let Some(proxy) = &report.proxy {
        proxy::families(proxy, &mut families);
    }
    // The encoder refuses a family without samples.
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

/// Label names with values.
type Labels<'a> = &'a [(&'static str, &'a str)];

/// A family that only grows; `name` ends in `_total`.
fn counter(name: &str, help: &str) -> MetricFamily {
    family(name, help, MetricType::COUNTER)
}

/// A family that goes up and down.
fn gauge(name: &str, help: &str) -> MetricFamily {
    family(name, help, MetricType::GAUGE)
}

/// A family of durations.
fn histogram(name: &str, help: &str) -> MetricFamily {
    family(name, help, MetricType::HISTOGRAM)
}

fn family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("alb_{name}"));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&'static str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// Adds a sample to a family.
trait Sample {
    fn with(&mut self, labels: Labels<'_>, value: f64);

    /// Exact up to 2⁵³, as every number of the format is.
    #[expect(clippy::cast_precision_loss, reason = "the exposition format's numbers are doubles")]
    fn with_count(&mut self, labels: Labels<'_>, value: u64) {
        self.with(labels, value as f64);
    }

    fn with_flag(&mut self, labels: Labels<'_>, value: bool) {
        self.with_count(labels, u64::from(value));
    }
}

impl Sample for MetricFamily {
    fn with(&mut self, labels: Labels<'_>, value: f64) {
        let mut metric = Metric::from_label(pairs(labels));
        if self.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.mut_metric().push(metric);
    }
}

/// Adds the buckets of one series; the encoder adds the one without a bound.
#[expect(clippy::cast_precision_loss, reason = "the exposition format's numbers are doubles")]
fn observed(family: &mut MetricFamily, labels: Labels<'_>, totals: &HistogramTotals) {
    let mut below = 0;
    let buckets = BOUNDS.iter().enumerate().map(|(index, bound)| {
        below += totals.buckets.get(index).copied().unwrap_or_default();
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound as f64 / 1e6);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(totals.count());
    histogram.set_sample_sum(totals.sum as f64 / 1e9);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_histogram(histogram);
    family.mut_metric().push(metric);
}
