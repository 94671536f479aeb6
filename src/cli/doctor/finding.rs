//! What a check found, and how it is shown: lines of at most 72 columns, or one JSON object each.
//!
//! What servers say may hold anything; control characters never reach the terminal.

use std::fmt::Write as _;

use serde_json::json;

use crate::cli::{exit::Failure, pages};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Warning,
    Problem,
    /// Could not be looked at, or was not to be.
    Skipped,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    check: &'static str,
    outcome: Outcome,
    seen: String,
    advice: Option<String>,
}

/// Shows findings as they come.
#[derive(Debug)]
pub(super) struct Report {
    is_json: bool,
    has_problem: bool,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
            Self::Skipped => "skipped",
        }
    }
}

impl Finding {
    pub(super) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Ok, seen)
    }

    pub(super) fn warning(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Warning, seen)
    }

    pub(super) fn problem(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Problem, seen)
    }

    pub(super) fn skipped(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(check, Outcome::Skipped, seen)
    }

    pub(super) fn new(check: &'static str, outcome: Outcome, seen: impl Into<String>) -> Self {
        Self { check, outcome, seen: printable(&seen.into()), advice: None }
    }

    /// With what to do about it.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(printable(&advice.into()));
        self
    }

    fn json(&self) -> String {
        let Self { check, outcome, seen, advice } = self;
        format!("{}\n", json!({"check": check, "outcome": outcome.name(), "seen": seen, "advice": advice}))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let head = format!("{:<8}{:<12}", self.outcome.name(), self.check);
        wrap(&head, &self.seen, &mut text);
        if let Some(advice) = &self.advice {
            wrap(&format!("{:20}→ ", ""), advice, &mut text);
        }
        text
    }
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, has_problem: false }
    }

    /// Shows it.
    pub(super) fn add(&mut self, finding: Finding) -> Result<(), Failure> {
        self.has_problem |= finding.outcome == Outcome::Problem;
        let shown = if self.is_json { finding.json() } else { finding.text() };
        pages::print(shown.as_bytes()).map(|_| ())
    }

    pub(super) fn has_problem(&self) -> bool {
        self.has_problem
    }
}

/// Words behind a head, further lines below its end. Only a word longer than a line makes a line longer than it may be.
fn wrap(head: &str, words: &str, text: &mut String) {
    let indent = head.chars().count();
    text.push_str(head);
    let mut column = indent;
    for word in words.split_whitespace() {
        let len = word.chars().count();
        if column > indent && column + 1 + len > COLUMNS {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        }
        if column > indent {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += len;
    }
    text.push('\n');
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The longest line.
const COLUMNS: usize = 72;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_at_most_72_columns_and_hold_no_control_characters() {
        let long = "word ".repeat(60);
        let text = Finding::problem("reachable", format!("{long}\x1b[31m")).advise(long).text();
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(
            text.starts_with("problem reachable   word") && text.contains("\n                    → word"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(text.matches("word").count(), 120);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let line = Finding::ok("reachable", "a\n\"b\"").json();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value, json!({"check": "reachable", "outcome": "ok", "seen": "a \"b\"", "advice": null}));
        assert_eq!(line.matches('\n').count(), 1);
    }
}
