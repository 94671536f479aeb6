//! [`Block`]: what is read into, and its charge.

use std::{
    ops::Deref,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use shadowcat_codecs::PADDING;

use super::MIN_BLOCK_LEN;
use crate::budget::{Allowance, Exhausted, Room, SMALL_LEN, Toward};

/// A buffer and the room it has. Frames cut from it may outlive it; then they share its charge.
#[derive(Debug)]
pub(super) struct Block {
    allowance: Allowance,
    toward: Toward,
    buf: BytesMut,
    /// Invariant: the buffer's allocation is no larger than this room.
    room: Arc<Room>,
    /// Room for the next block, while frames of this one are on their way.
    next: Option<Room>,
}

impl Block {
    pub(super) fn new(allowance: &Allowance, toward: Toward) -> Self {
        let room = Arc::new(Room::new(allowance, toward));
        Self { allowance: allowance.clone(), toward, buf: BytesMut::new(), room, next: None }
    }

    pub(super) fn buf(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    /// Whether there is an allocation.
    pub(super) fn is_made(&self) -> bool {
        !self.room.is_empty()
    }

    /// Whether it holds what others may wait for.
    pub(super) fn is_large(&self) -> bool {
        self.room.len() > SMALL_LEN
    }

    /// Whether they do.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.room.keeps_others_waiting()
    }

    /// What can be read into it, without a parser's padding.
    pub(super) fn spare(&self) -> usize {
        (self.buf.capacity() - self.buf.len()).saturating_sub(PADDING)
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self) {
        (self.buf, self.next) = (BytesMut::new(), None);
        self.room = Arc::new(Room::new(&self.allowance, self.toward));
    }

    /// `block`, a part of this, which holds the charge until nobody has it.
    pub(super) fn charged(&self, block: &Bytes) -> Bytes {
        Bytes::from_owner(Pinned { bytes: block.clone(), _room: Arc::clone(&self.room) })
    }

    /// Ready when so much can be read, or at least something: `expected` are only hoped for.
    pub(super) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        read: usize,
        expected: usize,
    ) -> Poll<Result<(), Exhausted>> {
        if self.is_large() && self.buf.len() < SMALL_LEN / 2 {
            self.leave_large();
        }
        let (len, wanted) = (self.buf.len(), read.max(expected) + PADDING);
        let spare = self.buf.capacity() - len;
        if spare >= wanted / 2 + PADDING && self.is_made() {
            return Poll::Ready(Ok(()));
        }
        let alone = Arc::get_mut(&mut self.room).is_some();
        if alone && self.is_made() && self.is_fitting(wanted + len) && self.buf.try_reclaim(wanted) {
            return Poll::Ready(Ok(()));
        }
        // A long line grows with its length, so that it is moved seldom, but by so much at most.
        let hoped = len + wanted.max(len.min(MAX_STEP));
        let least = len + MIN_BLOCK_LEN;
        if let (true, Some(room)) = (alone, Arc::get_mut(&mut self.room)) {
            ready!(poll_grow(room, cx, least, hoped))?;
            let capacity = room.len().min(hoped);
            self.buf = moved(std::mem::take(&mut self.buf), capacity);
            if capacity <= SMALL_LEN {
                room.shrink(capacity);
            }
            return Poll::Ready(Ok(()));
        }
        let next = self.next.get_or_insert_with(|| Room::new(&self.allowance, self.toward));
        ready!(poll_grow(next, cx, least, hoped))?;
        let mut fresh = BytesMut::with_capacity(next.len().min(hoped));
        // A named copy: the beginning of a line whose block is on its way.
        fresh.extend_from_slice(&self.buf);
        self.buf = fresh;
        self.room = Arc::new(self.next.take().unwrap_or_else(|| Room::new(&self.allowance, self.toward)));
        Poll::Ready(Ok(()))
    }

    /// Whether its allocation is neither much longer than is wanted nor than what it has room for: a parser's padding
    /// may have made it grow.
    fn is_fitting(&self, wanted: usize) -> bool {
        self.room.len() <= 2 * wanted && self.buf.capacity() <= self.room.len()
    }

    /// What is left behind a large line moves into a block of its own, if there is room for one at once. Otherwise the
    /// large one stays until it is empty: it waits for nobody.
    fn leave_large(&mut self) {
        let mut room = Room::new(&self.allowance, self.toward);
        let len = self.buf.len() + MIN_BLOCK_LEN;
        let is_empty = self.buf.is_empty();
        if !room.grows(len, len) {
            if is_empty {
                self.clear();
            }
            return;
        }
        let mut fresh = BytesMut::with_capacity(len);
        // A named copy, of less than one read.
        fresh.extend_from_slice(&self.buf);
        (self.buf, self.room) = (fresh, Arc::new(room));
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buf
    }
}

/// Ready when there is room for `least` bytes, and for `hoped` bytes if nobody is kept from anything by that.
fn poll_grow(room: &mut Room, cx: &mut Context<'_>, least: usize, hoped: usize) -> Poll<Result<(), Exhausted>> {
    if room.is_waiting() || !room.spares(hoped) {
        let most = room.whole_len().max(least);
        ready!(room.poll_grow(cx, least, most))?;
    }
    Poll::Ready(Ok(()))
}

/// The same bytes in an allocation of so many, which the system moves if it is long.
fn moved(buf: BytesMut, capacity: usize) -> BytesMut {
    if buf.is_empty() {
        return BytesMut::with_capacity(capacity);
    }
    let mut bytes = Vec::from(buf);
    if bytes.capacity() > capacity {
        bytes.shrink_to(capacity);
    } else {
        bytes.reserve_exact(capacity - bytes.len());
    }
    BytesMut::from(Bytes::from(bytes))
}

/// A part of a block that is on its way.
struct Pinned {
    bytes: Bytes,
    _room: Arc<Room>,
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Most that a block grows by (DESIGN §11.13).
const MAX_STEP: usize = 8 << 20;
