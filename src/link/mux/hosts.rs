//! Which child serves whom: sessions by their id, shared children by their client.
//!
//! Also which children crashed, and when there may be others. A table of senders behind a lock that is held for a look-up or an insertion, never across an await.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::order::Order;
use crate::session::{
    Reason,
    restart::{Crashes, FORGIVEN, Restart},
};

/// The way to the task of one child.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) orders: mpsc::Sender<Order>,
    /// Cancelled when nobody wants the child any more. Not an order, which would wait behind others for a
    /// child that reads nothing.
    pub(super) end: CancellationToken,
    /// Why the child takes no more orders, where its task says so.
    pub(super) over: Arc<OnceLock<Reason>>,
}

/// Ways to the tasks of children.
#[derive(Debug)]
pub(super) struct Hosts<K> {
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    open: HashMap<K, Way>,
    /// Places that were not given back. More than `open` when children that are ending were replaced.
    taken: usize,
    /// Who crashed not long ago. Invariant: at most [`MAX_FALLEN`].
    fallen: HashMap<K, Fallen>,
}

/// The crash of a child.
#[derive(Debug)]
struct Fallen {
    crashes: Crashes,
    /// When there may be another, if ever.
    until: Option<Instant>,
    /// How it ended, once it is known.
    reason: Option<Reason>,
}

/// Why there is no place for another child.
#[derive(Debug)]
pub(super) enum NoPlace {
    /// There are so many already.
    Full(usize),
    /// The one before has crashed too often to be waited for now.
    Resting { crashes: u32, rest: Duration },
    /// The one before has crashed, and there will be no other.
    Fallen(Option<Reason>),
}

/// A place in the table, given back when dropped.
#[derive(Debug)]
pub(super) struct Place<K: Hash + Eq + Clone> {
    hosts: Arc<Hosts<K>>,
    key: K,
    orders: mpsc::WeakSender<Order>,
    /// When a child may be started there.
    not_before: Option<Instant>,
}

/// The way to a child, and what its task needs if there is none yet.
pub(super) type Found<K> = (Way, Option<(mpsc::Receiver<Order>, Place<K>)>);

impl Way {
    /// Why the child takes no more orders. Of a session, if there is no more to say, that it is not there.
    pub(super) fn too_late(&self) -> Reason {
        self.over.get().cloned().unwrap_or(Reason::SessionNotFound)
    }
}

impl<K: Hash + Eq + Clone> Hosts<K> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(Table { open: HashMap::new(), taken: 0, fallen: HashMap::new() }) })
    }

    /// The way to the child of `key`, if it still takes orders.
    pub(super) fn find(&self, key: &K) -> Option<Way> {
        self.lock().open.get(key).filter(|way| !way.orders.is_closed()).cloned()
    }

    /// The way to the child of `key`; if there is none that takes orders, room for a new one. `Err` if there
    /// are `max` already, those included that are ending, or if the one before has crashed and there will be no
    /// other for longer than `patience`.
    pub(super) fn find_or_insert(
        self: &Arc<Self>,
        key: K,
        max: usize,
        (patience, now): (Duration, Instant),
    ) -> Result<Found<K>, NoPlace> {
        let mut table = self.lock();
        if let Some(way) = table.open.get(&key).filter(|way| !way.orders.is_closed()) {
            return Ok((way.clone(), None));
        }
        if table.taken >= max {
            return Err(NoPlace::Full(max));
        }
        let not_before = match table.fallen.get(&key) {
            Some(fallen) => Some(fallen.rest(patience, now)?),
            None => None,
        };
        table.taken += 1;
        let (orders, received) = mpsc::channel(MAX_ORDERS);
        let place = Place { hosts: Arc::clone(self), key: key.clone(), orders: orders.downgrade(), not_before };
        let way = Way { orders, end: CancellationToken::new(), over: Arc::default() };
        table.open.insert(key, way.clone());
        Ok((way, Some((received, place))))
    }

    /// Forgets every way, so that tasks nobody else can reach end.
    pub(super) fn clear(&self) {
        self.lock().open.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table<K>> {
        // No code that could panic runs under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Place<K> {
    /// When a child may be started here; at once if `None`.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// The child crashed, after it `lived` so long. To be said before it takes no more orders, or somebody could
    /// have another started first.
    pub(super) fn fall(&self, restart: Restart, lived: Duration, chance: u16, now: Instant) {
        let mut table = self.hosts.lock();
        table.fallen.retain(|_, fallen| fallen.until.is_none_or(|until| until + FORGIVEN > now));
        let mut crashes = table.fallen.get(&self.key).map(|fallen| fallen.crashes).unwrap_or_default();
        let rest = crashes.note(lived, chance);
        let until = (restart != Restart::Never).then_some(now + rest);
        if table.fallen.len() < MAX_FALLEN || table.fallen.contains_key(&self.key) {
            table.fallen.insert(self.key.clone(), Fallen { crashes, until, reason: None });
        }
        // Whoever reads the log may be slow, and everybody who wants a child waits for the table.
        drop(table);
        match until {
            Some(_) => tracing::warn!(?rest, crashes = crashes.in_a_row(), "the server crashed; the next start waits"),
            None => tracing::error!("the server crashed, and is not started again"),
        }
    }

    /// How the child that crashed ended.
    pub(super) fn explain(&self, reason: &Reason) {
        if let Some(fallen) = self.hosts.lock().fallen.get_mut(&self.key) {
            fallen.reason = Some(reason.clone());
        }
    }
}

impl Fallen {
    /// When there may be another child, if that is not too long to wait.
    fn rest(&self, patience: Duration, now: Instant) -> Result<Instant, NoPlace> {
        let until = self.until.ok_or_else(|| NoPlace::Fallen(self.reason.clone()))?;
        let rest = until.saturating_duration_since(now);
        if rest > patience {
            return Err(NoPlace::Resting { crashes: self.crashes.in_a_row(), rest });
        }
        Ok(until)
    }
}

impl<K: Hash + Eq + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut table = self.hosts.lock();
        table.taken -= 1;
        // Another child may have taken the place since this one took no more orders.
        let is_ours = table.open.get(&self.key).is_some_and(|Way { orders, .. }| {
            orders.is_closed() || self.orders.upgrade().is_some_and(|ours| ours.same_channel(orders))
        });
        if is_ours {
            table.open.remove(&self.key);
        }
    }
}

/// Most orders that wait for a child's task; whoever gives more waits with them.
const MAX_ORDERS: usize = 64;

/// Most crashes that are remembered; whoever crashes beyond that is started again at once.
const MAX_FALLEN: usize = 4096;
