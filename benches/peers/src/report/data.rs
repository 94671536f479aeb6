//! Questions to the raw data: which turns, and what of them, as a median with its quartiles.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::Record;

/// A median with its quartiles, each interpolated between its two neighbours.
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
        let part = |quarters: usize| {
            let quarters = values.len().checked_sub(1)? * quarters;
            let (below, above) = (values.get(quarters / 4)?, values.get(quarters.div_ceil(4))?);
            Some(below + (above - below) * (quarters % 4) as f64 / 4.0)
        };
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

/// The rounds that count, and how many do not.
#[derive(Debug)]
pub struct Data {
    records: Vec<Record>,
    /// Pairs of a round that are left out, and all there were.
    pub dropped: (usize, usize),
}

/// A round of calls, one at a time: kind, link, pin, size, and which.
type Round = (String, String, String, usize, usize);

/// A round in which one call to the server itself took more than so many times what it took in the best of its rounds
/// was disturbed, and counts for nobody. Decided beforehand.
const MOST_DISTURBED: f64 = 2.0;

impl Data {
    /// What is left once disturbed rounds are not.
    pub fn new(mut records: Vec<Record>) -> Self {
        let of = |record: &Record| -> Round {
            let Record { kind, link, pin, size, round, .. } = record;
            (kind.clone(), link.clone(), pin.clone(), *size, *round)
        };
        let is_timed = |record: &Record| record.kind == "latency" || record.kind.starts_with("real-");
        let mut direct: BTreeMap<_, Vec<(usize, f64)>> = BTreeMap::new();
        for record in records.iter().filter(|record| is_timed(record) && record.contestant == "direct") {
            let (kind, link, pin, size, round) = of(record);
            direct.entry((kind, link, pin, size)).or_default().extend(p50(record).map(|p50| (round, p50)));
        }
        let mut disturbed = BTreeSet::new();
        let count = direct.values().map(Vec::len).sum();
        for ((kind, link, pin, size), rounds) in direct {
            let least = rounds.iter().fold(f64::INFINITY, |least, (_, p50)| least.min(*p50));
            let over = rounds.into_iter().filter(|(_, p50)| *p50 > MOST_DISTURBED * least);
            disturbed.extend(over.map(|(round, _)| (kind.clone(), link.clone(), pin.clone(), size, round)));
        }
        records.retain(|record| !is_timed(record) || !disturbed.contains(&of(record)));
        Self { records, dropped: (disturbed.len(), count) }
    }

    pub fn turns(&self, kind: &str, place: (&str, &str), size: usize, contestant: &str) -> Turns<'_> {
        let fits = |record: &&Record| {
            record.kind == kind
                && (record.link.as_str(), record.pin.as_str()) == place
                && record.size == size
                && record.contestant == contestant
        };
        Turns(self.records.iter().filter(fits).collect())
    }

    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.kind == kind)
    }

    pub fn sizes(&self) -> BTreeSet<usize> {
        self.of_kind("latency").map(|record| record.size).collect()
    }

    /// Places with loads, in the order in which they were measured.
    pub fn places(&self) -> Vec<(&str, &str)> {
        let mut places = Vec::new();
        for record in self.records.iter().filter(|record| matches!(record.kind.as_str(), "latency" | "notify")) {
            let place = (record.link.as_str(), record.pin.as_str());
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The pin of the first place of this link: where what is measured once was measured.
    pub fn first_pin(&self, link: &str) -> &str {
        let mut places = self.records.iter().filter(|record| record.link == link && !record.pin.is_empty());
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
        let spread = Spread::of([1.0, 2.0, 3.0, 5.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { low: 1.75, median: 2.5, high: 3.5 });
        let spread = Spread::of([3.0, 1.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { low: 1.5, median: 2.0, high: 2.5 });
        assert_eq!(Spread::of([7.0].into_iter()), Some(Spread { low: 7.0, median: 7.0, high: 7.0 }));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn a_round_in_which_the_server_itself_was_slow_counts_for_nobody() {
        let record = |contestant: &str, size, round, p50_us| {
            let (contestant, link) = (contestant.to_owned(), "pipe".to_owned());
            Record { contestant, link, size, round, p50_us, ..Record::new("latency") }
        };
        let data = Data::new(vec![
            record("direct", 100, 1, 4.0),
            record("shadowcat", 100, 1, 7.0),
            record("direct", 100, 2, 8.5),
            record("shadowcat", 100, 2, 60.0),
            record("direct", 1024, 2, 8.0),
            record("shadowcat", 1024, 2, 9.0),
        ]);
        assert_eq!(data.dropped, (1, 3));
        let p50s = |size| {
            let turns = data.turns("latency", ("pipe", ""), size, "shadowcat");
            turns.records().map(|record| record.p50_us).collect::<Vec<_>>()
        };
        assert_eq!((p50s(100), p50s(1024)), (vec![7.0], vec![9.0]));
    }
}
