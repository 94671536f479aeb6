//! What a scrape says: a strict reader of Prometheus' text format 0.0.4, for tests.
//!
//! It refuses what `promtool check metrics` would refuse, and what only a tolerant reader would forgive.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::client::Request;

/// Samples by their name and labels, as they were written: `name{a="b"}`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scrape {
    samples: BTreeMap<String, f64>,
    /// Type and help, by family.
    pub(crate) families: BTreeMap<String, (String, String)>,
}

impl Scrape {
    /// Asks a running proxy.
    pub(crate) fn of(address: SocketAddr, path: &str) -> Self {
        let response = Request::new("GET").at(path).send(address);
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::parse(&response.text()).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// One sample; 0 where there is none.
    pub(crate) fn get(&self, sample: &str) -> f64 {
        self.samples.get(sample).copied().unwrap_or(0.0)
    }

    /// Whether there is a sample, whatever it says.
    pub(crate) fn has(&self, sample: &str) -> bool {
        self.samples.contains_key(sample)
    }

    /// The names of a family's labels, in their order, but for the bounds of buckets.
    pub(crate) fn labels(&self, family: &str) -> Vec<&str> {
        let of = |sample: &str| {
            let rest = sample.strip_prefix(family)?;
            (rest.is_empty() || rest.starts_with(['{']) || rest.starts_with("_bucket{")).then_some(())
        };
        let Some(sample) = self.samples.keys().find(|sample| of(sample).is_some()) else { return Vec::new() };
        let labels = sample.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
        let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        names.filter(|name| *name != "le").collect()
    }

    /// By how much samples have grown since `before`; those that have not are left out.
    pub(crate) fn since(&self, before: &Self, prefix: &str) -> Vec<(String, f64)> {
        let grown = self.samples.iter().filter(|(sample, _)| sample.starts_with(prefix));
        grown
            .map(|(sample, value)| (sample.clone(), value - before.get(sample)))
            .filter(|(_, grown)| *grown != 0.0)
            .collect()
    }

    /// By how much one sample has grown.
    pub(crate) fn grown_by(&self, before: &Self, sample: &str) -> usize {
        format!("{}", self.get(sample) - before.get(sample)).parse().unwrap()
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("no line end at the end".to_owned());
        }
        let mut scrape = Self::default();
        let mut family: Option<(String, String, String)> = None;
        for line in text.lines() {
            let wrong = |what: &str| format!("{what}: {line:?}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("no help"))?;
                if help.trim() != help || help.is_empty() || help.contains('\\') {
                    return Err(wrong("help"));
                }
                if scrape.families.contains_key(name) {
                    return Err(wrong("a family twice"));
                }
                family = Some((name.to_owned(), String::new(), help.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind, help)) = &mut family else { return Err(wrong("a type without help")) };
                match rest.split_once(' ') {
                    Some((of, typed @ ("counter" | "gauge" | "histogram"))) if of == name && kind.is_empty() => {
                        check_name(name, typed).map_err(wrong)?;
                        typed.clone_into(kind);
                        scrape.families.insert(name.clone(), (typed.to_owned(), help.clone()));
                    }
                    _ => return Err(wrong("type")),
                }
            } else {
                let Some((family, kind, _)) = &family else { return Err(wrong("a sample of no family")) };
                scrape.sample(line, family, kind).map_err(wrong)?;
            }
        }
        scrape.check_histograms()?;
        Ok(scrape)
    }

    fn sample(&mut self, line: &str, family: &str, kind: &str) -> Result<(), &'static str> {
        let (sample, value) = line.rsplit_once(' ').ok_or("no value")?;
        let (name, labels) = match sample.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').ok_or("open labels")?),
            None => (sample, ""),
        };
        let suffix = name.strip_prefix(family).ok_or("a sample of another family")?;
        if !matches!((kind, suffix), ("counter" | "gauge", "") | ("histogram", "_bucket" | "_sum" | "_count")) {
            return Err("no such suffix for this type");
        }
        let mut names = Vec::new();
        for label in labels.split(',').filter(|_| !labels.is_empty()) {
            let (name, value) = label.split_once('=').ok_or("a label without a value")?;
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or("no quotes")?;
            let is_plain = |text: &str, more: &str| {
                !text.is_empty()
                    && text.bytes().all(|byte| byte.is_ascii_lowercase() || more.contains(char::from(byte)))
            };
            if !is_plain(name, "_") || !is_plain(value, "_.+0123456789I") || names.contains(&name) {
                return Err("a label that is not plain");
            }
            names.push(name);
        }
        if (suffix == "_bucket") != names.contains(&"le") {
            return Err("buckets have bounds, and nothing else has");
        }
        let value: f64 = value.parse().map_err(|_| "no number")?;
        if !value.is_finite() || (kind != "gauge" && value < 0.0) {
            return Err("a number that cannot be");
        }
        match self.samples.insert(sample.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err("a sample twice"),
        }
    }

    /// Buckets hold what those before them hold, and the last one everything.
    fn check_histograms(&self) -> Result<(), String> {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (sample, value) in &self.samples {
            let Some((name, labels)) = sample.split_once("_bucket{") else { continue };
            let (others, bound) = labels.rsplit_once("le=\"").ok_or("no bound")?;
            let bound = bound.trim_end_matches("\"}").replace("+Inf", "inf").parse().map_err(|_| sample.clone())?;
            let others = others.trim_end_matches(',');
            let count = if others.is_empty() { format!("{name}_count") } else { format!("{name}_count{{{others}}}") };
            buckets.entry(count).or_default().push((bound, *value));
        }
        for (count, mut buckets) in buckets {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            let (Some((last, all)), true) = (buckets.last(), buckets.is_sorted_by(|one, next| one.1 <= next.1)) else {
                return Err(format!("{count}: buckets are not cumulative: {buckets:?}"));
            };
            if !last.is_infinite() || self.samples.get(&count) != Some(all) {
                return Err(format!("{count}: not what all buckets hold: {buckets:?}"));
            }
            if !self.samples.contains_key(&count.replacen("_count", "_sum", 1)) {
                return Err(format!("{count}: no sum"));
            }
        }
        Ok(())
    }
}

/// What `promtool` says of names and units.
fn check_name(name: &str, kind: &str) -> Result<(), &'static str> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match kind {
        _ if !is_plain || !(name.starts_with("shadowcat_") || name.starts_with("process_")) => Err("name"),
        "counter" if !name.ends_with("_total") => Err("a counter ends in _total"),
        "gauge" | "histogram" if name.ends_with("_total") || name.ends_with("_count") => Err("only counters have that"),
        "histogram" if !name.ends_with("_seconds") => Err("a unit that is none"),
        _ => Ok(()),
    }
}
