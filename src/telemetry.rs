//! What we say beside the wire: log lines and the server's stderr, on our stderr.
//!
//! Never on stdout, never a payload. Lines go through a bounded queue to a thread of their own, because a
//! client may leave our stderr unread, and then a plain write would stop the session; what does not fit is
//! dropped and counted.

use std::{
    fmt,
    io::{self, Write as _},
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{filter::LevelFilter, fmt::writer::BoxMakeWriter};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Keeps the log going; dropping it writes out what is queued, for a moment at most.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Log {
    queue: NonBlocking,
    format: LogFormat,
    dropped: ErrorCounter,
    _thread: WorkerGuard,
}

impl Log {
    /// Sends everything that is logged in this process, up to `level`, to stderr. `None` logs nothing.
    pub fn start(level: Option<tracing::Level>, format: LogFormat) -> Self {
        let builder = NonBlockingBuilder::default().buffered_lines_limit(MAX_QUEUED).lossy(true);
        let (queue, thread) = builder.thread_name("log").finish(io::stderr());
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level.map_or(LevelFilter::OFF, LevelFilter::from_level))
            .with_writer(BoxMakeWriter::new(queue.clone()))
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
        // Only the first log of a process is its log; a second changes nothing.
        let _first = match format {
            LogFormat::Text => tracing::subscriber::set_global_default(subscriber.finish()),
            LogFormat::Json => tracing::subscriber::set_global_default(subscriber.json().finish()),
        };
        let dropped = queue.error_counter();
        Self { queue, format, dropped, _thread: thread }
    }

    /// A taker for a server's stderr lines: each is passed on with `name` before it, at every level.
    pub fn server_lines(&self, name: String) -> impl FnMut(&[u8]) + use<> {
        let (mut queue, format) = (self.queue.clone(), self.format);
        move |line| {
            let text = String::from_utf8_lossy(line);
            let line = match format {
                LogFormat::Text => format!("[{name}] {text}\n"),
                LogFormat::Json => format!("{}\n", serde_json::json!({"server": name, "stderr": text})),
            };
            // The queue takes or drops it; it has no other error.
            let _ = queue.write_all(line.as_bytes());
        }
    }

    /// Lines that were dropped because stderr was not read fast enough.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Most lines that wait for stderr: with the longest lines there are, about 8 MiB.
const MAX_QUEUED: usize = 1024;
