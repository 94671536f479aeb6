//! What was aimed at, row by row, and what was measured: met, missed, or not measured.

use std::fmt::Write as _;

use super::{
    data::{self, Data, Measure, Spread},
    tables::{figure, session_cost, size_name},
};

const SMALL: [usize; 2] = [100, 1 << 10];
const ALL: [usize; 4] = [100, 1 << 10, 64 << 10, 1 << 20];
const LARGE: [usize; 2] = [64 << 10, 1 << 20];
const OWN: &str = "shadowcat";

/// A bound, and on which side of it one should be.
#[derive(Debug, Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

/// One line of the table while its figures are gathered.
struct Row {
    what: &'static str,
    /// What must be reached, in words and as a bound.
    floor: (&'static str, Goal),
    /// What is aimed at beyond that, if anything is.
    stretch: Option<(&'static str, Goal)>,
    figures: Vec<(String, f64)>,
}

impl Row {
    fn new(what: &'static str, words: &'static str, bound: Goal) -> Self {
        Self { what, floor: (words, bound), stretch: None, figures: Vec::new() }
    }

    fn stretch(self, words: &'static str, bound: Goal) -> Self {
        Self { stretch: Some((words, bound)), ..self }
    }

    fn add(&mut self, label: String, value: Option<f64>) {
        self.figures.extend(value.map(|value| (label, value)));
    }

    fn write(self, out: &mut String) {
        let Self { what, floor, stretch, figures } = self;
        let is_met = |(_, bound): (&str, Goal)| {
            let met = figures.iter().filter(|(_, value)| bound.is_met(*value)).count();
            (met, figures.len())
        };
        let verdict = match is_met(floor) {
            (_, 0) => "not measured".to_owned(),
            (met, all) if met == all => "met".to_owned(),
            (0, _) => "**missed**".to_owned(),
            (met, all) => format!("**missed**, {met} of {all} met"),
        };
        let beyond = match stretch.map(is_met) {
            None | Some((_, 0)) => "–".to_owned(),
            Some((met, all)) if met == all => "met".to_owned(),
            Some((met, all)) => format!("{met} of {all}"),
        };
        let measured: Vec<_> = figures
            .iter()
            .map(|(label, value)| format!("{label} {}", figure(Some(*value))).trim().to_owned())
            .collect();
        let (goal, aim) = (floor.0, stretch.map_or("–", |(words, _)| words));
        _ = writeln!(out, "| {what} | {goal} | {verdict} | {aim} | {beyond} | {} |", measured.join(" · "));
    }
}

/// What a place and a size give.
type Value<'a> = &'a dyn Fn((&str, &str), usize) -> Option<f64>;

/// Every row of the targets that this benchmark can say something about.
pub fn table(data: &Data, out: &mut String) {
    out.push_str(
        "Medians; `one` and `two` are the two ways of pinning, below. A floor is missed if it is missed anywhere.\n\n",
    );
    out.push_str("| what | floor | | stretch | | measured |\n|---|---|---|---|---|---|\n");
    let rows = [pipe(data), multiples(data), relay(data), sessions(data), rest(data)];
    for row in rows.into_iter().flatten() {
        row.write(out);
    }
}

impl Data {
    /// Of each place of this link and each of these sizes.
    fn each(&self, row: Row, link: &str, sizes: &[usize], value: Value<'_>) -> Row {
        let mut row = row;
        for place in self.places().into_iter().filter(|place| place.0 == link) {
            for size in sizes {
                let size_name = if *size == 0 { String::new() } else { format!(", {}", size_name(*size)) };
                row.add(format!("{}{size_name}:", place.1), value(place, *size));
            }
        }
        row
    }

    /// Our calls/s, or what else a turn with many in flight measures, divided by another's.
    fn ratio(&self, kind: &str, place: (&str, &str), size: usize, other: &str, measure: Measure) -> Option<f64> {
        let (own, other) = (self.turns(kind, place, size, OWN), self.turns(kind, place, size, other));
        own.against(&other, measure).map(|Spread { median, .. }| median)
    }

    /// What we add to p50, divided by what another adds.
    fn added_ratio(&self, place: (&str, &str), size: usize, other: &str) -> Option<f64> {
        let of = |name| self.turns("latency", place, size, name);
        let ratio = of(OWN).added_against(&of(other), &of("direct"), data::p50);
        ratio.map(|Spread { median, .. }| median)
    }

    fn added(&self, place: (&str, &str), size: usize) -> Option<f64> {
        let of = |name| self.turns("latency", place, size, name);
        of(OWN).added(&of("direct"), data::p50).map(|Spread { median, .. }| median)
    }

    fn cpu(&self, place: (&str, &str), size: usize) -> Option<f64> {
        self.turns("latency", place, size, OWN).median(data::cpu)
    }
}

fn pipe(data: &Data) -> Vec<Row> {
    let row = Row::new;
    let mut memory = row("pipe: RSS without the keeper, MiB", "≤ 6", Goal::AtMost(6.0));
    let starts = data.turns("start", ("pipe", data.first_pin("pipe")), 0, OWN);
    let resident = starts.records().find(|record| record.root_kib > 0);
    memory.add(String::new(), resident.map(|record| record.root_kib as f64 / 1024.0));
    vec![
        data.each(
            row("pipe: added p50, of two `cat`s'", "≤ 1.3", Goal::AtMost(1.3)),
            "pipe",
            &SMALL,
            &|place, size| data.added_ratio(place, size, "cat"),
        ),
        data.each(
            row("pipe: calls/s, of two `cat`s'", "≥ 0.8", Goal::AtLeast(0.8)).stretch("≥ 1.0", Goal::AtLeast(1.0)),
            "pipe",
            &ALL,
            &|place, size| data.ratio("throughput", place, size, "cat", data::rate),
        ),
        data.each(row("pipe: CPU a call, of two `cat`s'", "≤ 2", Goal::AtMost(2.0)), "pipe", &ALL, &|place, size| {
            data.ratio("latency", place, size, "cat", data::cpu)
        }),
        memory,
        data.each(
            row("pipe: calls/s, of the SDK relay's", "≥ 30", Goal::AtLeast(30.0)),
            "pipe",
            &[100],
            &|place, size| data.ratio("throughput", place, size, "sdk-relay", data::rate),
        ),
    ]
}

fn multiples(data: &Data) -> Vec<Row> {
    let names = [
        (
            "dial",
            "dial: added p50, µs",
            "≤ 150",
            150.0,
            "dial: calls/s, of the SDK relay's",
            "≥ 4",
            4.0,
            "dial: CPU a call, µs",
            "≤ 80",
            80.0,
        ),
        (
            "mux",
            "mux: added p50, µs",
            "≤ 120",
            120.0,
            "mux: calls/s, of the SDK relay's",
            "≥ 3",
            3.0,
            "mux: CPU a call, µs",
            "≤ 60",
            60.0,
        ),
    ];
    let mut rows = Vec::new();
    for (link, added, added_goal, added_bound, rate, rate_goal, rate_bound, cpu, cpu_goal, cpu_bound) in names {
        let row = Row::new(added, added_goal, Goal::AtMost(added_bound));
        rows.push(data.each(row, link, &SMALL, &|place, size| data.added(place, size)));
        let row = Row::new(rate, rate_goal, Goal::AtLeast(rate_bound));
        rows.push(
            data.each(row, link, &SMALL, &|place, size| data.ratio("throughput", place, size, "sdk-relay", data::rate)),
        );
        let row = Row::new(cpu, cpu_goal, Goal::AtMost(cpu_bound));
        rows.push(data.each(row, link, &SMALL, &|place, size| data.cpu(place, size)));
    }
    rows
}

fn relay(data: &Data) -> Vec<Row> {
    let row = Row::new;
    let rate = |place: (&str, &str), size: usize| data.ratio("throughput", place, size, "nginx", data::rate);
    vec![
        data.each(
            row("relay: calls/s, of nginx's, up to 1 KiB", "≥ 0.9", Goal::AtLeast(0.9))
                .stretch("ahead", Goal::AtLeast(1.0)),
            "relay",
            &SMALL,
            &rate,
        ),
        data.each(row("relay: calls/s, of nginx's, from 64 KiB", "≥ 1.3", Goal::AtLeast(1.3)), "relay", &LARGE, &rate),
        data.each(
            row("relay: CPU a call, of nginx's, up to 1 KiB", "≤ 1.1", Goal::AtMost(1.1))
                .stretch("less", Goal::AtMost(1.0)),
            "relay",
            &SMALL,
            &|place, size| data.ratio("throughput", place, size, "nginx", data::cpu),
        ),
        data.each(
            row("relay: added p50, of nginx's", "≤ 1.3", Goal::AtMost(1.3)).stretch("less", Goal::AtMost(1.0)),
            "relay",
            &SMALL,
            &|place, size| data.added_ratio(place, size, "nginx"),
        ),
        data.each(
            row("relay: notifications/s, of nginx's", "≥ 1.0", Goal::AtLeast(1.0)),
            "relay",
            &[0],
            &|place, size| data.ratio("notify", place, size, "nginx", data::rate),
        ),
    ]
}

fn sessions(data: &Data) -> Vec<Row> {
    let names = [
        ("relay", "relay: an idle session, KiB, before and after calls", "≤ 16", 16.0),
        ("mux", "mux: an idle session, KiB, before and after calls", "≤ 24", 24.0),
    ];
    names
        .map(|(link, what, stretch, aim)| {
            let mut row = Row::new(what, "≤ 40", Goal::AtMost(40.0)).stretch(stretch, Goal::AtMost(aim));
            let turns = data.turns("sessions", (link, data.first_pin(link)), 0, OWN);
            let mut records = turns.records();
            if let Some(base) = records.next() {
                for open in records.filter(|open| open.width >= 50) {
                    row.add(format!("{}:", open.width), session_cost(base, open, open.pss_kib));
                    row.add("after".to_owned(), session_cost(base, open, open.after_kib));
                    row.add("later".to_owned(), session_cost(base, open, open.later_kib));
                }
            }
            row
        })
        .into()
}

/// Of each link: start, the large message, and that notifications arrive.
fn rest(data: &Data) -> Vec<Row> {
    let mut start = Row::new("start until the first answer, with the server's own, ms", "≤ 15", Goal::AtMost(15.0));
    let mut real = Row::new("pipe: added to a real server's call, % of it", "< 5 at p50 and p95", Goal::AtMost(4.999));
    for server in ["real-node", "real-python"] {
        let of = |name| data.turns(server, ("pipe", data.first_pin("pipe")), 100, name);
        let quantiles: [(&str, Measure); 2] = [("p50", data::p50), ("p95", data::p95)];
        for (name, quantile) in quantiles {
            let ratio = of(OWN).against(&of("direct"), quantile);
            let name = format!("{} {name}:", server.trim_start_matches("real-"));
            real.add(name, ratio.map(|ratio| (ratio.median - 1.0) * 100.0));
        }
    }
    let mut exact = Row::new("64 MiB arrive exact", "1", Goal::AtLeast(1.0));
    let mut peak = Row::new("64 MiB: most resident, MiB", "≤ 72 (the message + 8)", Goal::AtMost(72.0));
    let mut arrived = Row::new("notifications: exact, in order, before the answer, %", "100", Goal::AtLeast(100.0));
    for link in ["pipe", "dial", "mux", "relay"] {
        let place = (link, data.first_pin(link));
        let label = || format!("{link}:");
        start.add(label(), data.turns("start", place, 0, OWN).median(data::elapsed).map(|time| time / 1e3));
        if let Some(record) = data.turns("big", place, 64 << 20, OWN).records().next() {
            exact.add(label(), Some(record.exact as f64));
            peak.add(label(), Some(record.peak_kib as f64 / 1024.0));
        }
        let turns = data.turns("notify", place, 0, OWN);
        let sum = |part: fn(&crate::record::Record) -> u64| turns.records().map(part).sum::<u64>() as f64;
        let good = sum(|record| record.exact) - sum(|record| record.disordered) - sum(|record| record.late);
        arrived.add(label(), Some(good / sum(|record| record.sent) * 100.0).filter(|part| part.is_finite()));
    }
    vec![real, start, exact, peak, arrived]
}
