//! The requests in flight, by the stream that has to answer them. Bounded; ids are bytes.
//!
//! Ids are compared as raw JSON text: `1`, `1.0` and `"1"` are three ids. An id is copied, because a
//! slice would pin the read buffer it came from; up to [`INLINE_LEN`] bytes the copy needs no allocation.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher as _, Hash, Hasher, RandomState},
    time::Instant,
};

use hashbrown::{HashTable, hash_table::Entry};

use super::StreamKey;

/// The table of requests in flight.
pub(super) struct Pending {
    max: usize,
    /// Requests in `asked`, duplicates counted. Invariant: `len <= max`.
    len: usize,
    /// Invariant: no two with the same answerer and id.
    asked: HashTable<Waiting>,
    // SipHash with a random key: the ids are chosen by peers.
    keys: RandomState,
}

/// An id, and who has to answer it.
struct Waiting {
    answerer: StreamKey,
    id: RequestId,
    asked: Asked,
}

/// One id in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// When the request came by; the first one, if the id is in flight more than once.
    pub(super) at: Instant,
    /// How many requests with this id wait. More than one breaks a rule of the protocol, but is not ours
    /// to forbid. Invariant: `count >= 1`.
    count: u32,
}

/// The raw text of a JSON-RPC id, quotes included.
#[derive(Clone)]
pub struct RequestId(Repr);

#[derive(Clone)]
enum Repr {
    Inline {
        /// Invariant: `len <= INLINE_LEN`.
        len: u8,
        bytes: [u8; INLINE_LEN],
    },
    Boxed(Box<[u8]>),
}

impl Pending {
    pub(super) fn new(max: usize) -> Self {
        Self { max, len: 0, asked: HashTable::new(), keys: RandomState::new() }
    }

    /// Requests that may wait besides those that do.
    pub(super) fn room(&self) -> usize {
        self.max - self.len
    }

    /// Most requests that may wait.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// A request with `id` goes to `answerer`. `Err` holds the limit that forbids it.
    pub(super) fn asked(&mut self, answerer: StreamKey, id: &[u8], at: Instant) -> Result<(), usize> {
        if self.len >= self.max {
            return Err(self.max);
        }
        self.len += 1;
        let Self { asked, keys, .. } = self;
        let entry = asked.entry(
            hash(keys, id),
            |waiting| waiting.is(answerer, id),
            |waiting| hash(keys, waiting.id.as_bytes()),
        );
        match entry {
            Entry::Occupied(mut waiting) => waiting.get_mut().asked.count += 1,
            Entry::Vacant(place) => {
                place.insert(Waiting { answerer, id: RequestId::new(id), asked: Asked { at, count: 1 } });
            }
        }
        Ok(())
    }

    /// `answerer` answered `id`, or nobody waits for that answer any more.
    pub(super) fn answered(&mut self, answerer: StreamKey, id: &[u8]) -> Option<Asked> {
        let hash = hash(&self.keys, id);
        let mut waiting = self.asked.find_entry(hash, |waiting| waiting.is(answerer, id)).ok()?;
        let answered = waiting.get().asked;
        if answered.is_last() {
            waiting.remove();
        } else {
            waiting.get_mut().asked.count -= 1;
        }
        self.len -= 1;
        Some(answered)
    }

    /// Takes any one request that `answerer` has yet to answer.
    pub(super) fn take_any(&mut self, answerer: StreamKey) -> Option<RequestId> {
        let id = self.asked.iter().find(|waiting| waiting.answerer == answerer)?.id.clone();
        self.answered(answerer, id.as_bytes())?;
        Some(id)
    }

    pub(super) fn contains(&self, answerer: StreamKey, id: &[u8]) -> bool {
        self.asked.find(hash(&self.keys, id), |waiting| waiting.is(answerer, id)).is_some()
    }

    /// What `answerer` has yet to answer, in no order.
    pub(super) fn ids_at(&self, answerer: StreamKey) -> impl Iterator<Item = &RequestId> + Clone {
        self.asked.iter().filter(move |waiting| waiting.answerer == answerer).map(|waiting| &waiting.id)
    }

    pub(super) fn len_at(&self, answerer: StreamKey) -> usize {
        self.asked.iter().filter(|waiting| waiting.answerer == answerer).count()
    }
}

impl Waiting {
    fn is(&self, answerer: StreamKey, id: &[u8]) -> bool {
        self.answerer == answerer && self.id.as_bytes() == id
    }
}

impl Asked {
    /// Whether no other request with this id waits.
    pub(super) fn is_last(self) -> bool {
        self.count == 1
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("len", &self.len).field("max", &self.max).finish_non_exhaustive()
    }
}

impl RequestId {
    /// A copy of an id's raw text.
    #[must_use]
    pub fn new(raw: &[u8]) -> Self {
        let mut bytes = [0; INLINE_LEN];
        Self(match (bytes.get_mut(..raw.len()), u8::try_from(raw.len())) {
            (Some(inline), Ok(len)) => {
                inline.copy_from_slice(raw);
                Repr::Inline { len, bytes }
            }
            _ => Repr::Boxed(raw.into()),
        })
    }

    /// The raw text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Repr::Boxed(bytes) => bytes,
        }
    }
}

impl PartialEq for RequestId {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for RequestId {}

/// So that a table keyed by ids is searched without a copy. Both hash and compare alike.
impl Borrow<[u8]> for RequestId {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Hash for RequestId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self.as_bytes()), f)
    }
}

/// Of the id alone: few are in flight at both sides at once, and those are told apart by [`Waiting::is`].
fn hash(keys: &RandomState, id: &[u8]) -> u64 {
    let mut hasher = keys.build_hasher();
    hasher.write(id);
    hasher.finish()
}

/// Longest id that is kept without an allocation. Real ones are small integers and UUIDs, which have 38
/// bytes with their quotes.
const INLINE_LEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: StreamKey = StreamKey::UPSTREAM;

    #[test]
    fn ids_are_compared_as_text() {
        let mut pending = Pending::new(8);
        let now = crate::clock::now().into_std();
        for id in [&b"1"[..], b"1.0", b"\"1\"", b"18446744073709551617"] {
            assert_eq!(pending.asked(CHILD, id, now), Ok(()));
        }
        assert_eq!(pending.len_at(CHILD), 4);
        assert!(pending.answered(CHILD, b"10e-1").is_none());
        assert!(pending.answered(StreamKey::DOWNSTREAM, b"1").is_none());
        assert!(pending.answered(CHILD, b"1").is_some());
        assert!(pending.answered(CHILD, b"1").is_none());
        assert_eq!(pending.len_at(CHILD), 3);
    }

    #[test]
    fn table_is_bounded_and_duplicates_count() {
        let mut pending = Pending::new(2);
        let now = crate::clock::now().into_std();
        assert_eq!(pending.asked(CHILD, b"7", now), Ok(()));
        assert_eq!(pending.asked(CHILD, b"7", now), Ok(()));
        assert_eq!(pending.asked(CHILD, b"8", now), Err(2));
        assert_eq!(pending.take_any(CHILD), Some(RequestId::new(b"7")));
        assert_eq!(pending.asked(CHILD, b"8", now), Ok(()));
        let mut left = [pending.take_any(CHILD), pending.take_any(CHILD)].map(|id| id.unwrap().as_bytes().to_owned());
        left.sort();
        assert_eq!(left, [b"7", b"8"]);
        assert!(pending.take_any(CHILD).is_none());
    }

    #[test]
    fn long_ids_are_kept_whole() {
        for len in [0, 1, INLINE_LEN - 1, INLINE_LEN, INLINE_LEN + 1, 255, 256, 1024] {
            let raw = vec![b'x'; len];
            assert_eq!(RequestId::new(&raw).as_bytes(), raw);
        }
    }
}
