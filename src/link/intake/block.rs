//! [`Block`]: what is read into, and its charge.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use shadowcat_codecs::{PADDING, pool::Pooled};

use super::MIN_BLOCK_LEN;
use crate::budget::{Allowance, Exhausted, Pools, Room, SMALL_LEN, Toward};

/// A buffer and the room it has. Frames cut from it may outlive it; then they share its charge, and with the last of
/// them it goes back to the pool it may be from.
#[derive(Debug)]
pub(super) struct Block {
    allowance: Allowance,
    toward: Toward,
    buf: Pooled,
    /// Invariant: the buffer's allocation is no larger than this room.
    held: Arc<Held>,
    /// The allocation's length, when it was made or grew.
    allocated: usize,
    /// Room for the next block, while frames of this one are on their way.
    next: Option<Room>,
    /// Reads since a long line was in it.
    short_reads: u32,
}

/// What frames that are on their way hold of their block.
#[derive(Debug)]
struct Held {
    /// What this side had of the block when it left it: the last of all, so that the whole goes back to the pool.
    rest: OnceLock<Pooled>,
    room: Room,
}

impl Block {
    pub(super) fn new(allowance: &Allowance, toward: Toward) -> Self {
        let held = Held::new(Room::new(allowance, toward));
        let (buf, allocated, short_reads) = (Pooled::default(), 0, KEPT_READS);
        Self { allowance: allowance.clone(), toward, buf, held, allocated, next: None, short_reads }
    }

    pub(super) fn buf(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    /// Whether there is an allocation.
    pub(super) fn is_made(&self) -> bool {
        !self.held.room.is_empty()
    }

    /// Whether it holds what others may wait for.
    pub(super) fn is_large(&self) -> bool {
        let room = &self.held.room;
        room.is_large() && room.len() > SMALL_LEN
    }

    /// Whether they do.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.held.room.keeps_others_waiting()
    }

    /// What can be read into it, without a parser's padding.
    pub(super) fn spare(&self) -> usize {
        (self.buf.capacity() - self.buf.len()).saturating_sub(PADDING)
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self) {
        self.next = None;
        self.go_on_with(Pooled::default(), Room::new(&self.allowance, self.toward));
    }

    /// `block`, a part of this, which holds the charge until nobody has it. Of a large one, what it could have become
    /// and did not is given back: its frames may be on their way for long.
    pub(super) fn charged(&mut self, block: &Bytes) -> Bytes {
        if let Some(Held { room, .. }) = Arc::get_mut(&mut self.held)
            && room.is_large()
        {
            room.shrink(self.allocated);
        }
        Bytes::from_owner(Pinned { bytes: block.clone(), _held: Arc::clone(&self.held) })
    }

    /// Ready when so much can be read, or at least something: `expected` are only hoped for.
    pub(super) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        read: usize,
        expected: usize,
    ) -> Poll<Result<(), Exhausted>> {
        if self.is_large() && self.buf.len() < SMALL_LEN / 2 && !self.settles() {
            self.leave_large();
        }
        self.note_read();
        if self.buf.len() < LONG_LEN && self.is_kept() {
            // From its beginning, if nobody holds a part of it: the next line is likely to be as long as the last.
            let rest = self.allocated.saturating_sub(self.buf.len());
            let _is_alone = self.buf.try_reclaim(rest);
        }
        let (len, wanted) = (self.buf.len(), read.max(expected) + PADDING);
        let spare = self.buf.capacity() - len;
        if spare >= wanted / 2 + PADDING && self.is_made() {
            return Poll::Ready(Ok(()));
        }
        let alone = Arc::get_mut(&mut self.held).is_some();
        if alone && self.is_made() && self.is_fitting(wanted + len) && self.buf.try_reclaim(wanted) {
            return Poll::Ready(Ok(()));
        }
        // A long line grows with its length, so that it is moved seldom, but by so much at most.
        let hoped = self.rounded(len + wanted.max(len.min(MAX_STEP)));
        let least = len + MIN_BLOCK_LEN;
        if let (true, Some(Held { room, .. })) = (alone, Arc::get_mut(&mut self.held)) {
            ready!(poll_grow(room, cx, least, hoped))?;
            let capacity = room.len().min(hoped);
            if len == 0 {
                // The one it had goes back first: there may be no room for both.
                self.buf = Pooled::default();
                self.buf = taken(&self.allowance, capacity, room.len());
            } else {
                self.buf.fit(capacity);
            }
            self.allocated = self.buf.capacity();
            if capacity <= SMALL_LEN {
                room.shrink(capacity.max(self.buf.capacity()));
            }
            return Poll::Ready(Ok(()));
        }
        let next = self.next.get_or_insert_with(|| Room::new(&self.allowance, self.toward));
        // Whoever has a turn may wait for no second one, but for a large charge.
        let needed = if self.held.room.has_turn() && !next.grows(least, least) { SMALL_LEN + 1 } else { least };
        ready!(poll_grow(next, cx, needed, hoped))?;
        let mut fresh = taken(&self.allowance, next.len().min(hoped), next.len());
        // A named copy: the beginning of a line whose block is on its way.
        fresh.extend_from_slice(&self.buf);
        self.allowance.budget().note_move(len);
        let room = self.next.take().unwrap_or_else(|| Room::new(&self.allowance, self.toward));
        self.go_on_with(fresh, room);
        Poll::Ready(Ok(()))
    }

    /// One more read; whether the block is of more use than the next reads need is decided by the last ones.
    fn note_read(&mut self) {
        let is_long = self.buf.len() >= LONG_LEN;
        self.short_reads = if is_long { 0 } else { (self.short_reads + 1).min(KEPT_READS) };
    }

    /// Whether a block that long lines have made long stays so, as long as there is plenty of room for others. They may
    /// come one after another, and each would grow one of its own: of a processor's time for lines of 1 MiB, that was
    /// a third.
    fn is_kept(&self) -> bool {
        let room = self.held.room.len();
        self.short_reads < KEPT_READS && room <= KEPT_LEN && self.allowance.budget().has_plenty()
    }

    /// A large line has left: its block stays for the next one, for room that nobody waits for. Whether it does.
    fn settles(&mut self) -> bool {
        let Some(Held { room, .. }) = Arc::get_mut(&mut self.held) else { return false };
        let len = self.allocated.max(self.buf.capacity());
        len <= KEPT_LEN && room.settles(len)
    }

    /// Leaves the block it has to the frames that are on their way.
    fn go_on_with(&mut self, buf: Pooled, room: Room) {
        self.allocated = buf.capacity();
        let rest = std::mem::replace(&mut self.buf, buf);
        let held = std::mem::replace(&mut self.held, Held::new(room));
        // Nobody has set it: this is the only place, and the block is left once.
        drop(held.rest.set(rest));
    }

    /// As long as blocks of the pool are, if it is about that.
    fn rounded(&self, len: usize) -> usize {
        let Some(pool) = self.allowance.budget().pools().map(Pools::stdio) else { return len };
        let rounded = len.next_multiple_of(pool.nominal());
        if rounded <= 2 * pool.nominal() { rounded } else { len }
    }

    /// Whether its allocation is neither much longer than is wanted nor than what it has room for: a parser's padding
    /// may have made it grow.
    fn is_fitting(&self, wanted: usize) -> bool {
        let room = self.held.room.len();
        (room <= 2 * wanted || self.is_kept()) && self.buf.capacity() <= room
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
        let mut fresh = taken(&self.allowance, len, room.len());
        // A named copy, of less than one read.
        fresh.extend_from_slice(&self.buf);
        self.allowance.budget().note_move(self.buf.len());
        self.go_on_with(fresh, room);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // To whoever is the last that holds a part of it.
        drop(self.held.rest.set(std::mem::take(&mut self.buf)));
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

/// An empty buffer of at least `least` bytes and at most `most`, of the pool if there is one.
fn taken(allowance: &Allowance, least: usize, most: usize) -> Pooled {
    match allowance.budget().pools() {
        Some(pools) => pools.stdio().take(least, most),
        None => Pooled::without_pool(BytesMut::with_capacity(least)),
    }
}

impl Held {
    fn new(room: Room) -> Arc<Self> {
        Arc::new(Self { rest: OnceLock::new(), room })
    }
}

/// A part of a block that is on its way.
struct Pinned {
    /// Gone before what is behind it: the rest of its block is to be the last.
    bytes: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Most that a block grows by ("Memory" in ARCHITECTURE.md).
const MAX_STEP: usize = 8 << 20;

/// Longest block that stays for the next line because the last one was long.
const KEPT_LEN: usize = 4 << 20;
/// So much of one line in a block makes the line a long one.
const LONG_LEN: usize = 32 << 10;
/// How many reads it stays for.
const KEPT_READS: u32 = 256;

#[cfg(test)]
mod tests;
