//! Which child serves whom: sessions by their id, shared children by their client.
//!
//! A table of senders behind a lock that is held for a look-up or an insertion, never across an await.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::host::Order;

/// The way to the task of one child.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) orders: mpsc::Sender<Order>,
    /// Cancelled when nobody wants the child any more. Not an order, which would wait behind others for a
    /// child that reads nothing.
    pub(super) end: CancellationToken,
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
}

/// A place in the table, given back when dropped.
#[derive(Debug)]
pub(super) struct Place<K: Hash + Eq + Clone> {
    hosts: Arc<Hosts<K>>,
    key: K,
    orders: mpsc::WeakSender<Order>,
}

/// The way to a child, and what its task needs if there is none yet.
pub(super) type Found<K> = (Way, Option<(mpsc::Receiver<Order>, Place<K>)>);

impl<K: Hash + Eq + Clone> Hosts<K> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(Table { open: HashMap::new(), taken: 0 }) })
    }

    /// The way to the child of `key`, if it still takes orders.
    pub(super) fn find(&self, key: &K) -> Option<Way> {
        self.lock().open.get(key).filter(|way| !way.orders.is_closed()).cloned()
    }

    /// The way to the child of `key`; if there is none that takes orders, room for a new one. `Err` if there
    /// are `max` already, those included that are ending.
    pub(super) fn find_or_insert(self: &Arc<Self>, key: K, max: usize) -> Result<Found<K>, usize> {
        let mut table = self.lock();
        if let Some(way) = table.open.get(&key).filter(|way| !way.orders.is_closed()) {
            return Ok((way.clone(), None));
        }
        if table.taken >= max {
            return Err(max);
        }
        table.taken += 1;
        let (orders, received) = mpsc::channel(MAX_ORDERS);
        let place = Place { hosts: Arc::clone(self), key: key.clone(), orders: orders.downgrade() };
        let way = Way { orders, end: CancellationToken::new() };
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
