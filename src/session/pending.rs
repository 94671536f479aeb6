//! The requests in flight, by the stream that has to answer them. Bounded; ids are bytes.
//!
//! Ids are compared as raw JSON text: `1`, `1.0` and `"1"` are three ids. An id is copied, because a
//! slice would pin the read buffer it came from; up to [`INLINE_LEN`] bytes the copy needs no allocation.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher, RandomState},
    time::Instant,
};

use hashbrown::{Equivalent, HashMap};

use super::StreamKey;

/// The table of requests in flight.
pub(super) struct Pending {
    max: usize,
    /// Requests in `asked`, duplicates counted. Invariant: `len <= max`.
    len: usize,
    // SipHash with a random key: the ids are chosen by peers.
    asked: HashMap<Key, Asked, RandomState>,
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

#[derive(PartialEq, Eq, Hash)]
struct Key {
    answerer: StreamKey,
    id: RequestId,
}

struct KeyRef<'a> {
    answerer: StreamKey,
    id: &'a [u8],
}

impl Pending {
    pub(super) fn new(max: usize) -> Self {
        Self { max, len: 0, asked: HashMap::default() }
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
        match self.asked.get_mut(&KeyRef { answerer, id }) {
            Some(asked) => asked.count += 1,
            None => {
                self.asked.insert(Key { answerer, id: RequestId::new(id) }, Asked { at, count: 1 });
            }
        }
        Ok(())
    }

    /// `answerer` answered `id`, or nobody waits for that answer any more.
    pub(super) fn answered(&mut self, answerer: StreamKey, id: &[u8]) -> Option<Asked> {
        let key = KeyRef { answerer, id };
        let asked = self.asked.get_mut(&key)?;
        let answered = *asked;
        asked.count -= 1;
        if asked.count == 0 {
            self.asked.remove(&key);
        }
        self.len -= 1;
        Some(answered)
    }

    /// Takes any one request that `answerer` has yet to answer.
    pub(super) fn take_any(&mut self, answerer: StreamKey) -> Option<RequestId> {
        let id = self.asked.keys().find(|key| key.answerer == answerer)?.id.clone();
        self.answered(answerer, id.as_bytes())?;
        Some(id)
    }

    pub(super) fn contains(&self, answerer: StreamKey, id: &[u8]) -> bool {
        self.asked.contains_key(&KeyRef { answerer, id })
    }

    /// What `answerer` has yet to answer, in no order.
    pub(super) fn ids_at(&self, answerer: StreamKey) -> impl Iterator<Item = &RequestId> + Clone {
        self.asked.keys().filter(move |key| key.answerer == answerer).map(|key| &key.id)
    }

    pub(super) fn len_at(&self, answerer: StreamKey) -> usize {
        self.asked.keys().filter(|key| key.answerer == answerer).count()
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

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Field by field as `Key` does it, so that both hash alike.
        self.answerer.hash(state);
        self.id.hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.answerer == key.answerer && self.id == key.id.as_bytes()
    }
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
