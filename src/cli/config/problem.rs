//! What is wrong with a file or the environment: where, which key, and what is allowed there.

use std::{fmt, path::Path};

use super::Origin;
use crate::cli::exit::{CONFIGURATION, Failure};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    place: String,
    /// In a file; those of the environment have none.
    line: usize,
    key: String,
    what: String,
}

impl Problem {
    pub(super) fn new(origin: &Origin, key: &str, what: impl Into<String>) -> Self {
        // A variable's name is its key.
        let key = if matches!(origin, Origin::Environment(_)) { String::new() } else { key.to_owned() };
        let line = if let Origin::File(_, line) = origin { *line } else { 0 };
        Self { place: origin.to_string(), line, key, what: what.into() }
    }

    /// Something that is about no key.
    pub(super) fn of_file(path: &Path, what: impl Into<String>) -> Self {
        Self { place: path.display().to_string(), line: 0, key: String::new(), what: what.into() }
    }

    /// For those who read from the top.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn into_failure(self) -> Failure {
        Failure::new(CONFIGURATION, self.to_string())
    }
}

/// The first problem of a file, and where to see the others.
pub(super) fn failure(path: &Path, problems: Vec<Problem>) -> Failure {
    let more = problems.len().saturating_sub(1);
    let mut line = problems.into_iter().next().map(|first| first.to_string()).unwrap_or_default();
    if more > 0 {
        line.push_str(&format!("; and {more} more: shadowcat config check {}", path.display()));
    }
    Failure::new(CONFIGURATION, line)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, what, .. } = self;
        if key.is_empty() { write!(f, "{place}: {what}") } else { write!(f, "{place}: {key}: {what}") }
    }
}
