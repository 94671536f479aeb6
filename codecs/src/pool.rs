//! A few blocks that are kept to be used again, so that reading needs no fresh memory each time.
//!
//! A [`BufferPool`] keeps at most [`KEPT`] blocks, none longer than twice its nominal size: what it holds is bounded by
//! [`BufferPool::max_len`]. A block is taken as [`Pooled`], which is a `BytesMut`, and comes home when that is dropped;
//! or, [frozen](Pooled::freeze), when the last `Bytes` of it is. One that is too long by then, of which others still
//! hold a part, or for which there is no place, is freed instead, and counted.
//!
//! What is not here: a wait for a block. When none is kept that fits, a fresh one is made.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};

/// Blocks of one size, more or less. A handle: clones share it.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    nominal: usize,
    /// Invariant: at most [`KEPT`], each empty, nobody else's, and of at most twice `nominal` bytes.
    kept: Mutex<Vec<BytesMut>>,
    hits: AtomicU64,
    misses: AtomicU64,
    returned: AtomicU64,
    dropped: AtomicU64,
}

/// What happened in a pool. Blocks in use are `hits + misses - returned - dropped`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a block is taken in one of two ways, and given back in one of two")]
pub struct PoolCounts {
    /// Blocks taken that were kept.
    pub hits: u64,
    /// Blocks taken that had to be made.
    pub misses: u64,
    /// Blocks that came home and are kept, or were.
    pub returned: u64,
    /// Blocks that were freed: too long, still in use in part, or one too many.
    pub dropped: u64,
}

/// A block in use. It may grow beyond what it was taken with; without a pool, it is a `BytesMut` and nothing else.
#[derive(Debug, Default)]
pub struct Pooled {
    buf: BytesMut,
    home: Option<BufferPool>,
}

impl BufferPool {
    /// A pool that is empty, for blocks of about `nominal` bytes.
    #[must_use]
    pub fn new(nominal: usize) -> Self {
        let kept = Mutex::new(Vec::with_capacity(KEPT));
        let [hits, misses, returned, dropped] = Default::default();
        Self { shared: Arc::new(Shared { nominal, kept, hits, misses, returned, dropped }) }
    }

    /// An empty block of at least `least` bytes: one that is kept and has at most `most`, or a fresh one.
    #[must_use]
    pub fn take(&self, least: usize, most: usize) -> Pooled {
        let fitting = self.take_kept(least, most);
        let counter = if fitting.is_some() { &self.shared.hits } else { &self.shared.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        let buf = fitting.unwrap_or_else(|| BytesMut::with_capacity(least));
        Pooled { buf, home: Some(self.clone()) }
    }

    /// What `write` writes into a block of the ordinary size, which grows if it must.
    pub fn written(&self, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        let nominal = self.shared.nominal;
        let mut block = self.take(nominal, nominal.saturating_mul(2));
        write(&mut block);
        block.freeze()
    }

    /// The size of its blocks, in bytes; none is kept of more than twice as much.
    #[must_use]
    pub fn nominal(&self) -> usize {
        self.shared.nominal
    }

    /// Most bytes that are kept.
    #[must_use]
    pub fn max_len(&self) -> usize {
        KEPT.saturating_mul(2).saturating_mul(self.shared.nominal)
    }

    /// How many blocks are kept now, and their bytes.
    #[must_use]
    pub fn kept(&self) -> (usize, usize) {
        let kept = self.lock();
        (kept.len(), kept.iter().map(BytesMut::capacity).sum())
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        let Shared { hits, misses, returned, dropped, .. } = &*self.shared;
        let [hits, misses, returned, dropped] =
            [hits, misses, returned, dropped].map(|count| count.load(Ordering::Relaxed));
        PoolCounts { hits, misses, returned, dropped }
    }

    fn take_kept(&self, least: usize, most: usize) -> Option<BytesMut> {
        // What cannot be kept is not looked for.
        if least > 2 * self.shared.nominal {
            return None;
        }
        let mut kept = self.lock();
        let at = kept.iter().rposition(|buf| (least..=most).contains(&buf.capacity()))?;
        Some(kept.swap_remove(at))
    }

    fn give(&self, buf: BytesMut) {
        let is_kept = self.alone(buf).is_some_and(|buf| self.keep(buf));
        let counter = if is_kept { &self.shared.returned } else { &self.shared.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The whole block, empty, if nobody holds a part of it and it is not too long.
    fn alone(&self, mut buf: BytesMut) -> Option<BytesMut> {
        buf.clear();
        // Only this way its whole allocation shows, what was cut from its beginning included. If others hold a part,
        // this is another one, of nothing.
        let whole = Vec::from(buf);
        (1..=2 * self.shared.nominal).contains(&whole.capacity()).then(|| BytesMut::from(Bytes::from(whole)))
    }

    /// Whether there was a place for it. What there is none for is freed without the lock.
    fn keep(&self, buf: BytesMut) -> bool {
        let mut kept = self.lock();
        let has_place = kept.len() < KEPT;
        if has_place {
            kept.push(buf);
        }
        has_place
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pooled {
    /// A block that is freed in the end, as any other.
    #[must_use]
    pub fn without_pool(buf: BytesMut) -> Self {
        Self { buf, home: None }
    }

    /// Moves it into an allocation of `capacity` bytes, or of what is in it if that is more. The system moves it if it
    /// is long and nobody else holds a part of it.
    pub fn fit(&mut self, capacity: usize) {
        let mut bytes = Vec::from(std::mem::take(&mut self.buf));
        if bytes.capacity() > capacity {
            bytes.shrink_to(capacity);
        } else {
            bytes.reserve_exact(capacity - bytes.len());
        }
        self.buf = BytesMut::from(Bytes::from(bytes));
    }

    /// Its bytes; the block comes home when the last reference to them is gone. Costs one allocation, if it has a pool.
    #[must_use]
    pub fn freeze(mut self) -> Bytes {
        match self.home {
            Some(_) => Bytes::from_owner(self),
            None => std::mem::take(&mut self.buf).freeze(),
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(pool) = self.home.take() {
            pool.give(std::mem::take(&mut self.buf));
        }
    }
}

impl Deref for Pooled {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.buf
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.buf
    }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buf
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kept, counts) = (self.kept(), self.counts());
        f.debug_struct("BufferPool").field("kept", &kept).field("counts", &counts).finish_non_exhaustive()
    }
}

/// Most blocks that a pool keeps.
pub const KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const NOMINAL: usize = 256;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take(usize),
        /// Writes so many bytes, as far as the block goes or beyond.
        Write(usize, usize),
        /// Cuts off what was written, and holds it.
        Split(usize),
        Freeze(usize),
        DropBlock(usize),
        DropBytes(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0_usize..64;
        prop_oneof![
            3 => (1_usize..3 * NOMINAL).prop_map(Step::Take),
            3 => (at.clone(), 0_usize..2 * NOMINAL).prop_map(|(at, len)| Step::Write(at, len)),
            2 => at.clone().prop_map(Step::Split),
            1 => at.clone().prop_map(Step::Freeze),
            2 => at.clone().prop_map(Step::DropBlock),
            2 => at.prop_map(Step::DropBytes),
        ]
    }

    /// What the steps have in their hands.
    #[derive(Default)]
    struct Hands {
        blocks: Vec<Pooled>,
        bytes: Vec<Bytes>,
    }

    impl Hands {
        fn step(&mut self, pool: &BufferPool, step: Step) {
            let Self { blocks, bytes } = self;
            match step {
                Step::Take(len) => {
                    let block = pool.take(len, 2 * len);
                    assert!(block.is_empty(), "nothing of who had it before");
                    assert!((len..=2 * len).contains(&block.capacity()), "{} for {len}", block.capacity());
                    blocks.push(block);
                }
                Step::Write(at, len) => {
                    if let Some(block) = blocks.get_mut(at) {
                        block.extend_from_slice(&vec![b'x'; len]);
                    }
                }
                Step::Split(at) => bytes.extend(blocks.get_mut(at).map(|block| block.split().freeze())),
                Step::Freeze(at) if at < blocks.len() => bytes.push(blocks.swap_remove(at).freeze()),
                Step::DropBlock(at) if at < blocks.len() => drop(blocks.swap_remove(at)),
                Step::DropBytes(at) if at < bytes.len() => drop(bytes.swap_remove(at)),
                Step::Freeze(_) | Step::DropBlock(_) | Step::DropBytes(_) => {}
            }
        }
    }

    proptest! {
        #[test]
        fn every_block_comes_home_or_is_counted_and_few_are_kept(steps in vec(step(), 0..200)) {
            let pool = BufferPool::new(NOMINAL);
            let mut hands = Hands::default();
            for step in steps {
                hands.step(&pool, step);
                let (count, len) = pool.kept();
                prop_assert!(count <= KEPT && len <= pool.max_len());
                prop_assert!(hands.bytes.iter().all(|bytes| bytes.iter().all(|&byte| byte == b'x')), "overwritten");
            }
            drop(hands);
            let PoolCounts { hits, misses, returned, dropped } = pool.counts();
            prop_assert_eq!(hits + misses, returned + dropped);
            prop_assert_eq!(returned - hits, pool.kept().0 as u64);
        }
    }

    #[test]
    fn a_block_comes_home_whole_whatever_was_cut_from_it() {
        let pool = BufferPool::new(NOMINAL);
        let mut block = pool.take(NOMINAL, NOMINAL);
        block.extend_from_slice(b"{}\n{}\n");
        drop(block.split().freeze());
        drop(block);
        assert_eq!(pool.kept(), (1, NOMINAL));
        let frozen = pool.take(NOMINAL, NOMINAL).freeze();
        assert_eq!(pool.kept(), (0, 0));
        drop(frozen);
        assert_eq!(pool.counts(), PoolCounts { hits: 1, misses: 1, returned: 2, dropped: 0 });
    }

    #[test]
    fn what_others_hold_a_part_of_and_what_has_grown_is_freed() {
        let pool = BufferPool::new(NOMINAL);
        let mut block = pool.take(NOMINAL, NOMINAL);
        block.extend_from_slice(b"{}");
        let frame = block.split().freeze();
        drop(block);
        assert_eq!(frame, "{}");
        let mut block = pool.take(NOMINAL, NOMINAL);
        block.extend_from_slice(&[b'x'; 2 * NOMINAL + 1]);
        drop(block.split());
        drop(block);
        assert_eq!(pool.counts(), PoolCounts { hits: 0, misses: 2, returned: 0, dropped: 2 });
        assert_eq!(pool.kept(), (0, 0));
    }

    #[test]
    fn one_too_many_is_freed() {
        let pool = BufferPool::new(NOMINAL);
        drop((0..=KEPT).map(|_| pool.take(NOMINAL, NOMINAL)).collect::<Vec<_>>());
        let PoolCounts { misses, returned, dropped, .. } = pool.counts();
        assert_eq!((misses, returned, dropped), (KEPT as u64 + 1, KEPT as u64, 1));
    }

    #[test]
    fn blocks_of_many_threads_come_home() {
        let pool = BufferPool::new(NOMINAL);
        // Miri takes a hundred times as long.
        let (threads, turns) = if cfg!(miri) { (3, 10) } else { (8, 200) };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..turns {
                        let mut block = pool.take(NOMINAL, NOMINAL);
                        block.extend_from_slice(b"{}");
                        drop(block.freeze());
                    }
                });
            }
        });
        let PoolCounts { hits, misses, returned, dropped } = pool.counts();
        assert_eq!((hits + misses, returned + dropped), (threads * turns, threads * turns));
        assert!(hits > 0, "a thread finds at least what it gave back itself");
    }
}
