//! How long an exchange waits for its upstream: for the answer's headers, and for each next byte of its body.
//!
//! An exchange is a task of its own already, so each has its own timer here, but only where there is a limit. The
//! limit of a request depends on its method, which a header says, or the body once enough of it has passed.

use std::{
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{HeaderMap, Method};
use tokio::time::sleep_until;

use super::Options;
use crate::{
    clock,
    link::waits::Alarm,
    session::{ResponseTimeouts, Timeout, mirror::MCP_METHOD},
};

/// The limits of one exchange.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    kind: Kind,
    timeouts: ResponseTimeouts,
    sse_read: Option<Duration>,
    /// The limit of the request's method, once that is known.
    method: Arc<OnceLock<Option<Duration>>>,
}

/// What kind of exchange is waited for.
#[derive(Debug, Clone, Copy, Default)]
enum Kind {
    /// Nothing in particular, for ever.
    #[default]
    Other,
    /// The answer to a message.
    Message,
    /// A stream of what the server says unasked, which has to begin within this.
    Listening(Option<Duration>),
}

/// How long a body may bring nothing.
#[derive(Debug)]
pub(super) struct Pause {
    limit: Duration,
    what: &'static str,
    /// Since when there is nothing to be read.
    silent: Option<Instant>,
    alarm: Alarm,
}

impl Patience {
    /// For a request to where messages are.
    pub(super) fn new(options: &Options, method: &Method, headers: &HeaderMap) -> Self {
        let kind = match *method {
            Method::POST => Kind::Message,
            Method::GET => Kind::Listening(options.sse_connect),
            _ => Kind::Other,
        };
        let (timeouts, sse_read) = (options.response.clone(), options.sse_read);
        let patience = Self { kind, timeouts, sse_read, method: Arc::default() };
        if let Some(method) = headers.get(MCP_METHOD).and_then(|method| method.to_str().ok()) {
            patience.is_asked(Some(method));
        }
        patience
    }

    /// The request's method is this one; `None`: it is no request. What a header said before holds: the body is held
    /// against it elsewhere.
    pub(super) fn is_asked(&self, method: Option<&str>) {
        let _ = self.method.set(method.map_or_else(|| self.timeouts.for_all(), |method| self.timeouts.of(method)));
    }

    /// Ends when the answer's headers have taken too long. Cancel-safe.
    pub(super) async fn overdue(&self) -> Duration {
        let begun = clock::now();
        loop {
            // Whatever its method, it has at least the shortest time there is.
            let known = self.limit();
            let next = known.unwrap_or_else(|| self.timeouts.shortest());
            let Some(limit) = next else { return std::future::pending().await };
            sleep_until(begun + limit).await;
            match self.limit() {
                Some(Some(limit)) if begun + limit <= clock::now() => return limit,
                Some(_) => {}
                // Nobody will say which method it is; or its body is still on its way.
                None => match self.timeouts.for_all() {
                    Some(limit) if begun + limit <= clock::now() => return limit,
                    Some(limit) => sleep_until(begun + limit).await,
                    None => sleep_until(clock::now() + limit).await,
                },
            }
        }
    }

    /// How long the answer's body may pause.
    pub(super) fn pause(&self, is_stream: bool) -> Option<Pause> {
        let response = self.limit().unwrap_or_else(|| self.timeouts.for_all());
        let response = response.filter(|_| matches!(self.kind, Kind::Message));
        let silence = self.sse_read.filter(|_| is_stream);
        let (limit, what) = match (response, silence) {
            (Some(response), Some(silence)) if silence < response => (silence, "the next byte of an event stream"),
            (Some(response), _) => (response, "the rest of the server's answer"),
            (None, silence) => (silence?, "the next byte of an event stream"),
        };
        Some(Pause { limit, what, silent: None, alarm: Alarm::default() })
    }

    /// The limit, if it is clear which it is.
    fn limit(&self) -> Option<Option<Duration>> {
        match self.kind {
            Kind::Other => Some(None),
            Kind::Listening(limit) => Some(limit),
            Kind::Message => self.method.get().copied(),
        }
    }
}

impl Pause {
    /// Something came.
    pub(super) fn heard(&mut self) {
        self.silent = None;
    }

    /// There is nothing to be read; ready when that is so for too long.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Timeout> {
        let silent = *self.silent.get_or_insert_with(|| clock::now().into_std());
        ready!(self.alarm.poll(cx, Some(silent + self.limit)));
        Poll::Ready(Timeout { what: self.what.into(), after: self.limit })
    }
}
