//! Bar charts as SVG: one for each link and what is measured, a group of bars for each size, on a logarithmic scale.

use std::fmt::Write as _;

use super::{
    data::{self, Data, Measure},
    tables::{figure, link_name, size_name},
};
use crate::contestant::Kind;

/// Name and text of each chart; of the first way of pinning only.
pub fn all(data: &Data) -> Vec<(String, String)> {
    let kinds: [(&str, &str, Measure); 2] = [
        ("throughput", "calls/s, many in flight (longer is better)", data::rate),
        ("latency", "p50 of one call, µs (shorter is better)", data::p50),
    ];
    let mut charts = Vec::new();
    for place in data.places() {
        if place.1 != data.first_pin(place.0) {
            continue;
        }
        for (kind, what, measure) in kinds {
            let bars = bars(data, kind, place, measure);
            if !bars.is_empty() {
                let title = format!("{}: {what}", link_name(place.0).replace('`', ""));
                charts.push((format!("{}-{kind}.svg", place.0), svg(&title, &bars)));
            }
        }
    }
    charts
}

enum Bar {
    Size(usize),
    Value(Kind, f64),
}

fn bars(data: &Data, kind: &str, place: (&str, &str), measure: Measure) -> Vec<Bar> {
    let mut bars = Vec::new();
    for size in data.sizes() {
        let values: Vec<_> = Kind::ALL
            .into_iter()
            .filter_map(|who| Some(Bar::Value(who, data.turns(kind, place, size, who.name()).median(measure)?)))
            .collect();
        if !values.is_empty() {
            bars.push(Bar::Size(size));
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
            Bar::Size(size) => {
                _ = writeln!(
                    out,
                    "<text x=\"8\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
                    y + 13.0,
                    size_name(*size)
                );
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
