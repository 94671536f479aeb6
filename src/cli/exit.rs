//! Exit codes, and the one line that is said with each.
//!
//! The codes are a promise to whoever starts us (`--help`, `docs/OPERATING.md`): 64 is for the command line, 78 for what it, a file
//! or the environment names and cannot be used, 2 for a server that was never there, 1 for the rest. What to do next is said in
//! `advice`.

use std::{fmt::Write as _, io::Write as _, process::ExitCode, sync::mpsc, thread, time::Duration};

use shadowcat::telemetry::LogFormat;

/// Something failed while running.
pub(crate) const RUNTIME: u8 = 1;
/// The upstream could not be reached or started.
pub(crate) const UPSTREAM: u8 = 2;
/// The command line is wrong (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;

/// What the command line names cannot be used (`EX_CONFIG`).
pub(crate) const CONFIGURATION: u8 = 78;

/// Why the command ends with a code other than 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u8,
    line: String,
    format: LogFormat,
}

impl Failure {
    pub(crate) fn new(code: u8, line: impl Into<String>) -> Self {
        Self { code, line: line.into(), format: LogFormat::Text }
    }

    /// The line as one of a log in this format.
    pub(crate) fn with_format(mut self, format: LogFormat) -> Self {
        self.format = format;
        self
    }

    /// The failure, which is about this table of a file.
    pub(crate) fn of(mut self, table: &str) -> Self {
        self.line = format!("{table}: {}", self.line);
        self.code = CONFIGURATION;
        self
    }

    /// What is said.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// Says the line on stderr and gives the code.
    pub(crate) fn report(self) -> ExitCode {
        let line = match self.format {
            LogFormat::Json => {
                let line =
                    serde_json::json!({"level": "ERROR", "fields": {"message": self.line}, "target": "shadowcat"});
                format!("{line}\n")
            }
            _ => format!("shadowcat: {}\n", self.line),
        };
        // If stderr is gone there is nobody to tell; the code still says it. If it is full and unread, as a
        // server that talks much may have left it, writing would keep us here for ever.
        let (told, end) = mpsc::channel();
        thread::spawn(move || told.send(std::io::stderr().write_all(line.as_bytes())));
        let _ = end.recv_timeout(PATIENCE);
        ExitCode::from(self.code)
    }
}

/// What the parser says in several lines, in one.
pub(crate) fn flattened(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let mut lines = rendered.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("wrong usage");
    let mut line = first.strip_prefix("error: ").unwrap_or(first).to_owned();
    // What is missing, or what would be possible, is said in the lines behind it.
    for more in lines {
        if let Some(tip) = more.strip_prefix("tip: ") {
            // How to pass a mistyped flag as a value is no help here.
            if tip.starts_with("a similar") {
                let _ = write!(line, "; {tip}");
            }
        } else if more.starts_with("Usage:") || more.starts_with("For more information") {
            break;
        } else {
            let _ = write!(line, " {more}");
        }
    }
    line
}

/// How long the line may wait for a reader.
const PATIENCE: Duration = Duration::from_secs(1);
