//! Bar charts as SVG, on a logarithmic scale: of calls, one for each link and what is measured, with a group of bars for
//! each size; of starting and of sessions, one with a group for each link.

use std::fmt::Write as _;

use super::{
    data::{self, Data, Measure},
    tables::{self, figure, link_name, size_name},
};
use crate::contestant::{Kind, Link};

/// Name and text of each chart of calls; of the first way of pinning only.
pub fn calls(data: &Data) -> Vec<(String, String)> {
    let kinds: [(&str, &str, &str, Measure); 3] = [
        ("throughput", "throughput", "calls/s, many in flight (longer is better)", data::rate),
        ("latency", "latency", "p50 of one call, µs (shorter is better)", data::p50),
        ("cpu", "latency", "CPU of the proxy for one call, µs (shorter is better)", data::cpu),
    ];
    let mut charts = Vec::new();
    for place in data.places() {
        if place.1 != data.first_pin(place.0) {
            continue;
        }
        for (name, kind, what, measure) in kinds {
            let bars = bars(data, kind, place, measure);
            if !bars.is_empty() {
                let title = format!("{}: {what}", link_name(place.0).replace('`', ""));
                charts.push((format!("{}-{name}.svg", place.0), svg(&title, &bars)));
            }
        }
    }
    charts
}

/// The chart of how long each takes to start; none if that was not measured.
pub fn starts(data: &Data) -> Option<(String, String)> {
    let of = |link, who: Kind| {
        let turns = data.turns("start", (link, data.first_pin(link)), 0, who.name());
        turns.median(data::elapsed).map(|time| time / 1e3)
    };
    by_link(data, "start", "from exec to the first answer, ms (shorter is better)", &of)
}

/// The chart of what an idle session costs, where most of them were open.
pub fn sessions(data: &Data) -> Option<(String, String)> {
    let of = |link, who: Kind| tables::session_at_most(data, link, who).map(|(_, cost)| cost);
    by_link(data, "sessions", "an idle session, with as many as were open at most, KiB (shorter is better)", &of)
}

fn by_link(
    data: &Data,
    kind: &str,
    title: &str,
    of: &dyn Fn(&'static str, Kind) -> Option<f64>,
) -> Option<(String, String)> {
    let mut bars = Vec::new();
    for link in Link::ALL.map(Link::name) {
        // A server over HTTP runs already.
        let all = Kind::ALL.into_iter().filter(|who| *who != Kind::Direct || link == "pipe");
        let values: Vec<_> =
            all.filter_map(|who| Some(Bar::Value(who, of(link, who).filter(|cost| *cost > 0.0)?))).collect();
        if !values.is_empty() {
            bars.push(Bar::Group(link.to_owned()));
            bars.extend(values);
        }
    }
    (data.of_kind(kind).next().is_some() && !bars.is_empty()).then(|| (format!("{kind}.svg"), svg(title, &bars)))
}

enum Bar {
    Group(String),
    Value(Kind, f64),
}

fn bars(data: &Data, kind: &str, place: (&str, &str), measure: Measure) -> Vec<Bar> {
    let mut bars = Vec::new();
    for size in data.sizes() {
        let values: Vec<_> = Kind::ALL
            .into_iter()
            .filter_map(|who| {
                let value = data.turns(kind, place, size, who.name()).median(measure)?;
                (value > 0.0).then_some(Bar::Value(who, value))
            })
            .collect();
        if !values.is_empty() {
            bars.push(Bar::Group(size_name(size)));
            bars.extend(values);
        }
    }
    bars
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 70.0;
const LINE: f64 = 18.0;
const TOP: f64 = 34.0;

fn svg(title: &str, bars: &[Bar]) -> String {
    let values = || bars.iter().filter_map(|bar| if let Bar::Value(_, value) = bar { Some(*value) } else { None });
    // A bar begins a little below the least value, so that this one is seen as well.
    let low = values().fold(f64::INFINITY, f64::min).max(0.01).log10() - 0.3;
    let high = values().fold(0.0, f64::max).log10().max(low + 0.1);
    let height = TOP + LINE * bars.len() as f64 + 8.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{title}; logarithmic</text>\n"
    );
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + LINE * index as f64;
        match bar {
            Bar::Group(name) => {
                _ = writeln!(out, "<text x=\"8\" y=\"{:.1}\" font-weight=\"bold\">{name}</text>", y + 13.0);
            }
            Bar::Value(kind, value) => {
                let length = (WIDTH - LEFT - RIGHT) * (value.log10() - low) / (high - low);
                _ = writeln!(
                    out,
                    "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
                     <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.0}\" fill=\"{}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    LEFT - 6.0,
                    y + 13.0,
                    kind.name(),
                    y + 2.0,
                    LINE - 4.0,
                    colour(*kind),
                    LEFT + length + 5.0,
                    y + 13.0,
                    figure(Some(*value)),
                );
            }
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Ours stands out; what is no proxy for MCP is grey.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Shadowcat => "#d1495b",
        Kind::Direct => "#c9ccd1",
        Kind::Cat | Kind::Socat | Kind::Nginx | Kind::Haproxy => "#8d99ae",
        _ => "#4f7cac",
    }
}
