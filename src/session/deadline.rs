//! How long answers may take, and which of the requests in flight is due next.
//!
//! Pure: time is an argument, and all requests of a session have one next time, so that a link needs one timer and
//! not one for each request. Whoever keeps requests keeps [`Deadlines`] beside them.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    hash::{Hash, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use hashbrown::{Equivalent, HashMap};
use serde::{Serialize, Serializer};
use shadowcat_codecs::envelope::{Envelope, Kind, text};

/// How long a server may take to answer a request, by its method. Progress of a request begins its time anew
/// (Rule C6, MCP 2025-11-25, Lifecycle, "Timeouts"). By default there is no limit, because tools and humans may take
/// hours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseTimeouts {
    all: Option<Duration>,
    /// `None`: no limit, whatever holds for all.
    methods: Arc<[(Box<str>, Option<Duration>)]>,
}

/// Something took longer than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing else to say of it")]
pub struct Timeout {
    /// What.
    pub what: Cow<'static, str>,
    /// The limit.
    pub after: Duration,
}

/// When the requests under their keys `K` are due, each with something that is remembered of it.
#[derive(Debug)]
pub(super) struct Deadlines<K, V = ()> {
    // SipHash with a random key: the ids are chosen by peers.
    running: HashMap<K, Running<V>, RandomState>,
    /// Invariant: a key of `running` under each `place` there is.
    queue: BTreeMap<Place, K>,
    next: u64,
}

/// A time, and a number to tell those of one time apart.
type Place = (Instant, u64);

#[derive(Debug)]
struct Running<V> {
    place: Place,
    limit: Duration,
    of: V,
}

impl ResponseTimeouts {
    /// A limit for all methods, and others for some: `None` is none. Of two for the same method, the last holds.
    #[must_use]
    pub fn new(all: Option<Duration>, methods: impl IntoIterator<Item = (Box<str>, Option<Duration>)>) -> Self {
        Self { all, methods: methods.into_iter().collect() }
    }

    /// Whether there is no limit for anything.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.all.is_none() && self.methods.iter().all(|(_, limit)| limit.is_none())
    }

    /// The limit for methods that have none of their own.
    #[must_use]
    pub fn for_all(&self) -> Option<Duration> {
        self.all
    }

    /// The shortest limit there is for any method.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        self.all.into_iter().chain(self.methods.iter().filter_map(|(_, limit)| *limit)).min()
    }

    /// The limit for this method. A subscription is answered when it ends, so only a limit of its own holds for it.
    #[must_use]
    pub fn of(&self, method: &str) -> Option<Duration> {
        match self.methods.iter().rev().find(|(name, _)| **name == *method) {
            Some((_, limit)) => *limit,
            None if method == "subscriptions/listen" => None,
            None => self.all,
        }
    }

    /// The limit for this message; none for what is no request.
    #[must_use]
    pub fn of_message(&self, envelope: &Envelope, frame: &[u8]) -> Option<Duration> {
        if envelope.kind() != Kind::Request || self.is_off() {
            return None;
        }
        self.of(&envelope.method().and_then(|span| text(span, frame))?)
    }
}

impl<K: Clone + Eq + Hash, V> Deadlines<K, V> {
    /// `key` is due at `limit` from `now`.
    pub(super) fn start(&mut self, key: K, limit: Duration, of: V, now: Instant) {
        self.next += 1;
        let place = (now + limit, self.next);
        self.queue.insert(place, key.clone());
        if let Some(before) = self.running.insert(key, Running { place, limit, of }) {
            self.queue.remove(&before.place);
        }
    }

    /// The time of `key` begins anew.
    pub(super) fn extend<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q, now: Instant) {
        let Some(running) = self.running.get_mut(key) else { return };
        let Some(key) = self.queue.remove(&running.place) else { return };
        running.place.0 = now + running.limit;
        self.queue.insert(running.place, key);
    }

    /// What is remembered of `key`.
    pub(super) fn of_mut<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut V> {
        self.running.get_mut(key).map(|running| &mut running.of)
    }

    /// `key` is not waited for any more.
    pub(super) fn stop<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<V> {
        let running = self.running.remove(key)?;
        self.queue.remove(&running.place);
        Some(running.of)
    }

    /// When the first is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(&(due, _), _)| due)
    }

    /// Takes one that is due, and its limit.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(K, Duration, V)> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= now)?;
        let key = first.remove();
        let running = self.running.remove(&key)?;
        Some((key, running.limit, running.of))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<K, V> Default for Deadlines<K, V> {
    fn default() -> Self {
        Self { running: HashMap::default(), queue: BTreeMap::new(), next: 0 }
    }
}

impl Timeout {
    /// The rest of a long message did not come, while others waited for the memory it holds.
    #[must_use]
    pub const fn of_long_message(after: Duration) -> Self {
        Self { what: Cow::Borrowed("the rest of a message of more than 1 MiB, for whose memory others wait,"), after }
    }

    /// There was no answer in time.
    #[must_use]
    pub const fn of_answer(after: Duration) -> Self {
        Self { what: Cow::Borrowed("the server's answer"), after }
    }

    /// The limit in milliseconds, as errors show it.
    #[must_use]
    pub fn after_ms(&self) -> u64 {
        u64::try_from(self.after.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} took longer than {} ms", self.what, self.after_ms())
    }
}

impl Serialize for Timeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields<'a> {
            what: &'a str,
            after_ms: u64,
        }
        Fields { what: &self.what, after_ms: self.after_ms() }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_method_has_its_own_limit_or_that_of_all() {
        let own = [("tools/call", Some(10 * SECOND)), ("ping", Some(SECOND)), ("ping", None)];
        let own = own.map(|(method, limit)| (Box::from(method), limit));
        let timeouts = ResponseTimeouts::new(Some(3 * SECOND), own);
        assert_eq!(timeouts.of("tools/list"), Some(3 * SECOND));
        assert_eq!(timeouts.of("tools/call"), Some(10 * SECOND));
        assert_eq!(timeouts.of("ping"), None, "the last holds");
        assert_eq!(timeouts.of("subscriptions/listen"), None, "it is answered when it ends");
        assert_eq!(timeouts.shortest(), Some(SECOND));
        assert!(!timeouts.is_off() && ResponseTimeouts::default().is_off());
    }

    #[test]
    fn the_first_is_due_and_progress_begins_its_time_anew() {
        let start = crate::clock::now().into_std();
        let mut deadlines = Deadlines::default();
        deadlines.start(1, 2 * SECOND, 'a', start);
        deadlines.start(2, 2 * SECOND, 'b', start);
        deadlines.start(3, SECOND, 'c', start);
        assert_eq!(deadlines.due(), Some(start + SECOND));
        assert_eq!(deadlines.take_due(start), None);
        deadlines.extend(&3, start + SECOND / 2);
        deadlines.extend(&1, start + SECOND);
        assert_eq!(deadlines.due(), Some(start + 3 * SECOND / 2));
        assert_eq!(deadlines.stop(&3), Some('c'));
        assert_eq!(deadlines.take_due(start + 2 * SECOND), Some((2, 2 * SECOND, 'b')));
        assert_eq!(deadlines.take_due(start + 2 * SECOND), None);
        // Asked again under the same key: the time of the last counts.
        deadlines.start(1, 2 * SECOND, 'd', start + 2 * SECOND);
        assert_eq!(deadlines.take_due(start + 3 * SECOND), None);
        assert_eq!(deadlines.take_due(start + 4 * SECOND), Some((1, 2 * SECOND, 'd')));
        assert!(deadlines.is_empty() && deadlines.due().is_none());
    }
}
