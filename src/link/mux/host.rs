//! The task of one child: it owns the child's streams, what is remembered of its exchanges, and its end.
//!
//! Nothing else touches any of these; exchanges give orders over a bounded channel and get their answers
//! through their [lanes](super::lanes). The task ends when the child is gone and reaped, or when nobody
//! can ask for it any more; or it goes on with [another](again) after a crash, if so asked.

mod acting;
mod again;
mod due;
mod ending;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use http::HeaderValue;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::again::Again;
use super::{
    Client, Parts,
    book::Book,
    child_io::{ChildIo, Said},
    effect::Effect,
    hosts::{Place, Way},
    keeping::Keeping,
    lanes::{Departed, Lanes, Opening, Seat},
    meter::Meter,
    order::{Claim, Order, Post},
    patience::Patience,
    running::{LINGER, Moved, Running},
};
use crate::{
    budget::Allowance,
    clock,
    link::{
        nursery::{Born, Nursery},
        parting,
        waits::{SlowConsumer, Stall},
    },
    resources::Resources,
    session::{McpSessionId, Reason, StreamKeys, shared::Leaving},
    supervise::{ExitStatus, ladder::Ladder, server_log::ServerLog},
    telemetry::metrics::{
        OpenSession,
        labels::{Link, SessionEnd, Side, TimeoutOf, To},
    },
};

/// The task's state.
pub(super) struct Host {
    parts: Arc<Parts>,
    orders: mpsc::Receiver<Order>,
    /// Cancelled when the client wants no more of this session.
    end: CancellationToken,
    /// Why no more orders are taken, where there is more to say than that the child is ending.
    over: Arc<OnceLock<Reason>>,
    book: Book,
    /// `None`: the child serves no session.
    pub(super) session: Option<OpenSession>,
    meter: Meter,
    lanes: Lanes,
    keys: StreamKeys,
    ladder: Ladder,
    effects: Vec<Effect>,
    /// Exchanges to be told 202 once everything is written (Rule H5).
    accepted: Vec<oneshot::Sender<Opening>>,
    /// Whether we were told that nobody waits for the child's own end.
    is_hurried: bool,
    chair: Chair,
    /// Room for what is on its way.
    allowance: Allowance,
    /// Room for what is kept.
    keeping: Keeping,
    /// `None`: the task ends with its child.
    again: Option<Again>,
}

/// The task's place among its kind.
#[derive(Debug)]
pub(super) enum Chair {
    Shared(Place<Client>),
    Session(#[expect(dead_code, reason = "held, and given back when dropped")] Place<McpSessionId>),
}

impl Host {
    pub(super) fn new(
        parts: Arc<Parts>,
        orders: mpsc::Receiver<Order>,
        way: &Way,
        book: Book,
        chair: Chair,
        allowance: Allowance,
    ) -> Self {
        let ladder = Ladder::new(parts.options.shutdown);
        let again = Again::new(&chair, parts.options.restart);
        let Resources { metrics, verify, budget, .. } = &parts.options.resources;
        let keeping = Keeping::new(budget);
        let meter = Meter::new(metrics);
        let check = verify.check(metrics, Link::Mux, To::Client);
        let lanes = Lanes::new(parts.options.keep_alive, check, metrics.clone());
        let patience = parts.options.slow_consumer.and_then(SlowConsumer::limit);
        let lanes = lanes.with_patience(patience, Stall::counted(metrics, Link::Mux, Side::Client));
        Self {
            parts,
            orders,
            end: way.end.clone(),
            over: Arc::clone(&way.over),
            book,
            session: None,
            meter,
            lanes,
            keys: StreamKeys::new(),
            ladder,
            effects: Vec::new(),
            accepted: Vec::new(),
            is_hurried: false,
            chair,
            allowance,
            keeping,
            again,
        }
    }

    /// Starts the child and serves it to its end, and those that come after it.
    pub(super) async fn run(mut self) {
        let nursery = self.parts.nursery.clone();
        let command = self.parts.command.clone();
        let timeout = self.parts.options.start_timeout;
        let stop = self.parts.stop.clone();
        let not_before = self.chair.not_before();
        let born = tokio::select! {
            born = async {
                if let Some(not_before) = not_before {
                    sleep_until(not_before.into()).await;
                }
                tokio::time::timeout(timeout, nursery.spawn(command)).await
            } => born,
            () = stop.cancelled() => return self.refuse_rest(Reason::SessionEnded).await,
        };
        let mut born = match born {
            Ok(Ok(born)) => born,
            Ok(Err(error)) => {
                let url = self.parts.command.program.to_string_lossy().into_owned();
                return self.fail(Reason::ServerUnreachable { what: error.to_string(), url }).await;
            }
            Err(_) => {
                self.meter.metrics().timeouts.add((TimeoutOf::ChildStart,), 1);
                return self.fail(parting::not_started(timeout)).await;
            }
        };
        let mut is_another = not_before.is_some();
        while let Some(next) = self.live(born, is_another, &nursery).await {
            (born, is_another) = (next, true);
        }
    }

    /// Serves one child to its end. Returns the next, if there is one.
    async fn live(&mut self, born: Born, is_another: bool, nursery: &Nursery) -> Option<Born> {
        let counted = (self.parts.started(), self.meter.metrics().child());
        if is_another {
            self.meter.metrics().restarts.add((), 1);
        }
        let Born { child, exit, claim } = born;
        tracing::info!(pid = %child.id, kind = self.book.name(), "server started");
        let mut lines = self.parts.log.clone();
        let Resources { metrics, verify, .. } = &self.parts.options.resources;
        let io = ChildIo::new(child.stdin, child.stdout, self.parts.options.limits, &self.allowance);
        let io = io.verified(*verify, metrics);
        let log = ServerLog::new(child.stderr, async move |line: &[u8]| lines.pass(line).await);
        let words = log.last_words();
        let running = Running {
            id: child.id,
            born: now(),
            io,
            status: None,
            words,
            said: Vec::new(),
            linger_due: None,
            settle_due: None,
            patience: Patience::new(&self.parts.options, now()),
            is_lost: false,
        };
        self.serve(running, exit, log.run(), nursery).await;
        drop((claim, counted));
        if self.can_go_on() { self.rest(nursery).await } else { None }
    }

    async fn serve(
        &mut self,
        mut child: Running,
        mut exit: oneshot::Receiver<ExitStatus>,
        log: impl Future<Output = ()>,
        nursery: &Nursery,
    ) {
        let mut log = pin!(log);
        let (mut is_logging, mut has_orders) = (true, true);
        let parts = Arc::clone(&self.parts);
        let Parts { stop, hurry, .. } = &*parts;
        let mut alarm = pin!(sleep(Duration::ZERO));
        self.begin_again(&mut child);
        // A reader that is only slow still gets what was said.
        while !child.is_over() || (self.lanes.is_stalled() && !stop.is_cancelled()) {
            // Whoever came for a child that is being lost is told how it ended, as soon as that is known.
            let can_take = has_orders && !child.io.is_backed_up() && !self.is_crowded() && !child.is_lost;
            let can_read = !child.io.has_ended() && !self.lanes.note_stall(now) && !child.io.is_full_of_replies();
            let room = self.lanes.room();
            let is_heard = can_read && !self.ladder.is_started();
            child.patience.observe(is_heard, self.book.is_asked(), now);
            let due = self.due(&child);
            if let Some(due) = due.map(Into::into).filter(|&due| due != alarm.deadline()) {
                alarm.as_mut().reset(due);
            }
            // Not biased: a child that never stops talking must not keep its clients from being heard, nor
            // its stderr from being drained.
            tokio::select! {
                () = stop.cancelled(), if !self.ladder.is_started() => {
                    self.note_end(SessionEnd::Stopped);
                    self.end_child(&mut child);
                }
                () = self.end.cancelled(), if !self.ladder.is_started() => {
                    self.note_end(SessionEnd::Client);
                    self.book.retire(&mut self.effects);
                }
                () = hurry.cancelled(), if !self.is_hurried => self.hurry(&mut child),
                () = &mut alarm, if due.is_some() => self.handle_due(&mut child, nursery).await,
                departed = self.lanes.departed() => self.leave(departed, Leaving::ClientGone),
                () = room, if self.lanes.is_stalled() => self.lanes.unstall(now()),
                moved = poll_fn(|cx| child.poll_io(cx, can_read)) => self.handle_io(&mut child, moved),
                order = self.orders.recv(), if can_take => match order {
                    Some(order) => self.handle_order(order),
                    None => {
                        has_orders = false;
                        self.end_child(&mut child);
                    }
                },
                status = &mut exit, if child.status.is_none() => {
                    self.note_end_by_server();
                    child.exited(status.ok());
                }
                () = &mut log, if is_logging => is_logging = false,
            }
            self.act(Some(&mut child.io));
            self.take_waiting(&mut child);
            if self.book.is_over() {
                self.end_child(&mut child);
            }
        }
        parting::hear_out(log.as_mut(), &mut is_logging).await;
        if let Chair::Shared(place) = &self.chair {
            place.explain(&parting::exited(child.status, &child.words));
        }
        self.settle(&mut child);
        if !self.can_go_on() {
            self.lanes.cut_all("the server is gone");
            self.refuse_rest(parting::exited(child.status, &child.words)).await;
        }
        if is_logging {
            // Its last words; a process it left behind may hold stderr open for ever.
            let _ = tokio::time::timeout(LAST_WORDS, log).await;
        }
    }

    fn handle_order(&mut self, order: Order) {
        let now = now();
        let Some(order) = self.put_off(order, now) else { return };
        if self.ladder.is_started() && !self.can_go_on() {
            return order.refuse(self.over.get().cloned().unwrap_or_else(|| self.book.too_late()));
        }
        match order {
            Order::Post(post) => {
                let Post { frame, envelope, elements, headers, arrived, seat, span, seen, claim } = *post;
                let _in = span.entered();
                if !claim.as_ref().is_none_or(Claim::claim) {
                    // Its time has passed, and its client was told so.
                    return;
                }
                let (key, kind, len) = (self.keys.mint(), envelope.kind(), frame.len());
                let message = (frame, envelope, &*elements);
                match self.book.post(key, message, &headers, ((arrived, now), seen), &mut self.effects) {
                    Ok(will_answer) => {
                        self.meter.posted(kind, len, arrived);
                        if will_answer {
                            self.lanes.open(key, seat, self.book.is_pausable(), now);
                        } else {
                            self.accepted.push(seat.answer);
                        }
                    }
                    Err(reply) => {
                        let _ = seat.answer.send(Opening::Refused(reply));
                    }
                }
            }
            Order::Listen { last_event_id, seat } => self.listen(last_event_id, seat, now),
        }
    }

    fn listen(&mut self, last_event_id: Option<HeaderValue>, seat: Seat, now: Instant) {
        let key = self.keys.mint();
        // The lane first: what was held back comes at once.
        self.lanes.open(key, seat, true, now);
        match self.book.listen(key, last_event_id.as_ref().map(HeaderValue::as_bytes), now, &mut self.effects) {
            Ok(first) => self.lanes.open_events(key, first, now),
            Err(reply) => self.lanes.refuse(key, reply),
        }
    }

    fn leave(&mut self, departed: Departed, why: Leaving) {
        self.book.leave(departed, why, now(), &mut self.effects);
    }

    fn handle_io(&mut self, child: &mut Running, moved: Moved) {
        match moved {
            Moved::Written => {
                let now = now();
                child.patience.freed(|| now);
                self.meter.written(now);
            }
            Moved::Blocked => {}
            Moved::Lost => self.lose(child),
            Moved::Read => {
                let now = now();
                child.patience.heard(now);
                for said in child.said.drain(..) {
                    self.hear(said, now);
                }
                child.said.shrink_to(MAX_SPARE);
                if child.io.has_ended() {
                    self.note_end_by_server();
                    child.settle_due = Some(now + LINGER);
                    self.lose(child);
                }
            }
        }
    }

    fn hear(&mut self, said: Said, now: Instant) {
        let message = match &said {
            Said::Message { frame, envelope, .. } => Some((envelope.kind(), frame.len())),
            Said::Refused { .. } => None,
            Said::Noise => {
                self.meter.noise();
                None
            }
        };
        let before = self.effects.len();
        self.book.hear(said, now, &mut self.effects);
        if let (Some((kind, len)), false) = (message, matches!(self.effects.get(before), Some(Effect::Dropped(_)))) {
            self.meter.heard(kind, len);
        }
    }
}

impl Chair {
    /// When the child may be started.
    fn not_before(&self) -> Option<Instant> {
        match self {
            Self::Shared(place) => place.not_before(),
            Self::Session(_) => None,
        }
    }
}

fn now() -> Instant {
    clock::now().into_std()
}

/// Most entries of a list that is empty for now for which room is kept.
const MAX_SPARE: usize = 64;

/// How long the stderr of a child that has exited may stay open.
const LAST_WORDS: Duration = Duration::from_secs(1);
