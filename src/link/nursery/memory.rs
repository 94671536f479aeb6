//! A nursery whose children are streams of this process, played by a test: nothing is started, and what is sent
//! to a child's process group is only noted.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Born, MAX_ORDERS, Nursery, Order};
use crate::{
    supervise::{ChildId, ExitStatus, keeper::Child, ladder::Push},
    transport::{
        Reader, Writer,
        memory::{self, End},
    },
};

/// The other end of a nursery: where children are born, when a test says so.
#[derive(Debug)]
pub(in crate::link) struct Births {
    orders: mpsc::Receiver<Order>,
    /// What each of a child's streams holds unread, in bytes.
    capacity: usize,
    last: u32,
}

/// A child as it sees itself.
#[derive(Debug)]
pub(in crate::link) struct MemoryChild {
    pub(in crate::link) id: ChildId,
    /// What is written to it; `None` once it reads no more.
    pub(in crate::link) stdin: Option<Reader>,
    /// What it says; `None` once it has ended that.
    pub(in crate::link) stdout: Option<Writer>,
    stderr: Option<Writer>,
    /// What was sent to it, in order.
    pub(in crate::link) pushes: Vec<Push>,
    /// `None` once it is dead.
    exit: Option<oneshot::Sender<ExitStatus>>,
}

impl Births {
    /// A nursery, and where its children come from; each of their streams holds `capacity` bytes.
    pub(in crate::link) fn new(capacity: usize) -> (Nursery, Self) {
        let (orders, received) = mpsc::channel(MAX_ORDERS);
        (Nursery { orders }, Self { orders: received, capacity, last: 0 })
    }

    /// A child that nobody asked for.
    pub(in crate::link) fn bear(&mut self) -> (Born, MemoryChild) {
        self.last += 1;
        let id = ChildId::new(self.last);
        let (End { reader: stdout, writer: stdin }, theirs) = memory::pair(self.capacity);
        let (End { reader: stderr, .. }, End { writer: log, .. }) = memory::pair(self.capacity);
        let (tell, exit) = oneshot::channel();
        let child = MemoryChild {
            id,
            stdin: Some(theirs.reader),
            stdout: Some(theirs.writer),
            stderr: Some(log),
            pushes: Vec::new(),
            exit: Some(tell),
        };
        (Born { child: Child { id, stdin, stdout, stderr }, exit, claim: CancellationToken::new().drop_guard() }, child)
    }

    /// Does what was asked by now: children are born into `family`, pushes reach them.
    pub(in crate::link) fn attend(&mut self, family: &mut Vec<MemoryChild>) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Spawn(_, answer) => {
                    let (born, child) = self.bear();
                    if answer.send(Ok(born)).is_ok() {
                        family.push(child);
                    }
                }
                Order::Push(id, push) => {
                    let child = family.iter_mut().find(|child| child.id == id);
                    child.expect("only children are pushed").pushes.push(push);
                }
                Order::Finish(answer) => {
                    family.iter_mut().for_each(|child| child.die(ExitStatus::Signal(9)));
                    let _ = answer.send(Ok(()));
                }
            }
        }
    }
}

impl MemoryChild {
    pub(in crate::link) fn is_alive(&self) -> bool {
        self.exit.is_some()
    }

    /// Dies, and all of its streams with it. Once only.
    pub(in crate::link) fn die(&mut self, status: ExitStatus) {
        self.exit_only(status);
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
    }

    /// Dies, but leaves a process behind that holds its streams.
    pub(in crate::link) fn exit_only(&mut self, status: ExitStatus) {
        if let Some(exit) = self.exit.take() {
            let _ = exit.send(status);
        }
    }
}
