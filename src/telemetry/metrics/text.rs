//! The text that Prometheus reads (text exposition format 0.0.4).
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::{self, Display, Write as _};

use super::{cells::Family, labels::Pair};

/// The type of the text, as `Content-Type` says it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text as it grows.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    /// Which links this process runs, as bits.
    links: u32,
}

/// Where one family's samples go.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    text: &'a mut Text,
    name: &'static str,
}

/// A number that is exposed in another unit than it is kept in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    /// Shown in seconds.
    Nanos(u64),
}

impl Text {
    pub(super) fn new(links: u32) -> Self {
        Self { text: String::with_capacity(USUAL_LEN), links }
    }

    pub(super) fn family<F: Family>(&mut self, name: &'static str, help: &str, family: &F) {
        // A line of the list of families is a line of text: nothing in it has to be escaped.
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {}", help.trim(), F::TYPE);
        family.write(&mut Samples { text: self, name });
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Samples<'_> {
    pub(super) fn links(&self) -> u32 {
        self.text.links
    }

    pub(super) fn sample(&mut self, suffix: &str, labels: &[Pair], value: &dyn Display) {
        self.line(suffix, labels, None, value);
    }

    /// A bucket up to `bound`; without one, that of everything.
    pub(super) fn bucket(&mut self, labels: &[Pair], bound: Option<Unit>, count: u64) {
        match bound {
            Some(bound) => self.line("_bucket", labels, Some(&bound), &count),
            None => self.line("_bucket", labels, Some(&"+Inf"), &count),
        }
    }

    fn line(&mut self, suffix: &str, labels: &[Pair], bound: Option<&dyn Display>, value: &dyn Display) {
        let text = &mut self.text.text;
        // Writing to a string does not fail.
        let _ = write!(text, "{}{suffix}", self.name);
        let mut mark = '{';
        for (name, value) in labels {
            let _ = write!(text, "{mark}{name}=\"{value}\"");
            mark = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(text, "{mark}le=\"{bound}\"");
            mark = ',';
        }
        if mark == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Nanos(nanos) = *self;
        let (whole, rest) = (nanos / NANOS, nanos % NANOS);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

const NANOS: u64 = 1_000_000_000;

/// Room that is made at first.
const USUAL_LEN: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_shown_in_seconds() {
        for (nanos, shown) in
            [(0, "0"), (1, "0.000000001"), (5_000, "0.000005"), (2_500_000, "0.0025"), (61_000_000_000, "61")]
        {
            assert_eq!(Unit::Nanos(nanos).to_string(), shown);
        }
    }
}
