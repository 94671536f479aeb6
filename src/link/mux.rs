//! HTTP to byte stream: clients over HTTP in front of servers that are our children.
//!
//! ```text
//!   POST ──► read whole ──► envelope ──► era? ── modern ──► the one child of all (or of this client)
//!                                          └──── legacy ──► the child of this session
//!   child's task: lines ──► whose is it? ──► a plain JSON reply, or an event of a stream
//! ```
//!
//! What a message means is decided by [`crate::session`]: `shared` for a child that many clients use without
//! knowing of each other (MCP 2026-07-28), `owned` for a session with a child of its own (until 2025-11-25).
//! One task for each child owns its streams and that state (`host`); exchanges reach it over a bounded
//! channel. No exchange is given a task of its own, and no message of ours is ever sent to find out what a
//! server is.

mod book;
mod child_io;
mod effect;
mod exchange;
mod host;
mod hosts;
mod keeping;
mod lanes;
mod meter;
mod order;
mod owning;
mod patience;
mod pieces;
mod running;
mod sharing;

use std::{
    fmt, io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use shadowcat_codecs::Limits;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use self::{
    book::Book,
    host::{Chair, Host},
    hosts::{Hosts, NoPlace, Way},
    owning::Owning,
    sharing::Sharing,
};
use super::{
    SESSION_LEN, not_admitted,
    nursery::Nursery,
    relay::HeaderCheck,
    waits::{SlowConsumer, Waits},
};
use crate::{
    budget::Allowance,
    clock,
    resources::Resources,
    session::{McpSessionId, Reason, ResponseTimeouts, restart::Restart},
    supervise::{Command, keeper::Keeper, ladder::Times},
    telemetry::{ServerLines, metrics::labels::Link},
};

/// HTTP clients in front of children.
#[derive(Debug)]
pub struct Mux {
    parts: Arc<Parts>,
    /// Legacy sessions by their id.
    sessions: Arc<Hosts<McpSessionId>>,
    /// Children of the modern era, by whom they serve.
    shared: Arc<Hosts<Client>>,
    tasks: TaskTracker,
}

/// What a mux is held to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MuxOptions {
    /// The maxima of frames and envelopes.
    pub limits: Limits,
    /// Most requests in flight at one child.
    pub max_pending: usize,
    /// How long each step of a child's shutdown waits.
    pub shutdown: Times,
    /// How long starting a child may take.
    pub start_timeout: Duration,
    /// How long a legacy session lives without a connection of its client.
    pub session_idle: Duration,
    /// Most legacy sessions.
    pub max_sessions: usize,
    /// Most children that serve modern clients.
    pub max_children: usize,
    /// What a header that contradicts the body leads to.
    pub header_check: HeaderCheck,
    /// Who shares a child, of the modern era.
    pub sharing: ChildSharing,
    /// Which children are started again after a crash.
    pub restart: Restart,
    /// Whether answers say in `Server-Timing` how long they took in here, and at the server.
    pub server_timing: bool,
    /// What sessions share with the process.
    pub resources: Resources,
    /// How long a child may take to answer a request, from when it was given to us. Progress of the request begins its
    /// time anew; where many share the child, so does whatever else it says of that request.
    pub response: ResponseTimeouts,
    /// How long a child may say nothing at all while a request waits for it. Then every request that waits gets an
    /// error, and the child is ended. For ever if `None`. Subscriptions are not waited for.
    pub server_read: Option<Duration>,
    /// How long a child may take nothing of what is there for it, and say nothing. Then as above. For ever if `None`.
    pub server_write: Option<Duration>,
    /// What becomes of a client that does not read. By default one that has a child of its own keeps it waiting for as
    /// long as the connection lasts, and one that shares a child is cut off when more waits for it than may. With
    /// [`Disconnect`](SlowConsumer::Disconnect) the former is cut off too, when it has taken nothing for so long; with
    /// [`Pause`](SlowConsumer::Pause) the children of [one client](ChildSharing::PerClient) wait for it in the modern
    /// era too. A child that everybody shares never waits.
    pub slow_consumer: Option<SlowConsumer>,
    /// How long an event stream may be silent before it gets a comment: intermediaries cut idle ones.
    pub keep_alive: Duration,
}

/// Who shares a child, of the modern era.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum ChildSharing {
    /// Everybody: requests are stateless.
    #[default]
    Everybody,
    /// Whoever has the same credentials, or without any, the same address: for servers that keep state all the
    /// same.
    PerClient,
}

/// What every child's task needs.
#[derive(Debug)]
struct Parts {
    options: MuxOptions,
    command: Command,
    nursery: Nursery,
    log: ServerLines,
    health: Health,
    /// Cancelled when every child is to end.
    stop: CancellationToken,
    /// Cancelled when they are to end at once.
    hurry: CancellationToken,
    /// Children and sessions begun so far; each has its number in the log.
    begun: AtomicU64,
}

/// Whether children can be started.
#[derive(Debug, Default)]
struct Health {
    running: AtomicUsize,
    has_failed: AtomicBool,
}

/// Whom a shared child serves.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Client {
    Everybody,
    /// Whoever comes with these credentials.
    With(Box<[u8]>),
    /// Whoever comes without, from this address.
    At(Option<IpAddr>),
}

impl MuxOptions {
    /// The defaults, with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            max_pending: 4096,
            shutdown: Times::default(),
            start_timeout: Duration::from_secs(30),
            session_idle: Duration::from_secs(30 * 60),
            max_sessions: 10_000,
            max_children: 256,
            // The child sees no headers, so nobody else can check them.
            header_check: HeaderCheck::Strict,
            sharing: ChildSharing::default(),
            restart: Restart::default(),
            server_timing: true,
            resources: Resources::default(),
            response: ResponseTimeouts::default(),
            server_read: None,
            server_write: Waits::default().server_write,
            slow_consumer: None,
            keep_alive: Duration::from_secs(15),
        }
    }
}

impl Mux {
    /// A mux that starts `command` for whoever needs a child. `log` is passed the children's stderr.
    ///
    /// Must be called inside a tokio runtime. [`close`](Self::close) it at the end; dropped instead, it ends
    /// its children as fast as it can, but does not wait for them.
    #[must_use]
    pub fn new(command: Command, keeper: Keeper, log: ServerLines, options: MuxOptions) -> Self {
        let nursery = Nursery::start(keeper, options.resources.metrics.clone());
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let parts =
            Parts { options, command, nursery, log, health: Health::default(), stop, hurry, begun: AtomicU64::new(0) };
        Self { parts: Arc::new(parts), sessions: Hosts::new(), shared: Hosts::new(), tasks: TaskTracker::new() }
    }

    /// Whether a child runs, or one could be started: its program is found, and the last start did not fail.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let Health { running, has_failed } = &self.parts.health;
        running.load(Ordering::Relaxed) > 0 || (!has_failed.load(Ordering::Relaxed) && self.parts.command.is_found())
    }

    /// Ends every child and waits until all are reaped. Takes no more exchanges.
    ///
    /// # Errors
    ///
    /// If the keeper failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, everything has been told to end; a second call waits for that, but may not learn how the keeper ended.
    pub async fn close(&self) -> io::Result<()> {
        self.parts.stop.cancel();
        self.sessions.clear();
        self.shared.clear();
        self.tasks.close();
        self.tasks.wait().await;
        self.parts.nursery.finish().await
    }

    /// Whoever waits for [`close`](Self::close) is in a hurry: children are pushed without being given time to
    /// end by themselves.
    pub fn hurry(&self) {
        self.parts.hurry.cancel();
    }

    /// What a session takes, whoever asks in it.
    fn session_room(&self) -> Result<Allowance, Reason> {
        let budget = &self.parts.options.resources.budget;
        budget.try_admit(0, SESSION_LEN).ok_or_else(|| not_admitted(budget))
    }

    /// The way to the child that serves this modern client.
    fn shared_child(&self, client: Client) -> Result<Way, Reason> {
        let options = &self.parts.options;
        let now = clock::now().into_std();
        let patience = (options.start_timeout, now);
        let (way, new) =
            self.shared.find_or_insert(client, options.max_children, patience).map_err(|why| match why {
                NoPlace::Full(limit) => {
                    let what = format!("{limit} children are running");
                    Reason::Overloaded { what, retry_after: RETRY_AFTER }
                }
                NoPlace::Resting { crashes, rest } => {
                    let what = format!("the server crashed {crashes} times in a row");
                    let retry_after = u32::try_from(rest.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
                    Reason::Overloaded { what, retry_after }
                }
                NoPlace::Fallen(reason) => reason.unwrap_or(UNKNOWN),
            })?;
        if let Some((received, place)) = new {
            let allowance = self.session_room()?;
            let book = Book::Shared(Some(Box::new(Sharing::new(options, now))));
            let host = Host::new(Arc::clone(&self.parts), received, &way, book, Chair::Shared(place), allowance);
            self.tasks.spawn(
                host.run().instrument(tracing::error_span!(parent: None, "shared", number = self.parts.number())),
            );
        }
        Ok(way)
    }

    /// A new session and the way to its child. For HTTP+SSE, `endpoint` makes the URI to post to of the id.
    fn new_session(&self, endpoint: Option<&dyn Fn(McpSessionId) -> String>) -> Result<(McpSessionId, Way), Reason> {
        let options = &self.parts.options;
        let overloaded = |what: String| Reason::Overloaded { what, retry_after: RETRY_AFTER };
        let id = McpSessionId::mint().map_err(|error| overloaded(error.to_string()))?;
        let (limit, now) = (options.max_sessions, clock::now().into_std());
        let full = |_| Reason::TooManySessions { limit, retry_after: RETRY_AFTER };
        let (way, new) = self.sessions.find_or_insert(id, limit, (options.start_timeout, now)).map_err(full)?;
        if let Some((received, place)) = new {
            let allowance = self.session_room()?;
            let book = Book::Owned(Box::new(Owning::new(options, endpoint.map(|endpoint| endpoint(id)), now)));
            let mut host = Host::new(Arc::clone(&self.parts), received, &way, book, Chair::Session(place), allowance);
            host.session = Some(options.resources.metrics.session(Link::Mux));
            self.tasks.spawn(
                host.run().instrument(tracing::error_span!(parent: None, "session", number = self.parts.number())),
            );
        }
        Ok((id, way))
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        self.parts.stop.cancel();
    }
}

impl fmt::Debug for Client {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("Everybody"),
            Self::With(_) => f.write_str("With(..)"),
            Self::At(address) => f.debug_tuple("At").field(address).finish(),
        }
    }
}

impl Parts {
    /// By what the log tells one from the other. Not its id, which opens a session to whoever knows it.
    fn number(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A child runs, until what is returned is dropped.
    fn started(self: &Arc<Self>) -> Alive {
        self.health.running.fetch_add(1, Ordering::Relaxed);
        self.health.has_failed.store(false, Ordering::Relaxed);
        Alive(Arc::clone(self))
    }
}

/// A child that runs.
struct Alive(Arc<Parts>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.health.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    fn failed(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

/// What is said of a crash while its cause is not known yet.
const UNKNOWN: Reason = Reason::ServerExited { exit_code: None, signal: None, stderr: Vec::new() };

/// When to try again where there is no room, in seconds.
const RETRY_AFTER: u32 = 5;
