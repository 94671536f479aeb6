//! Questions to the raw data: which turns, and what of them, as a median with its quartiles.

use std::collections::BTreeSet;

use crate::record::Record;

/// A median with its quartiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let part = |quarters: usize| values.get((values.len().checked_sub(1)? * quarters + 2) / 4).copied();
        Some(Self { low: part(1)?, median: part(2)?, high: part(3)? })
    }
}

/// All turns of one contestant with one kind of load in one place.
#[derive(Debug, Clone)]
pub struct Turns<'a>(Vec<&'a Record>);

/// What is measured of a turn; `None` if there was nothing to measure.
pub type Measure = fn(&Record) -> Option<f64>;

pub fn p50(record: &Record) -> Option<f64> {
    (record.p50_us > 0.0).then_some(record.p50_us)
}

pub fn p95(record: &Record) -> Option<f64> {
    (record.p95_us > 0.0).then_some(record.p95_us)
}

/// Answers, or notifications, in a second.
pub fn rate(record: &Record) -> Option<f64> {
    (record.elapsed_us > 0.0).then(|| answered(record) / record.elapsed_us * 1e6)
}

pub fn cpu(record: &Record) -> Option<f64> {
    (answered(record) > 0.0 && record.cpu_us > 0.0).then(|| record.cpu_us / answered(record))
}

pub fn elapsed(record: &Record) -> Option<f64> {
    (record.elapsed_us > 0.0 && record.errors == 0).then_some(record.elapsed_us)
}

fn answered(record: &Record) -> f64 {
    (record.exact + record.altered) as f64
}

impl<'a> Turns<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn records(&self) -> impl Iterator<Item = &'a Record> {
        self.0.iter().copied()
    }

    pub fn spread(&self, measure: Measure) -> Option<Spread> {
        Spread::of(self.records().filter_map(measure))
    }

    pub fn median(&self, measure: Measure) -> Option<f64> {
        self.spread(measure).map(|spread| spread.median)
    }

    /// `measure` here divided by the same there, round by round.
    pub fn against(&self, other: &Turns<'_>, measure: Measure) -> Option<Spread> {
        let pairs = self.paired(other).filter_map(|(own, other)| Some(measure(own)? / measure(other)?));
        Spread::of(pairs)
    }

    /// What is added to `direct` here, divided by what is added there, round by round.
    pub fn added_against(&self, other: &Turns<'_>, direct: &Turns<'_>, measure: Measure) -> Option<Spread> {
        let added = |turns: &Turns<'_>, round| -> Option<f64> {
            let of = |turns: &Turns<'_>| measure(turns.records().find(|record| record.round == round)?);
            Some(of(turns)? - of(direct)?)
        };
        let ratio = |record: &Record| Some(added(self, record.round)? / added(other, record.round)?);
        Spread::of(self.records().filter_map(ratio))
    }

    /// What is added to `direct`, round by round.
    pub fn added(&self, direct: &Turns<'_>, measure: Measure) -> Option<Spread> {
        Spread::of(self.paired(direct).filter_map(|(own, direct)| Some(measure(own)? - measure(direct)?)))
    }

    fn paired<'b>(&'b self, other: &'b Turns<'_>) -> impl Iterator<Item = (&'a Record, &'b Record)> {
        self.records().filter_map(|own| Some((own, *other.0.iter().find(|record| record.round == own.round)?)))
    }

    /// How the answers were, in words.
    pub fn verdict(&self) -> String {
        let sum = |part: fn(&Record) -> u64| self.records().map(part).sum::<u64>();
        let sent = sum(|record| record.sent);
        let parts = [
            ("altered", sum(|record| record.altered)),
            ("wrong", sum(|record| record.wrong)),
            ("errors", sum(|record| record.errors)),
            ("lost", sum(|record| record.lost)),
            ("out of order", sum(|record| record.disordered)),
            ("after the answer", sum(|record| record.late)),
        ];
        let mut words: Vec<_> = parts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| if *count == sent { (*name).to_owned() } else { format!("{count} {name}") })
            .collect();
        if let Some(reason) = self.records().find(|record| !record.text.is_empty()) {
            words.push(short(&reason.text));
        }
        if words.is_empty() { "exact".to_owned() } else { words.join(", ") }
    }
}

/// A reason that fits into a cell of a table.
pub fn short(reason: &str) -> String {
    let text: String = reason.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).take(80).collect();
    text.replace('\\', "")
}

#[derive(Debug)]
pub struct Data(pub Vec<Record>);

impl Data {
    pub fn turns(&self, kind: &str, place: (&str, &str), size: usize, contestant: &str) -> Turns<'_> {
        let fits = |record: &&Record| {
            record.kind == kind
                && (record.link.as_str(), record.pin.as_str()) == place
                && record.size == size
                && record.contestant == contestant
        };
        Turns(self.0.iter().filter(fits).collect())
    }

    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Record> {
        self.0.iter().filter(move |record| record.kind == kind)
    }

    pub fn sizes(&self) -> BTreeSet<usize> {
        self.of_kind("latency").map(|record| record.size).collect()
    }

    /// Places with loads, in the order in which they were measured.
    pub fn places(&self) -> Vec<(&str, &str)> {
        let mut places = Vec::new();
        for record in self.0.iter().filter(|record| matches!(record.kind.as_str(), "latency" | "notify")) {
            let place = (record.link.as_str(), record.pin.as_str());
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The pin of the first place of this link: where what is measured once was measured.
    pub fn first_pin(&self, link: &str) -> &str {
        let mut places = self.0.iter().filter(|record| record.link == link && !record.pin.is_empty());
        places.next().map_or("", |record| record.pin.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_of_the_rounds() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { low: 2.0, median: 3.0, high: 4.0 });
        assert_eq!(Spread::of([7.0].into_iter()), Some(Spread { low: 7.0, median: 7.0, high: 7.0 }));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
