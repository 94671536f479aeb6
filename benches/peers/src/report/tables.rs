//! The tables of the raw data, in Markdown.

use std::fmt::Write as _;

use super::data::{self, Data, Spread, Turns};
use crate::{
    contestant::Kind,
    record::{Record, quantile},
};

pub const PERCENT_999: f64 = 0.999;

/// What others are held against on a link.
pub fn yardstick(link: &str) -> &'static str {
    match link {
        "pipe" => "cat",
        "relay" => "nginx",
        _ => "sdk-relay",
    }
}

pub fn size_name(size: usize) -> String {
    match size {
        ..1024 => format!("{size} B"),
        1024..0x10_0000 => format!("{} KiB", size >> 10),
        _ => format!("{} MiB", size >> 20),
    }
}

pub fn link_name(link: &str) -> &'static str {
    match link {
        "pipe" => "`pipe`: stdio to a child",
        "dial" => "`dial`: stdio to HTTP",
        "mux" => "`mux`: HTTP to a child",
        _ => "`relay`: HTTP to HTTP",
    }
}

fn pin_name(pin: &str) -> &'static str {
    match pin {
        "one" => "everything on one core",
        "two" => "the proxy on one core, both ends on another",
        _ => "not pinned",
    }
}

/// As many digits as mean something; `–` for nothing.
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 10_000.0 => format!("{:.0}k", value / 1e3),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

pub fn ratio(spread: Option<Spread>) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { low, median, high }) => {
            format!("{} ({}–{})", figure(Some(median)), figure(Some(low)), figure(Some(high)))
        }
    }
}

/// Calls on one link, pinned in one way.
pub fn calls(data: &Data, place: (&str, &str), out: &mut String) {
    let yardstick = yardstick(place.0);
    _ = writeln!(out, "\n### {}, {}\n", link_name(place.0), pin_name(place.1));
    _ = writeln!(
        out,
        "| call | through | p50 µs | p90 | p99 | p99.9 | p50 added | calls/s | of {yardstick}'s (quartiles) | CPU µs/call | CPU, many | answers |"
    );
    _ = writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|");
    for size in data.sizes() {
        let direct = data.turns("latency", place, size, "direct");
        let held = data.turns("throughput", place, size, yardstick);
        for kind in Kind::ALL {
            let one = data.turns("latency", place, size, kind.name());
            let many = data.turns("throughput", place, size, kind.name());
            if one.is_empty() && many.is_empty() {
                continue;
            }
            let histograms = one.records().map(|record| &record.histogram);
            let cells = [
                size_name(size),
                kind.name().to_owned(),
                figure(one.median(data::p50)),
                figure(one.median(|record| Some(record.p90_us).filter(|time| *time > 0.0))),
                figure(one.median(|record| Some(record.p99_us).filter(|time| *time > 0.0))),
                figure(quantile(histograms, PERCENT_999)),
                figure(one.added(&direct, data::p50).map(|spread| spread.median)),
                figure(many.median(data::rate)),
                ratio(many.against(&held, data::rate)),
                figure(one.median(data::cpu)),
                figure(many.median(data::cpu)),
                verdict(&one, &many),
            ];
            _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }
}

fn verdict(one: &Turns<'_>, many: &Turns<'_>) -> String {
    match (one.verdict(), many.verdict()) {
        (one, many) if one == many => one,
        (one, many) => format!("{one}; {many} with many in flight"),
    }
}

pub fn notifications(data: &Data, out: &mut String) {
    _ = writeln!(
        out,
        "| link | through | notifications/s | of the yardstick's (quartiles) | CPU µs each | arrived | in order, before the answer |"
    );
    _ = writeln!(out, "|---|---|---:|---:|---:|---:|---|");
    for place in data.places() {
        let held = data.turns("notify", place, 0, yardstick(place.0));
        for kind in Kind::ALL {
            let turns = data.turns("notify", place, 0, kind.name());
            let sum = |part: fn(&Record) -> u64| turns.records().map(part).sum::<u64>() as f64;
            let sent = sum(|record| record.sent);
            if turns.is_empty() {
                continue;
            }
            let arrived = (sum(|record| record.exact + record.altered) / sent * 100.0).max(0.0);
            let cells = [
                format!("{}, {}", place.0, place.1),
                kind.name().to_owned(),
                figure(turns.median(data::rate)),
                ratio(turns.against(&held, data::rate)),
                figure(turns.median(data::cpu)),
                format!("{:.1} %", if arrived.is_nan() { 0.0 } else { arrived }),
                turns.verdict(),
            ];
            _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }
}

pub fn starts(data: &Data, out: &mut String) {
    _ = writeln!(
        out,
        "| link | through | start, ms (quartiles) | processes | RSS of the first, MiB | PSS of all, MiB |"
    );
    _ = writeln!(out, "|---|---|---:|---:|---:|---:|");
    for (link, kind) in linked(data, "start") {
        if kind == Kind::Direct && link != "pipe" {
            // A server over HTTP runs already.
            continue;
        }
        let turns = data.turns("start", (link, data.first_pin(link)), 0, kind.name());
        let mib = |part: fn(&Record) -> u64| {
            let first = turns.records().next().map_or(0, part);
            if first == 0 { "–".to_owned() } else { format!("{:.1}", first as f64 / 1024.0) }
        };
        let start = turns.spread(|record| data::elapsed(record).map(|time| time / 1e3));
        let count = turns.records().next().map_or(0, |record| record.processes);
        let cells = [
            link.to_owned(),
            kind.name().to_owned(),
            if start.is_none() { turns.verdict() } else { ratio(start) },
            count.to_string(),
            mib(|record| record.root_kib),
            mib(|record| record.pss_kib),
        ];
        _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

/// What each open session costs when all take `total`, in KiB: the difference to none, by their number.
pub fn session_cost(base: &Record, open: &Record, total: u64) -> Option<f64> {
    (open.width > 0 && total > 0).then(|| (total as f64 - base.pss_kib as f64) / open.width as f64)
}

/// How many sessions were open at most on this link, and what each of them cost, in KiB.
pub fn session_at_most(data: &Data, link: &str, kind: Kind) -> Option<(usize, f64)> {
    let turns = data.turns("sessions", (link, data.first_pin(link)), 0, kind.name());
    let (base, most) = (turns.records().next()?, turns.records().max_by_key(|open| open.width)?);
    Some((most.width, session_cost(base, most, most.pss_kib)?))
}

pub fn sessions(data: &Data, out: &mut String) {
    _ = writeln!(
        out,
        "| link | through | sessions | PSS MiB with none | KiB a session | after calls in each | 6 s later | |"
    );
    _ = writeln!(out, "|---|---|---:|---:|---:|---:|---:|---|");
    for (link, kind) in linked(data, "sessions") {
        let turns = data.turns("sessions", (link, data.first_pin(link)), 0, kind.name());
        let mut records = turns.records();
        let Some(base) = records.next() else { continue };
        for open in records {
            let cells = [
                link.to_owned(),
                kind.name().to_owned(),
                open.width.to_string(),
                format!("{:.1}", base.pss_kib as f64 / 1024.0),
                figure(session_cost(base, open, open.pss_kib)),
                figure(session_cost(base, open, open.after_kib)),
                figure(session_cost(base, open, open.later_kib)),
                data::short(&open.text),
            ];
            _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }
}

pub fn real(data: &Data, out: &mut String) {
    _ = writeln!(
        out,
        "| server | through | p50 µs | p95 | p50, of direct's (quartiles) | p95, of direct's | answers |"
    );
    _ = writeln!(out, "|---|---|---:|---:|---:|---:|---|");
    for server in ["real-node", "real-python"] {
        let of = |name| data.turns(server, ("pipe", data.first_pin("pipe")), 100, name);
        for name in ["direct", "shadowcat"] {
            let turns = of(name);
            if turns.is_empty() {
                continue;
            }
            let cells = [
                server.to_owned(),
                name.to_owned(),
                figure(turns.median(data::p50)),
                figure(turns.median(data::p95)),
                ratio(turns.against(&of("direct"), data::p50)),
                ratio(turns.against(&of("direct"), data::p95)),
                turns.verdict(),
            ];
            _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }
}

pub fn big(data: &Data, out: &mut String) {
    _ = writeln!(out, "| link | through | answer | seconds | resident before, MiB | at most, MiB |");
    _ = writeln!(out, "|---|---|---|---:|---:|---:|");
    for record in data.of_kind("big") {
        let mib = |kib: u64| if kib == 0 { "–".to_owned() } else { format!("{:.1}", kib as f64 / 1024.0) };
        let turns = data.turns("big", (&record.link, &record.pin), record.size, &record.contestant);
        let (link, name, verdict) = (&record.link, &record.contestant, turns.verdict());
        let seconds = figure(data::elapsed(record).map(|time| time / 1e6));
        let (before, peak) = (mib(record.rss_kib), mib(record.peak_kib));
        _ = writeln!(out, "| {link} | {name} | {verdict} | {seconds} | {before} | {peak} |");
    }
}

/// The contestants of each link that have records of this kind.
fn linked<'a>(data: &'a Data, kind: &'a str) -> Vec<(&'a str, Kind)> {
    let mut found = Vec::new();
    for record in data.of_kind(kind) {
        let Some(kind) = Kind::named(&record.contestant) else { continue };
        if !found.contains(&(record.link.as_str(), kind)) {
            found.push((record.link.as_str(), kind));
        }
    }
    found
}
