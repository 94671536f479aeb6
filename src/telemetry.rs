//! What we say beside the wire: log lines and the server's stderr, on our stderr.
//!
//! Never on stdout, never a payload. Lines go through a bounded queue to a thread of their own, because a
//! client may leave our stderr unread, and then a plain write would stop the session. A server's lines wait
//! for room in the queue, but not for ever: a reader that takes nothing for [`PATIENCE`] loses lines, which
//! are counted, instead of stopping the server.

pub mod metrics;
pub mod scrape;
pub mod trace;

use std::{
    io::{self, IsTerminal as _, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc as blocking,
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, Receiver, Sender, error::TrySendError},
    time::timeout,
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
};

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

/// Keeps the log going; end it with [`finish`](Self::finish).
#[derive(Debug)]
#[must_use = "what is queued is written out by `finish`"]
pub struct Log {
    queue: Queue,
    format: LogFormat,
    /// Hears of the thread's end.
    ended: blocking::Receiver<()>,
}

/// Passes a server's stderr lines on to ours, with the server's name before each, whatever the level. Each
/// clone is for one server.
#[derive(Debug, Clone)]
pub struct ServerLines {
    queue: Queue,
    format: LogFormat,
    name: String,
    /// Whether waiting for room makes sense: not if nobody reads our stderr.
    is_patient: bool,
}

/// The way to the thread that writes.
#[derive(Debug, Clone)]
struct Queue {
    lines: Sender<Line>,
    /// Lines that found no room.
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Write(Vec<u8>),
    /// Nothing comes behind this.
    End,
}

impl Log {
    /// Sends everything that this crate logs, up to `level`, to stderr. `None` logs nothing.
    pub fn start(level: Option<tracing::Level>, format: LogFormat) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED);
        let (end, ended) = blocking::channel();
        let queue = Queue { lines: sender, dropped: Arc::default() };
        thread::spawn(move || {
            write_lines(receiver);
            // Whoever waited may have lost patience.
            let _ = end.send(());
        });
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(format == LogFormat::Text && io::stderr().is_terminal())
            .with_writer(queue.clone());
        let level = level.map_or(LevelFilter::OFF, LevelFilter::from_level);
        // What HTTP and TLS libraries say would hold headers and bodies.
        let ours = tracing_subscriber::registry().with(Targets::new().with_target(OUR_TARGETS, level));
        // Only the first log of a process is its log; a second changes nothing.
        let _first = match format {
            LogFormat::Text => tracing::subscriber::set_global_default(ours.with(lines)),
            LogFormat::Json => tracing::subscriber::set_global_default(ours.with(lines.json())),
        };
        Self { queue, format, ended }
    }

    /// A taker for the stderr lines of servers called `name`.
    pub fn server_lines(&self, name: String) -> ServerLines {
        ServerLines { queue: self.queue.clone(), format: self.format, name, is_patient: true }
    }

    /// Writes out what is queued, for a moment at most if nobody reads it.
    pub fn finish(self) {
        match self.queue.dropped.load(Ordering::Relaxed) {
            0 => {}
            lines => tracing::warn!(lines, "lines were lost because stderr was not read"),
        }
        // Both fail only where nobody reads; then there is nobody to write to.
        let _ = self.queue.lines.try_send(Line::End);
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

impl ServerLines {
    /// Passes one line on. Waits for room, unless nobody has read for long.
    ///
    /// # Cancel safety
    ///
    /// The line is lost when cancelled.
    pub async fn pass(&mut self, line: &[u8]) {
        let line = server_line(&self.name, line, self.format);
        self.is_patient = self.queue.push_or_wait(line, self.is_patient).await;
    }
}

impl Queue {
    /// Queues a line, or counts it as lost.
    fn push(&self, line: Vec<u8>) {
        if self.lines.try_send(Line::Write(line)).is_err() {
            self.lost();
        }
    }

    /// Queues a line. Waits for room if `is_patient`. Returns whether waiting makes sense the next time.
    async fn push_or_wait(&self, line: Vec<u8>, is_patient: bool) -> bool {
        let line = match self.lines.try_send(Line::Write(line)) {
            Ok(()) => return true,
            Err(TrySendError::Full(line)) if is_patient => line,
            Err(_) => {
                self.lost();
                return false;
            }
        };
        let has_room = matches!(timeout(PATIENCE, self.lines.send(line)).await, Ok(Ok(())));
        if !has_room {
            self.lost();
        }
        has_room
    }

    fn lost(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// One event of the log is one write, and so one line.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

fn server_line(name: &str, line: &[u8], format: LogFormat) -> Vec<u8> {
    match format {
        LogFormat::Text => [b"[", name.as_bytes(), b"] ", line, b"\n"].concat(),
        LogFormat::Json => {
            let text = String::from_utf8_lossy(line);
            format!("{}\n", serde_json::json!({"server": name, "stderr": text})).into_bytes()
        }
    }
}

/// The thread's life: until the end is queued, or stderr is gone.
fn write_lines(mut lines: Receiver<Line>) {
    let mut gathered = Vec::new();
    while let Some(Line::Write(line)) = lines.blocking_recv() {
        gathered.clear();
        gathered.extend_from_slice(&line);
        let mut is_last = false;
        while gathered.len() < MAX_GATHERED {
            match lines.try_recv() {
                Ok(Line::Write(line)) => gathered.extend_from_slice(&line),
                Ok(Line::End) => {
                    is_last = true;
                    break;
                }
                Err(_) => break,
            }
        }
        if io::stderr().write_all(&gathered).is_err() || is_last {
            return;
        }
    }
}

/// What the targets of our own events begin with.
const OUR_TARGETS: &str = "shadowcat";
/// Most lines that wait for stderr: with the longest lines there are, about 8 MiB.
const MAX_QUEUED: usize = 1024;
/// Bytes that are gathered for one write.
const MAX_GATHERED: usize = 64 << 10;
/// How long a reader of stderr may take nothing before it loses lines.
pub const PATIENCE: Duration = Duration::from_secs(1);
