//! Clients that connect to a socket of ours and speak lines of JSON there (Rule T11): one session for each
//! connection, with a child of its own, a connection of its own to a server's socket, or a server over HTTP.
//!
//! What a session does is the same as on stdin and stdout ([`super::stdio`], [`super::socket`], [`super::dial`]);
//! here is who comes in, how many at a time, and how all of them end. Who does not come in is in `lines/door.rs`. No
//! session knows of another.

mod door;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use shadowcat_codecs::Limits;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    SESSION_LEN, dial, log_end, not_admitted,
    nursery::{Born, Carer, Nursery},
    parting,
    signals::Drain,
    socket, stdio,
    waits::{SlowConsumer, Waits},
};
use crate::{
    budget::Allowance,
    resources::Resources,
    session::{Reason, Timeout},
    supervise::{Command, keeper::Keeper, ladder::Times},
    telemetry::{ServerLines, metrics::labels::TimeoutOf},
    transport::{
        connection::{Connection, Target},
        http::Client,
        listen::Listening,
    },
};
use door::{says_json, turn_away};

/// Clients over sockets, in front of one kind of server.
#[derive(Debug)]
pub struct Lines {
    parts: Arc<Parts>,
}

/// What sessions are held to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinesOptions {
    /// The maxima of frames and envelopes.
    pub limits: Limits,
    /// Most requests in flight in one session.
    pub max_pending: usize,
    /// Most sessions; whoever comes beyond is told so in answer to its first request.
    pub max_sessions: usize,
    /// How long each step of a child's shutdown waits. A server's connection is cut after the first.
    pub shutdown: Times,
    /// How long starting a child, or connecting to a server's socket, may take.
    pub start_timeout: Duration,
    /// How long what clients have asked may take once we were told to stop.
    pub drain_timeout: Duration,
    /// What sessions share with the process.
    pub resources: Resources,
    /// How long who is waited for. By default, a client that takes nothing is cut off after 60 s.
    pub waits: Waits,
}

/// What every session needs.
#[derive(Debug)]
struct Parts {
    server: Server,
    options: LinesOptions,
}

/// What is on the other side.
#[derive(Debug)]
enum Server {
    Command { command: Command, nursery: Nursery, log: ServerLines },
    Socket(Target),
    Http(Box<Client>),
}

impl LinesOptions {
    /// The defaults, with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            max_pending: 4096,
            max_sessions: 256,
            shutdown: Times::default(),
            start_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            resources: Resources::default(),
            waits: Waits { slow_consumer: SlowConsumer::Disconnect(Duration::from_secs(60)), ..Waits::default() },
        }
    }
}

impl Lines {
    /// In front of a child for each session, started by `keeper`. `log` is passed their stderr.
    ///
    /// Must be called inside a tokio runtime. [`close`](Self::close) it at the end; dropped instead, its children
    /// end with the keeper, but are not waited for.
    #[must_use]
    pub fn before_command(command: Command, keeper: Keeper, log: ServerLines, options: LinesOptions) -> Self {
        Self::new(
            Server::Command { command, nursery: Nursery::start(keeper, options.resources.metrics.clone()), log },
            options,
        )
    }

    /// In front of a connection to `target` for each session.
    #[must_use]
    pub fn before_socket(target: Target, options: LinesOptions) -> Self {
        Self::new(Server::Socket(target), options)
    }

    /// In front of a server over HTTP.
    #[must_use]
    pub fn before_http(client: Client, options: LinesOptions) -> Self {
        Self::new(Server::Http(Box::new(client)), options)
    }

    fn new(server: Server, options: LinesOptions) -> Self {
        Self { parts: Arc::new(Parts { server, options }) }
    }

    /// Accepts connections and serves them, until `drain` is cancelled. Then accepts no more, asks nothing more of
    /// clients, lets what they have asked be answered until the drain deadline, and ends what is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts every connection at once; their children end by [`close`](Self::close).
    pub async fn serve(&self, listening: Listening, drain: CancellationToken) {
        let LinesOptions { drain_timeout, shutdown, .. } = self.parts.options;
        let drain = Drain { token: drain, timeout: drain_timeout };
        let (mut sessions, mut refusals) = (JoinSet::new(), JoinSet::new());
        let mut number = 0_u64;
        loop {
            tokio::select! {
                () = drain.token.cancelled() => break,
                Some(ended) = sessions.join_next(), if !sessions.is_empty() => note(ended),
                Some(ended) = refusals.join_next(), if !refusals.is_empty() => note(ended),
                connection = Connection::accept(&listening), if refusals.len() < MAX_REFUSALS => {
                    number += 1;
                    let span = tracing::error_span!("session", number);
                    match span.in_scope(|| self.admit(sessions.len())) {
                        Ok(allowance) => {
                            let session = Arc::clone(&self.parts).session(connection, allowance, drain.clone());
                            sessions.spawn(session.instrument(span));
                        }
                        Err(reason) => {
                            let refusal = turn_away(connection, self.parts.options.clone(), reason);
                            refusals.spawn(refusal.instrument(span));
                        }
                    }
                }
            }
        }
        drop((listening, refusals));
        let all = async {
            while let Some(ended) = sessions.join_next().await {
                note(ended);
            }
        };
        // A child that does not end is pushed after the deadline; a client that does not read keeps nobody.
        let limit = drain_timeout.saturating_add(shutdown.grace).saturating_add(shutdown.term).saturating_add(MOMENT);
        if timeout(limit, all).await.is_err() {
            let left = sessions.len();
            self.parts.options.resources.metrics.timeouts.add((TimeoutOf::Drain,), left as u64);
            tracing::warn!(sessions = left, ?limit, "sessions do not end; they are cut off");
            sessions.shutdown().await;
        }
    }

    /// Room for one session more, beside so many.
    fn admit(&self, sessions: usize) -> Result<Allowance, Reason> {
        let LinesOptions { max_sessions: limit, resources, .. } = &self.parts.options;
        if sessions >= *limit {
            tracing::warn!(limit, "too many sessions; turned away");
            return Err(Reason::TooManySessions { limit: *limit, retry_after: RETRY_AFTER });
        }
        resources.budget.try_admit(0, SESSION_LEN).ok_or_else(|| not_admitted(&resources.budget))
    }

    /// Ends every child that is left and waits until all are reaped.
    ///
    /// # Errors
    ///
    /// If the keeper failed.
    pub async fn close(&self) -> io::Result<()> {
        match &self.parts.server {
            Server::Command { nursery, .. } => nursery.finish().await,
            Server::Socket(_) | Server::Http(_) => Ok(()),
        }
    }
}

impl Parts {
    /// One connection, from its first byte to its end.
    async fn session(self: Arc<Self>, connection: Connection, allowance: Allowance, drain: Drain) {
        let peer = connection.peer();
        let token = drain.token.clone();
        if let Some(peer) = peer {
            // Whoever has said nothing yet is not waited for when we are to stop.
            let Some(true) = token.run_until_cancelled(says_json(&connection, peer)).await else { return };
        }
        tracing::info!(peer = shown(peer), "session begins");
        let run = async {
            match &self.server {
                Server::Command { command, nursery, log } => {
                    self.with_child(&connection, (command, nursery, log), (drain, &allowance)).await
                }
                Server::Socket(target) => self.with_socket(&connection, target, (drain, &allowance)).await,
                Server::Http(client) => self.with_http(&connection, client, (drain, &allowance)).await,
            }
        };
        match Box::pin(run).await {
            Ok(None) => {}
            // No server came about, and whoever asks is told.
            Ok(Some(reason)) => return turn_away(connection, self.options.clone(), reason).await,
            Err(error) => tracing::error!(%error, "the session failed"),
        }
        connection.linger(LINGER).await;
    }

    /// A session with a child of its own. `Some`: why there is none.
    async fn with_child(
        &self,
        connection: &Connection,
        (command, nursery, log): (&Command, &Nursery, &ServerLines),
        (drain, allowance): (Drain, &Allowance),
    ) -> io::Result<Option<Reason>> {
        let limit = self.options.start_timeout;
        let failed = |reason: Reason| {
            tracing::error!(error = %reason, "the server cannot be started");
            Ok(Some(reason))
        };
        let Born { child, exit, claim } = match timeout(limit, nursery.spawn(command.clone())).await {
            Ok(Ok(born)) => born,
            Ok(Err(error)) => {
                let url = command.program.to_string_lossy().into_owned();
                return failed(Reason::ServerUnreachable { what: error.to_string(), url });
            }
            Err(_) => {
                self.options.resources.metrics.timeouts.add((TimeoutOf::ChildStart,), 1);
                return failed(parting::not_started(limit));
            }
        };
        tracing::info!(pid = %child.id, "server started");
        let LinesOptions { limits, max_pending, shutdown, resources, waits, .. } = self.options.clone();
        let start_timeout = limit;
        let options = stdio::Options { limits, max_pending, shutdown, drain: None, start_timeout, resources, waits };
        let mut lines = log.clone();
        let log = async move |line: &[u8]| lines.pass(line).await;
        let carer = Carer::Nursery(nursery.clone(), exit);
        let outcome =
            stdio::serve((connection.halves()?, allowance), carer, child, log, options, drain.stops()).await?;
        let is_clean = outcome.is_clean();
        drop(claim);
        let stdio::Outcome { cause, status, orphans, counts, blocked, .. } = outcome;
        if is_clean {
            tracing::info!(%status, "server ended");
        } else {
            tracing::warn!(%status, %cause, orphans, "the session did not end well");
        }
        log_end(&cause, orphans, counts, blocked);
        Ok(None)
    }

    /// A session with a connection of its own to the server. `Some`: why there is none.
    async fn with_socket(
        &self,
        connection: &Connection,
        target: &Target,
        (drain, allowance): (Drain, &Allowance),
    ) -> io::Result<Option<Reason>> {
        let upstream = match Connection::connect(target, self.options.start_timeout).await {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::error!(%target, %error, "the server cannot be reached");
                return Ok(Some(self.unconnected(target, &error)));
            }
        };
        let LinesOptions { limits, max_pending, shutdown, resources, waits, .. } = self.options.clone();
        let options = socket::Options { limits, max_pending, grace: shutdown.grace, drain: None, resources, waits };
        let outcome = socket::serve((connection.halves()?, allowance), upstream, options, drain.stops()).await?;
        let is_clean = outcome.is_clean();
        let socket::Outcome { cause, orphans, counts, blocked } = outcome;
        if !is_clean {
            tracing::warn!(%cause, orphans, "the session did not end well");
        }
        log_end(&cause, orphans, counts, blocked);
        Ok(None)
    }

    /// Why there is no connection.
    fn unconnected(&self, target: &Target, error: &io::Error) -> Reason {
        // What the system gave up by itself took longer than we know.
        if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() {
            self.options.resources.metrics.timeouts.add((TimeoutOf::Connect,), 1);
            let what = format!("connecting to {target}").into();
            return Reason::Timeout(Timeout { what, after: self.options.start_timeout });
        }
        Reason::ServerUnreachable { what: error.to_string(), url: target.to_string() }
    }

    /// A session with a server over HTTP, which answers by itself when that cannot be reached.
    async fn with_http(
        &self,
        connection: &Connection,
        client: &Client,
        (drain, allowance): (Drain, &Allowance),
    ) -> io::Result<Option<Reason>> {
        let LinesOptions { limits, max_pending, resources, waits, .. } = self.options.clone();
        let options = dial::Options { limits, max_pending, drain: None, resources, waits };
        let outcome = dial::serve((connection.halves()?, allowance), client.clone(), options, drain.stops()).await;
        let is_clean = outcome.is_clean();
        let dial::Outcome { cause, orphans, counts, blocked } = outcome;
        if !is_clean {
            tracing::warn!(%cause, orphans, "the session did not end well");
        }
        log_end(&cause, orphans, counts, blocked);
        Ok(None)
    }
}

/// A connection's end is its own affair; a panic in it is ours.
fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session failed");
    }
}

fn shown(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_string())
}

/// How long a client may take to end its connection after we did, or to ask what it is refused.
const LINGER: Duration = Duration::from_secs(2);
/// How long the last steps of a session may take beyond all its deadlines.
const MOMENT: Duration = Duration::from_secs(3);
/// Most clients that are being turned away at a time; then nobody is accepted for a while.
const MAX_REFUSALS: usize = 64;
/// When to try again where there is no room, in seconds.
const RETRY_AFTER: u32 = 5;
