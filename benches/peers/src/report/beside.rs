//! The one table for people who want to choose: us and the others, each at its best.

use std::fmt::Write as _;

use super::{
    data::{self, Data},
    tables::{figure, session_at_most},
};
use crate::{
    contestant::{Kind, Link},
    record::Record,
};

/// In which order, and what they are called.
const COLUMNS: [(Kind, &str); 7] = [
    (Kind::Shadowcat, "shadowcat"),
    (Kind::Supergateway, "supergateway"),
    (Kind::McpProxyPython, "mcp-proxy (PyPI)"),
    (Kind::McpProxyNode, "mcp-proxy (npm)"),
    (Kind::McpRemote, "mcp-remote"),
    (Kind::SdkRelay, "relay on the Rust SDK"),
    (Kind::Nginx, "nginx"),
];

/// What stands in a row for one of them.
type Cell = fn(&Data, Kind) -> String;

const ROWS: [(&str, Cell); 6] = [
    ("bytes arrive as they were sent", bytes),
    ("progress arrives, in order, before the answer", progress),
    ("a message of 64 MiB", big),
    ("calls/s of 100 B, on its best link", rate),
    ("start, on its best link", start),
    ("an idle session, KiB, of how many", session),
];

pub fn table(data: &Data, out: &mut String) {
    _ = writeln!(out, "| | {} |", COLUMNS.map(|(_, name)| name).join(" | "));
    _ = writeln!(out, "|---|{}", "---|".repeat(COLUMNS.len()));
    for (what, cell) in ROWS {
        _ = writeln!(out, "| {what} | {} |", COLUMNS.map(|(kind, _)| cell(data, kind)).join(" | "));
    }
}

/// What a link says, for each link that says anything: once if all say the same.
fn by_link(kind: Kind, of: impl Fn(&'static str) -> Option<String>) -> String {
    let links = kind.links().iter().map(|link| link.name());
    let said: Vec<_> = links.filter_map(|link| Some((link, of(link)?))).collect();
    match said.first() {
        None => "–".to_owned(),
        Some((_, first)) if said.iter().all(|(_, word)| word == first) => first.clone(),
        Some(_) => said.iter().map(|(link, word)| format!("{link}: {word}")).collect::<Vec<_>>().join(", "),
    }
}

fn sum<'a>(records: impl Iterator<Item = &'a Record>, part: fn(&Record) -> u64) -> u64 {
    records.map(part).sum()
}

fn bytes(data: &Data, kind: Kind) -> String {
    by_link(kind, |link| {
        let calls = || {
            let all = data.of_kind("latency").chain(data.of_kind("throughput"));
            all.filter(|record| record.link == link && record.contestant == kind.name())
        };
        calls().next()?;
        let failed = sum(calls(), |record| record.wrong + record.errors + record.lost);
        let word = match (sum(calls(), |record| record.altered), failed) {
            (0, 0) => "yes",
            (0, _) => "yes, but some calls fail",
            (_, 0) => "spelled anew",
            (_, _) => "spelled anew, and some calls fail",
        };
        Some(word.to_owned())
    })
}

fn progress(data: &Data, kind: Kind) -> String {
    by_link(kind, |link| {
        let turns = || data.of_kind("notify").filter(|record| record.link == link && record.contestant == kind.name());
        let sent = sum(turns(), |record| record.sent);
        let good = sum(turns(), |record| record.exact + record.altered)
            .saturating_sub(sum(turns(), |record| record.disordered + record.late));
        (sent > 0).then(|| format!("{:.0} %", (good as f64 / sent as f64 * 100.0).floor()))
    })
}

fn big(data: &Data, kind: Kind) -> String {
    by_link(kind, |link| {
        let mut all = data.of_kind("big").filter(|record| record.link == link && record.contestant == kind.name());
        let record = all.next()?;
        let word = match record {
            record if record.exact > 0 => "arrives",
            record if record.altered > 0 => "arrives, spelled anew",
            _ => "does not arrive",
        };
        Some(word.to_owned())
    })
}

/// The best value of all links and ways of pinning, and on which link that was.
fn best(
    data: &Data,
    kind: Kind,
    of: impl Fn((&str, &str)) -> Option<f64>,
    is_better: fn(&f64, &f64) -> bool,
) -> Option<(f64, &'static str)> {
    let mut best: Option<(f64, &'static str)> = None;
    for link in kind.links().iter().copied().map(Link::name) {
        for place in data.places().into_iter().filter(|place| place.0 == link) {
            if let Some(value) = of(place)
                && best.is_none_or(|(best, _)| is_better(&value, &best))
            {
                best = Some((value, link));
            }
        }
    }
    best
}

fn rate(data: &Data, kind: Kind) -> String {
    let of = |place: (&str, &str)| data.turns("throughput", place, 100, kind.name()).median(data::rate);
    best(data, kind, of, |one, other| one > other)
        .map_or_else(|| "–".to_owned(), |(rate, link)| format!("{} ({link})", figure(Some(rate))))
}

fn start(data: &Data, kind: Kind) -> String {
    let of = |place: (&str, &str)| data.turns("start", place, 0, kind.name()).median(data::elapsed);
    best(data, kind, of, |one, other| one < other)
        .map_or_else(|| "–".to_owned(), |(time, link)| format!("{} ms ({link})", figure(Some(time / 1e3))))
}

fn session(data: &Data, kind: Kind) -> String {
    by_link(kind, |link| {
        let (count, cost) = session_at_most(data, link, kind)?;
        Some(format!("{} of {count}", figure(Some(cost))))
    })
}
