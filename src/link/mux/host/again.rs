//! A session that outlives its child: the pause after a crash, the next start, and who waits meanwhile.
//!
//! What clients post waits, in its order, as if the child were slow; notifications too, because a cancellation may
//! be among them. Nobody waits for longer than for a child to start. What the crashed child was told by then was
//! answered with how it ended, and is said to no other: it may have been done.

use std::{
    collections::VecDeque,
    pin::pin,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until, timeout};

use super::{Chair, Host, now};
use crate::{
    link::{
        chance,
        mux::{order::Order, running::Running},
        nursery::{Born, Nursery},
        parting,
    },
    session::{
        Reason,
        restart::{Crashes, Restart},
        shared::Leaving,
    },
    supervise::ladder::Ladder,
    telemetry::metrics::labels::{SessionEnd, TimeoutOf},
};

/// What is remembered from one child to the next.
#[derive(Debug)]
pub(super) struct Again {
    crashes: Crashes,
    /// When the next child may be started. `None`: none has crashed yet.
    until: Option<Instant>,
    /// Whether the crash of this child was noted.
    has_fallen: bool,
    /// Whether everybody was told of it.
    is_told: bool,
    /// Orders that wait for a child. Invariant: at most [`MAX_WAITING`].
    waiting: VecDeque<(Instant, Order)>,
}

impl Again {
    /// `None`: nothing comes after the child here.
    pub(super) fn new(chair: &Chair, restart: Restart) -> Option<Self> {
        let is_asked = restart == Restart::Replay && matches!(chair, Chair::Session(_));
        is_asked.then(|| Self {
            crashes: Crashes::default(),
            until: None,
            has_fallen: false,
            is_told: false,
            waiting: VecDeque::new(),
        })
    }
}

impl Host {
    /// Whether there will be another child when this one is gone.
    pub(super) fn can_go_on(&self) -> bool {
        let is_wanted =
            !self.is_hurried && !self.parts.stop.is_cancelled() && !self.end.is_cancelled() && !self.orders.is_closed();
        self.again.is_some() && is_wanted && self.book.can_go_on()
    }

    /// The session ends with its child, unless there will be another.
    pub(super) fn note_end_by_server(&mut self) {
        if !self.can_go_on() {
            self.note_end(SessionEnd::Server);
        }
    }

    /// The child crashed; noted once.
    pub(super) fn fall(&mut self, child: &Running) {
        let (is_crash, now) = (self.can_go_on(), now());
        let Some(again) = self.again.as_mut().filter(|again| is_crash && !again.has_fallen) else { return };
        again.has_fallen = true;
        let rest = again.crashes.note(now.saturating_duration_since(child.born), chance());
        again.until = Some(now + rest);
        let crashes = again.crashes.in_a_row();
        tracing::warn!(
            pid = %child.id, ?rest, crashes,
            "the server crashed; the session goes on with another, which knows nothing of subscriptions or of any other state"
        );
    }

    /// Everybody who waits for an answer is told how the child ended; who came later only if it never was of use.
    pub(super) fn crash(&mut self, reason: &Reason, child: &Running) {
        self.fall(child);
        let was_away = self.book.is_away();
        let Some(again) = self.again.as_mut().filter(|again| !again.is_told) else { return };
        again.is_told = true;
        self.book.crash(reason, &mut self.effects);
        if was_away {
            self.refuse_waiting(reason);
        }
    }

    /// The handshake is said to a child that is not the first.
    pub(super) fn begin_again(&mut self, child: &mut Running) {
        let Some(again) = &mut self.again else { return };
        (again.has_fallen, again.is_told) = (false, false);
        if again.until.is_some() {
            self.book.begin_again(now(), &mut self.effects);
            self.act(Some(&mut child.io));
        }
    }

    /// Waits until there is another child. `None`: the session ended meanwhile.
    pub(super) async fn rest(&mut self, nursery: &Nursery) -> Option<Born> {
        self.ladder = Ladder::new(self.parts.options.shutdown);
        let (stop, limit) = (self.parts.stop.clone(), self.parts.options.start_timeout);
        let (command, until) = (self.parts.command.clone(), self.again.as_ref()?.until?);
        let mut birth = pin!(async {
            sleep_until(until.into()).await;
            timeout(limit, nursery.spawn(command)).await
        });
        let mut alarm = pin!(sleep(Duration::ZERO));
        let mut is_wanted = false;
        while !self.book.is_over() {
            // Without anybody to serve there is no hurry.
            is_wanted |= self.waiting_due().is_some() || self.book.is_attended();
            let room = self.lanes.room();
            self.lanes.note_stall(now);
            let lanes = [self.lanes.due(), self.lanes.patience_due()];
            let due = lanes.into_iter().chain([self.book.due(), self.waiting_due()]).flatten().min();
            if let Some(due) = due.map(Into::into).filter(|&due| due != alarm.deadline()) {
                alarm.as_mut().reset(due);
            }
            tokio::select! {
                () = stop.cancelled() => {
                    self.note_end(SessionEnd::Stopped);
                    self.book.retire(&mut self.effects);
                }
                () = self.end.cancelled() => {
                    self.note_end(SessionEnd::Client);
                    self.book.retire(&mut self.effects);
                }
                () = &mut alarm, if due.is_some() => {
                    self.cut_slow(now());
                    self.look_around(false, now());
                    self.give_up_waiting(now());
                }
                departed = self.lanes.departed() => self.leave(departed, Leaving::ClientGone),
                () = room, if self.lanes.is_stalled() => self.lanes.unstall(now()),
                order = self.orders.recv(), if !self.is_crowded() => match order {
                    Some(order) => self.handle_order(order),
                    None => self.book.retire(&mut self.effects),
                },
                born = &mut birth, if is_wanted => match born {
                    Ok(Ok(born)) => return Some(born),
                    Ok(Err(error)) => self.give_up(&Reason::RestartFailed { what: error.to_string() }),
                    Err(_) => {
                        self.meter.metrics().timeouts.add((TimeoutOf::ChildStart,), 1);
                        self.give_up(&parting::not_started(limit));
                    }
                },
            }
            self.act(None);
        }
        self.lanes.cut_all("the session has ended");
        let reason = self.ended_by();
        self.refuse_rest(reason).await;
        None
    }

    /// No other child came about.
    fn give_up(&mut self, reason: &Reason) {
        tracing::error!(error = %reason, "the server cannot be started again");
        self.note_end(SessionEnd::Unreachable);
        self.parts.health.failed();
        self.end_book(reason);
    }

    /// Keeps an order that must wait for a child. Whoever would wait for too long is refused at once.
    pub(super) fn put_off(&mut self, order: Order, now: Instant) -> Option<Order> {
        let must_wait = self.can_go_on() && (self.ladder.is_started() || self.book.is_away());
        let Some(again) = self.again.as_mut().filter(|_| must_wait) else { return Some(order) };
        let Order::Post(post) = &order else { return Some(order) };
        let due = post.arrived + self.parts.options.start_timeout;
        match again.until {
            Some(until) if until > due => {
                let what = format!("the server crashed {} times in a row", again.crashes.in_a_row());
                let rest = until.saturating_duration_since(now).as_secs();
                let retry_after = u32::try_from(rest.saturating_add(1)).unwrap_or(u32::MAX);
                order.refuse(Reason::Overloaded { what, retry_after });
            }
            _ => again.waiting.push_back((due, order)),
        }
        None
    }

    /// Whether no more orders may be taken until one of those that wait is gone.
    pub(super) fn is_crowded(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.waiting.len() >= MAX_WAITING)
    }

    /// When the first of those that wait has waited for too long.
    pub(super) fn waiting_due(&self) -> Option<Instant> {
        self.again.as_ref()?.waiting.iter().map(|(due, _)| *due).min()
    }

    /// The child is there again: it gets what waited. If the session has ended instead, everybody is told why.
    pub(super) fn take_waiting(&mut self, child: &mut Running) {
        if self.book.is_over() {
            return self.refuse_waiting(&self.ended_by());
        }
        if self.book.is_away() || self.ladder.is_started() {
            return;
        }
        let Some(again) = self.again.as_mut().filter(|again| !again.waiting.is_empty()) else { return };
        for (_, order) in std::mem::take(&mut again.waiting) {
            self.handle_order(order);
        }
        self.act(Some(&mut child.io));
    }

    /// Refuses those that have waited for too long.
    pub(super) fn give_up_waiting(&mut self, now: Instant) {
        let limit = self.parts.options.start_timeout;
        let Some(again) = &mut self.again else { return };
        // Not in the order of their limits: they are by when each was read whole.
        for (due, order) in std::mem::take(&mut again.waiting) {
            if due <= now {
                self.meter.metrics().timeouts.add((TimeoutOf::ChildStart,), 1);
                order.refuse(parting::not_started(limit));
            } else {
                again.waiting.push_back((due, order));
            }
        }
    }

    pub(super) fn refuse_waiting(&mut self, reason: &Reason) {
        let waiting = self.again.as_mut().map(|again| std::mem::take(&mut again.waiting)).unwrap_or_default();
        for (_, order) in waiting {
            order.refuse(reason.clone());
        }
    }

    fn ended_by(&self) -> Reason {
        self.book.ended_by().unwrap_or_else(|| self.book.too_late())
    }
}

/// Most orders that wait for another child; whoever gives more waits with them, before they are taken.
const MAX_WAITING: usize = 64;
