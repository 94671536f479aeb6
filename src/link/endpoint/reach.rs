//! Whether an upstream over HTTP can be reached: an exchange did lately, or a connection to it succeeds.
//!
//! Nothing is sent on that connection; a server would have to answer it, and might log or count it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::clock;

#[derive(Debug)]
pub(super) struct Reach {
    host: String,
    port: u16,
    start: Instant,
    /// Milliseconds from `start` to the last exchange that succeeded; 0 before the first.
    succeeded: AtomicU64,
    /// The last try to connect, and when it was over. One at a time: who asks meanwhile gets its outcome.
    tried: Mutex<Option<(Instant, bool)>>,
}

impl Reach {
    pub(super) fn new(url: &Uri) -> Self {
        let own = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let host = url.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self {
            host: bare.to_owned(),
            port: url.port_u16().unwrap_or(own),
            start: clock::now(),
            succeeded: AtomicU64::new(0),
            tried: Mutex::new(None),
        }
    }

    pub(super) fn note_success(&self) {
        self.succeeded.store(self.millis().max(1), Ordering::Relaxed);
    }

    pub(super) async fn is_ready(&self) -> bool {
        let last = self.succeeded.load(Ordering::Relaxed);
        if last != 0 && u128::from(self.millis().saturating_sub(last)) < RECENT.as_millis() {
            return true;
        }
        let mut tried = self.tried.lock().await;
        if let Some((when, succeeded)) = *tried
            && clock::now() - when < KEPT
        {
            return succeeded;
        }
        let connected = timeout(PATIENCE, TcpStream::connect((self.host.as_str(), self.port))).await;
        let succeeded = matches!(connected, Ok(Ok(_)));
        *tried = Some((clock::now(), succeeded));
        succeeded
    }

    fn millis(&self) -> u64 {
        u64::try_from((clock::now() - self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// For how long an exchange that succeeded speaks for the upstream.
const RECENT: Duration = Duration::from_secs(10);
/// For how long the outcome of a try holds, so that those who ask us cannot make us knock more often.
const KEPT: Duration = Duration::from_secs(1);
/// How long connecting may take; whoever asks us has a limit of its own, usually a few seconds.
const PATIENCE: Duration = Duration::from_secs(2);
