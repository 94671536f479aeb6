//! What a person sees of the demo: one line a message, the hashes, the latencies.
//!
//! Latencies are shown as median and p99, of the same calls each way: a mean would hide what a person notices.

use std::{
    io::{self, Write},
    time::Duration,
};

use shadowcat_codecs::{
    Limits,
    envelope::{EnvelopeParser, Kind},
};

use super::server::Digest;

/// Where a message went.
#[derive(Clone, Copy)]
pub(super) enum Way {
    ToServer,
    ToClient,
}

/// Times of many calls, sorted.
pub(super) struct Latencies(Vec<Duration>);

/// One line about one message.
pub(super) fn write_message(out: &mut impl Write, way: Way, message: &[u8]) -> io::Result<()> {
    let mut parser = EnvelopeParser::new(Limits::default());
    let envelope = parser.parse(message).map_err(io::Error::other)?;
    let text = |span: Option<shadowcat_codecs::Span>| {
        span.map(|span| String::from_utf8_lossy(span.of(message)).into_owned()).unwrap_or_default()
    };
    let arrow = match way {
        Way::ToServer => "──►",
        Way::ToClient => "◄──",
    };
    let kind = match envelope.kind() {
        Kind::Request => "request",
        Kind::Notification => "notification",
        Kind::Response => "response",
        Kind::Error => "error",
        Kind::Batch => "batch",
        Kind::Other => "other",
    };
    let (method, id, len) = (text(envelope.method()), text(envelope.id()), message.len());
    writeln!(out, "  client {arrow} server  {kind:<13}{method:<27}{id:<22}{len:>4} bytes")
}

/// One direction's bytes at both ends.
pub(super) fn write_hashes(
    out: &mut impl Write,
    here: &str,
    seen_here: &Digest,
    there: &str,
    hash_there: &str,
) -> io::Result<()> {
    let hash = format!("{:016x}", seen_here.hash());
    let verdict = if hash == hash_there { "equal" } else { "DIFFERENT" };
    let Digest { messages, bytes, .. } = seen_here;
    writeln!(out, "  {here:<16}{messages:>2} messages {bytes:>5} bytes  {hash}")?;
    writeln!(out, "  {there:<35}{hash_there}  {verdict}")
}

/// Latencies side by side, and their difference.
pub(super) fn write_costs(out: &mut impl Write, direct: &Latencies, through: &Latencies) -> io::Result<()> {
    writeln!(out, "              median        p99")?;
    for (name, latencies) in [("direct", direct), ("through", through)] {
        let [median, p99] = [50, 99].map(|percent| micros(latencies.percentile(percent)));
        writeln!(out, "  {name:<8}{median:>8} µs{p99:>8} µs")?;
    }
    let added = |percent| micros(through.percentile(percent).saturating_sub(direct.percentile(percent)));
    writeln!(out, "  {:<8}{:>8} µs{:>8} µs", "added", added(50), added(99))
}

impl Latencies {
    pub(super) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn percentile(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or_default()
    }
}

fn micros(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}
