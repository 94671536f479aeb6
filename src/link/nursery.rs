//! The task that owns the keeper: starts children for whoever asks, pushes them, and tells how each ended.
//!
//! It is the only one who waits for exits, because the keeper has one socket for all children. A keeper that is
//! lost, and its children with it, is replaced. Whoever forgets a child, as by a panic, has it ended; and now and
//! then what we believe to run is held against what does.

#[cfg(test)]
pub(super) mod memory;

use std::{collections::HashMap, io, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::supervise::{
    ChildId, Command, ExitStatus, SpawnError,
    keeper::{Child, Keeper},
    ladder::Push,
};
use crate::telemetry::metrics::Metrics;

/// Asks the nursery. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Nursery {
    orders: mpsc::Sender<Order>,
}

/// A child, and how it will have ended.
#[derive(Debug)]
pub(super) struct Born {
    pub(super) child: Child,
    /// Fails if the keeper is lost, and with it the knowledge.
    pub(super) exit: oneshot::Receiver<ExitStatus>,
    /// Kept for as long as somebody cares for the child. Without it, it is killed if it still runs.
    pub(super) claim: DropGuard,
}

#[derive(Debug)]
enum Order {
    Spawn(Command, oneshot::Sender<Result<Born, SpawnError>>),
    Push(ChildId, Push),
    /// End every child, and say when all are reaped.
    Finish(oneshot::Sender<io::Result<()>>),
}

impl Nursery {
    /// Starts the task; it ends, and the keeper with it, when every handle is gone.
    pub(super) fn start(keeper: Keeper, metrics: Metrics) -> Self {
        let (orders, received) = mpsc::channel(MAX_ORDERS);
        // Detached, but not lost: it ends with the last handle, and `finish` waits for it.
        tokio::spawn(run(keeper, received, metrics));
        Self { orders }
    }

    pub(super) async fn spawn(&self, command: Command) -> Result<Born, SpawnError> {
        let (answer, answered) = oneshot::channel();
        // A task that is gone drops the question, and that is its answer.
        let _ = self.orders.send(Order::Spawn(command, answer)).await;
        answered.await.unwrap_or_else(|_| Err(SpawnError::Keeper(io::ErrorKind::BrokenPipe.into())))
    }

    /// Ends every child that is left, and waits until all are reaped.
    ///
    /// # Errors
    ///
    /// If the keeper failed, now or before.
    pub(super) async fn finish(&self) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        let _ = self.orders.send(Order::Finish(answer)).await;
        answered.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
    }

    pub(super) async fn push(&self, child: ChildId, push: Push) {
        // Without a keeper, its children are being ended already.
        let _ = self.orders.send(Order::Push(child, push)).await;
    }
}

/// Who pushes one child, and tells how it ended: the keeper itself, or the task that shares it.
#[derive(Debug)]
pub(super) enum Carer<'a> {
    /// The child is its only one.
    Keeper(&'a mut Keeper),
    /// One of many.
    Nursery(Nursery, oneshot::Receiver<ExitStatus>),
}

impl Carer<'_> {
    /// How the child ended. Not to be asked again once it was told.
    ///
    /// # Errors
    ///
    /// If the keeper is lost.
    ///
    /// # Cancel safety
    ///
    /// Safe: an exit that was not returned is returned by the next call.
    pub(super) async fn exit(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Keeper(keeper) => keeper.next_exit().await.map(|(_, status)| status),
            Self::Nursery(_, exit) => exit.await.map_err(|_| io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Sends a signal to the child's process group.
    ///
    /// # Errors
    ///
    /// If the keeper is lost.
    ///
    /// # Cancel safety
    ///
    /// None: half a request may have been written.
    pub(super) async fn push(&mut self, child: ChildId, push: Push) -> io::Result<()> {
        match self {
            Self::Keeper(keeper) => keeper.push(child, push).await,
            Self::Nursery(nursery, _) => {
                nursery.push(child, push).await;
                Ok(())
            }
        }
    }
}

async fn run(mut keeper: Keeper, mut orders: mpsc::Receiver<Order>, metrics: Metrics) {
    let term = keeper.term();
    loop {
        let ended = serve(&mut keeper, &mut orders, &metrics).await;
        if let Err(error) = &ended {
            tracing::error!(%error, "the keeper process is lost, and every server with it");
        }
        // It waits for the keeper's process, which waits for the children it ends.
        let finished = tokio::task::spawn_blocking(move || keeper.finish()).await;
        let finished = finished.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Ok(answer) = ended {
            // Whoever asked may have been cut off.
            let _ = answer.map(|answer| answer.send(finished));
            return;
        }
        sleep(RESTART_AFTER).await;
        keeper = match Keeper::start_with(term) {
            Ok(keeper) => keeper,
            Err(error) => return tracing::error!(%error, "the keeper process cannot be started again"),
        };
    }
}

/// Serves with one keeper, until it is to be finished, and who wants to know that it was. `Err` if it was lost.
async fn serve(
    keeper: &mut Keeper,
    orders: &mut mpsc::Receiver<Order>,
    metrics: &Metrics,
) -> io::Result<Option<oneshot::Sender<io::Result<()>>>> {
    let mut living: HashMap<ChildId, oneshot::Sender<ExitStatus>> = HashMap::new();
    let mut forgotten = FuturesUnordered::new();
    let mut audit = Audit::default();
    let mut audits = interval(AUDIT_EVERY);
    audits.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return Ok(None),
                Some(Order::Finish(answer)) => return Ok(Some(answer)),
                Some(Order::Spawn(command, answer)) => {
                    if answer.is_closed() {
                        continue;
                    }
                    let born = keeper.spawn(&command).await.map(|child| {
                        let (tell, exit) = oneshot::channel();
                        let (id, claimed) = (child.id, CancellationToken::new());
                        living.insert(id, tell);
                        let claim = claimed.clone().drop_guard();
                        forgotten.push(async move {
                            claimed.cancelled_owned().await;
                            id
                        });
                        Born { child, exit, claim }
                    });
                    // If nobody waits any more, it is forgotten with this.
                    let _ = answer.send(born);
                }
                // Who is not among the living may be of a keeper that was lost.
                Some(Order::Push(child, push)) => if living.contains_key(&child) {
                    keeper.push(child, push).await?;
                },
            },
            Some(child) = forgotten.next(), if !forgotten.is_empty() => if living.contains_key(&child) {
                tracing::debug!(pid = %child, "nobody cares for the server any more; it is killed");
                keeper.push(child, Push::Kill).await?;
            },
            _ = audits.tick() => {
                metrics.children_unaccounted.set((), audit.look(living.len(), keeper));
            }
            exit = keeper.next_exit() => {
                let (child, status) = exit?;
                if let Some(tell) = living.remove(&child) {
                    // Its host may have ended before it.
                    let _ = tell.send(status);
                }
            }
        }
    }
}

/// What we believe to run, held against what does.
#[derive(Debug, Default)]
struct Audit {
    /// What the last look found.
    last: usize,
}

impl Audit {
    /// How many processes nobody accounts for now. Those that end just now are ended by the next look.
    fn look(&mut self, believed: usize, keeper: &Keeper) -> usize {
        let beyond = keeper.running().abs_diff(believed) + keeper.unaccounted().unwrap_or_default();
        let last = std::mem::replace(&mut self.last, beyond);
        if beyond > 0 && last > 0 {
            tracing::warn!(processes = beyond, "under the keeper run processes that no session has");
        }
        beyond
    }
}

/// How often is looked for processes that no session has.
const AUDIT_EVERY: Duration = Duration::from_secs(10);

/// How long after the loss of a keeper there is another. Long enough for a loss that repeats itself to cost
/// next to nothing.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Most orders that wait. Whoever gives more waits with them.
const MAX_ORDERS: usize = 64;
