//! The text.
//!
//! Names and units follow Prometheus' conventions. Labels have few values, all known beforehand: no path, no
//! hash and nothing that a job chose is among them.

use std::fmt;
use std::time::Duration;

use attachfs_commit::EarlyCounts;
use attachfs_store::{LatencyCounts, RequestKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::counts::MountCounts;

/// What `Content-Type` says of [`text`].
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The counts as text.
pub(crate) fn text(
    session: &str,
    counts: MountCounts,
    early: EarlyCounts,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("attachfs");
    let session = session.to_owned();
    registry.register_collector(Box::new(Exposed {
        session,
        counts,
        early,
    }));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Exposed {
    session: String,
    counts: MountCounts,
    early: EarlyCounts,
}

type Encoded = Result<(), fmt::Error>;

/// Labels that a metric may have: names and values.
type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Collector for Exposed {
    fn encode(&self, encoder: DescriptorEncoder) -> Encoded {
        let mut to = Writer(encoder);
        self.mount(&mut to)?;
        self.operations(&mut to)?;
        self.bytes(&mut to)?;
        self.store(&mut to)?;
        self.early_upload(&mut to)?;
        self.cache(&mut to)
    }
}

impl Exposed {
    fn mount(&self, to: &mut Writer<'_>) -> Encoded {
        let labels = [
            ("session", self.session.as_str()),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        to.gauges("mount_info", "Which mount this is", [(labels, 1.0)])?;
        let age = self.counts.age.as_secs_f64();
        to.gauge("mount_age_seconds", "Time since it was mounted", age)?;
        let open = self.counts.open_files as f64;
        to.gauge("open_files", "Files that are open", open)
    }

    fn operations(&self, to: &mut Writer<'_>) -> Encoded {
        let counts = &self.counts;
        let took = counts.operations.iter();
        to.histograms(
            "operation_duration_seconds",
            "Time from a request of the kernel to its answer",
            took.map(|of| ([("operation", of.operation.name())], &of.took)),
        )?;
        let failed = counts.operations.iter().flat_map(|of| {
            let failed = of.failed.iter();
            failed.map(|(kind, count)| {
                let labels = [("operation", of.operation.name()), ("error", kind.name())];
                (labels, *count)
            })
        });
        to.counters("operation_errors", "Operations that failed", failed)?;
        to.gauge(
            "operations_in_progress",
            "Operations without an answer",
            counts.operations_under_way as f64,
        )?;
        to.counter(
            "lookups_missing",
            "Look-ups of names that are not there",
            counts.names_missing,
        )
    }

    fn bytes(&self, to: &mut Writer<'_>) -> Encoded {
        let (files, fetch) = (&self.counts.files, &self.counts.fetch);
        let read = self.counts.bytes_read;
        to.counter("read_bytes", "Bytes that reads were answered with", read)?;
        let written = files.bytes_written;
        to.counter("written_bytes", "Bytes that were written", written)?;
        let from = [
            ("memory", fetch.bytes_from_memory),
            ("disk", fetch.bytes_from_disk),
            ("store", fetch.bytes_from_store),
        ];
        let unread = fetch.bytes_ahead - fetch.bytes_ahead_read;
        let ahead = [("yes", fetch.bytes_ahead_read), ("no", unread)];
        to.gauges(
            "prefetched_bytes",
            "Bytes that were fetched ahead of all reads, and whether they were read since",
            ahead.map(|(read, bytes)| ([("read", read)], bytes as f64)),
        )?;
        to.counters(
            "source_bytes",
            "Bytes of the manifests' files: found in memory by reads, loaded from the disk cache, fetched from the store",
            from.map(|(source, bytes)| ([("source", source)], bytes)),
        )
    }

    fn store(&self, to: &mut Writer<'_>) -> Encoded {
        let (counts, fetch) = (&self.counts, &self.counts.fetch);
        if let Some(requests) = counts.requests {
            let made = RequestKind::ALL.map(|kind| ([("kind", kind.name())], requests.of(kind)));
            to.counters(
                "store_requests",
                "Requests to the store, repeated ones included",
                made,
            )?;
        }
        to.counter(
            "store_retries",
            "Requests that were made again, and bodies whose rest was asked for",
            counts.retries(),
        )?;
        let failures = [
            ("damaged", fetch.damaged),
            ("wrong_length", fetch.wrong_length),
            ("missing", fetch.missing),
            ("failed", fetch.failed),
            ("timed_out", fetch.timed_out),
        ];
        to.counters(
            "fetch_failures",
            "Fetches that failed",
            failures.map(|(reason, count)| ([("reason", reason)], count)),
        )?;
        to.histograms(
            "store_first_byte_seconds",
            "Time from a request for part of an object to the beginning of its answer",
            [([], &counts.first_byte)],
        )?;
        let fetches = [
            ("in_flight", counts.under_way.requests),
            ("waiting", counts.under_way.waiting),
        ];
        to.gauges(
            "fetches",
            "Requests for parts of objects that are under way, and those that wait for their turn or for memory",
            fetches.map(|(state, count)| ([("state", state)], count as f64)),
        )
    }

    fn early_upload(&self, to: &mut Writer<'_>) -> Encoded {
        let early = &self.early;
        to.counter(
            "early_upload_bytes",
            "Bytes of outputs that were sent before a commit",
            early.sent_bytes,
        )?;
        let files = [("sent", early.files), ("waiting", early.waiting)];
        to.gauges(
            "early_upload_files",
            "Outputs that are not committed: sent already, and waiting to be",
            files.map(|(state, count)| ([("state", state)], count as f64)),
        )
    }

    fn cache(&self, to: &mut Writer<'_>) -> Encoded {
        let fetch = &self.counts.fetch;
        let events = [
            ("hit", fetch.disk_hits),
            ("written", fetch.disk_written),
            ("dropped", fetch.disk_dropped),
            ("evicted", fetch.disk_evicted),
            ("damaged", fetch.disk_damaged),
        ];
        to.counters(
            "cache_objects",
            "Objects, and units of large ones, by what became of them in the disk cache",
            events.map(|(event, count)| ([("event", event)], count)),
        )?;
        to.counter(
            "cache_dropped_bytes",
            "Bytes that the disk cache did not keep, because its disk was too slow, full or failing",
            fetch.disk_dropped_bytes,
        )?;
        to.counter(
            "cache_disk_failures",
            "Times the disk under the cache failed",
            fetch.disk_failed,
        )?;
        to.counter(
            "passthrough_opens",
            "Opens of complete files of the disk cache, which the kernel then reads by itself",
            self.counts.files.passthrough_opens,
        )?;
        to.counter(
            "passthrough_scratch_opens",
            "Opens of files of the job, which the kernel then reads and writes by itself",
            self.counts.files.passthrough_scratch_opens,
        )
    }
}

/// Writes one metric after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn metric(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        encode: impl FnOnce(MetricEncoder<'_>) -> Encoded,
    ) -> Encoded {
        encode(self.0.encode_descriptor(name, help, None, kind)?)
    }

    fn family<'a, const N: usize, T>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        all: impl IntoIterator<Item = (Labels<'a, N>, T)>,
        encode: impl Fn(MetricEncoder<'_>, T) -> Encoded,
    ) -> Encoded
    where
        Labels<'a, N>: EncodeLabelSet,
    {
        self.metric(name, help, kind, |mut metric| {
            for (labels, value) in all {
                encode(metric.encode_family(&labels)?, value)?;
            }
            Ok(())
        })
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) -> Encoded {
        self.counters(name, help, [([], count)])
    }

    fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
    ) -> Encoded {
        let descriptor = (name, help, MetricType::Counter);
        self.family(descriptor, all, |mut metric, count| {
            metric.encode_counter::<NoLabelSet, _, u64>(&count, None)
        })
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> Encoded {
        self.gauges(name, help, [([], value)])
    }

    fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels<'a, N>, f64)>,
    ) -> Encoded {
        let descriptor = (name, help, MetricType::Gauge);
        self.family(descriptor, all, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    fn histograms<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (Labels<'a, N>, &'a LatencyCounts)>,
    ) -> Encoded {
        let descriptor = (name, help, MetricType::Histogram);
        self.family(descriptor, all, |mut metric, took| {
            let steps = took.steps();
            let steps = steps.iter().map(|(end, count)| {
                let end = end.map_or(f64::INFINITY, |end: Duration| end.as_secs_f64());
                (end, *count)
            });
            let steps: Vec<_> = steps.collect();
            let total = took.total.as_secs_f64();
            metric.encode_histogram::<NoLabelSet>(total, took.count, &steps, None)
        })
    }
}
