//! Whether an upstream over HTTP can be reached: an exchange did lately, or a connection to it succeeds.
//!
//! Nothing is sent on that connection; a server would have to answer it, and might log or count it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use http::{Uri, uri::Scheme};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::clock;

#[derive(Debug)]
pub(super) struct Reach {
    host: Arc<str>,
    port: u16,
    start: Instant,
    /// Milliseconds from `start` to the last exchange that succeeded; 0 before the first.
    succeeded: AtomicU64,
    /// The last try to connect. One at a time: who asks meanwhile waits for its outcome too. It goes on only while
    /// somebody waits; who comes next takes it up. The lock is held for a look, never while waiting.
    tried: Mutex<Option<Try>>,
}

/// When a try to connect was over, and whether it succeeded.
type Try = Shared<BoxFuture<'static, (Instant, bool)>>;

impl Reach {
    pub(super) fn new(url: &Uri) -> Self {
        let own = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let host = url.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self {
            host: bare.into(),
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
        let (_, succeeded) = self.latest_try().await;
        succeeded
    }

    /// The try that goes on, or was over only just now; else a new one.
    fn latest_try(&self) -> Try {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = |latest: &Try| latest.peek().is_some_and(|(over, _)| clock::now() - *over >= KEPT);
        if let Some(latest) = tried.as_ref().filter(|latest| !is_stale(latest)) {
            return latest.clone();
        }
        tried.insert(connect(Arc::clone(&self.host), self.port)).clone()
    }

    fn millis(&self) -> u64 {
        u64::try_from((clock::now() - self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

fn connect(host: Arc<str>, port: u16) -> Try {
    let connecting = async move {
        let connected = timeout(PATIENCE, TcpStream::connect((&*host, port))).await;
        (clock::now(), matches!(connected, Ok(Ok(_))))
    };
    connecting.boxed().shared()
}

/// For how long an exchange that succeeded speaks for the upstream.
const RECENT: Duration = Duration::from_secs(10);
/// For how long the outcome of a try holds, so that those who ask us cannot make us knock more often.
const KEPT: Duration = Duration::from_secs(1);
/// How long connecting may take; whoever asks us has a limit of its own, usually a few seconds.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asked first may be gone before there is an outcome; those behind must not wait for nothing.
    #[tokio::test]
    async fn a_try_is_shared_and_outlives_who_began_it() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reach = Reach::new(&format!("http://{}/", server.local_addr().unwrap()).parse().unwrap());
        let mut first = Box::pin(reach.is_ready());
        assert_eq!(first.as_mut().now_or_never(), None);
        let (second, third) = (reach.is_ready(), reach.is_ready());
        drop(first);
        assert_eq!(tokio::join!(second, third), (true, true));
        let (accepted, _) = server.accept().await.unwrap();
        assert!(server.accept().now_or_never().is_none(), "one connection for all");
        drop(accepted);
    }
}
