//! What is told of a child that answers no more: how it ended, and what it said last on its stderr.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{
    session::Reason,
    supervise::{ExitStatus, last_words::LastWords},
};

/// Why a child that is gone answers no more. Without the keeper nobody knows how it ended.
pub(super) fn exited(status: Option<ExitStatus>, words: &watch::Receiver<LastWords>) -> Reason {
    let (exit_code, signal) = match status {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    Reason::ServerExited { exit_code, signal, stderr: words.borrow().lines() }
}

/// Why nobody waits any longer for a child to answer `initialize`.
pub(super) fn mute(limit: Duration, words: &watch::Receiver<LastWords>) -> Reason {
    start_timeout("child start: the answer to initialize", limit, words.borrow().lines())
}

/// Why nobody waits any longer for a child to be there.
pub(super) fn not_started(limit: Duration) -> Reason {
    start_timeout("child start", limit, Vec::new())
}

/// Gives the last words of a child that has exited the time to be read. They are in its pipe by now, so this
/// takes as long as reading them, unless a process it left behind holds the pipe open.
pub(super) async fn hear_out(mut log: Pin<&mut impl Future<Output = ()>>, is_logging: &mut bool) {
    if *is_logging {
        *is_logging = timeout(HEARING, log.as_mut()).await.is_err();
    }
}

fn start_timeout(what: &'static str, limit: Duration, stderr: Vec<String>) -> Reason {
    Reason::StartTimeout { what, after_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), stderr }
}

/// How long who waits for an answer waits for the last words of who will not give it.
const HEARING: Duration = Duration::from_millis(200);
