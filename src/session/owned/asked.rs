//! The client's requests on their way: which POST waits for which id, which progress token is whose.
//!
//! Ids are found as bytes first, by value only if that finds nothing (see `spelling`). An id that was
//! cancelled is remembered for a while, so that its late answer is known for what it is and nobody gets the
//! id meanwhile.

use std::{
    collections::VecDeque,
    hash::RandomState,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use shadowcat_codecs::envelope::Envelope;

use super::super::{Reason, RequestId, ResponseTimeouts, StreamKey, deadline::Deadlines, spelling};

/// The table. Bounded by `max` requests that wait and [`MAX_CANCELLED`] that do not.
#[derive(Debug)]
pub(super) struct Asked {
    max: usize,
    /// Requests that wait. Invariant: `waiting <= max`.
    waiting: usize,
    requests: HashMap<RequestId, Request, RandomState>,
    /// From progress token to the id of the request that brought it last.
    tokens: HashMap<RequestId, RequestId, RandomState>,
    /// The ids in `requests` that were cancelled, oldest first.
    cancelled: VecDeque<RequestId>,
    posts: HashMap<StreamKey, Post, RandomState>,
    timeouts: ResponseTimeouts,
    /// Of the requests that wait and have a limit.
    deadlines: Deadlines<RequestId>,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    /// The POST that asked, or the one event stream of HTTP+SSE.
    pub(super) stream: StreamKey,
    pub(super) at: Instant,
    /// Place in the order in which requests came.
    pub(super) number: u64,
    pub(super) is_initialize: bool,
    pub(super) is_cancelled: bool,
    token: Option<RequestId>,
}

/// A POST that waits for at least one answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Post {
    /// What carries it: itself, the GET that resumed it, or nothing while the client is away.
    pub(super) connection: Option<StreamKey>,
    /// Ids it waits for. Invariant: `waiting > 0`.
    pub(super) waiting: usize,
    /// Whether it is answered with events, so that what is sent on it has event ids.
    pub(super) is_events: bool,
    pub(super) is_batch: bool,
    /// Place in the order of everything that happened.
    pub(super) number: u64,
}

/// What a message named, and how the client spelled it if the message did not spell it so.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) id: &'a RequestId,
    pub(super) request: &'a Request,
    pub(super) respell: Option<&'a RequestId>,
}

impl Asked {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            waiting: 0,
            requests: HashMap::default(),
            tokens: HashMap::default(),
            cancelled: VecDeque::new(),
            posts: HashMap::default(),
            timeouts: ResponseTimeouts::default(),
            deadlines: Deadlines::default(),
        }
    }

    pub(super) fn limit(&mut self, timeouts: ResponseTimeouts) {
        self.timeouts = timeouts;
    }

    /// Progress was reported under `token`: its request's time begins anew (Rule C6).
    pub(super) fn progressed(&mut self, token: &[u8], at: Instant) {
        if !self.deadlines.is_empty()
            && let Some(id) = self.find_token(token).map(|found| found.id.clone())
        {
            self.deadlines.extend(&id, at);
        }
    }

    /// The request with exactly this `id` was given to us at `given`, before it was booked: its time began then.
    pub(super) fn waits_since(&mut self, id: &[u8], given: Instant) {
        self.deadlines.extend(id, given);
    }

    /// When the next request is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.deadlines.due()
    }

    /// A request that was not answered in time, and its limit. It still waits.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(RequestId, Duration)> {
        let (id, limit, ()) = self.deadlines.take_due(now)?;
        Some((id, limit))
    }

    /// A request goes out, to be answered on `stream`.
    ///
    /// An id that still waits is refused (Rule F4, MCP 2025-11-25, Base protocol): the child may answer the
    /// two in any order, so that each could get the other's answer. Queueing would only hide that.
    pub(super) fn book(
        &mut self,
        stream: StreamKey,
        frame: &[u8],
        envelope: &Envelope,
        number: u64,
        at: Instant,
    ) -> Result<(), Reason> {
        let id = envelope.id().map(|id| id.of(frame)).unwrap_or_default();
        if self.requests.contains_key(id) {
            let what = "a request with the same id has not been answered yet".into();
            return Err(Reason::Refused { what });
        }
        if self.waiting >= self.max {
            return Err(Reason::TooManyPending { limit: self.max });
        }
        self.waiting += 1;
        let id = RequestId::new(id);
        let token = envelope.meta_progress_token().map(|token| RequestId::new(token.of(frame)));
        if let Some(token) = &token {
            self.tokens.insert(token.clone(), id.clone());
        }
        let is_initialize = spelling::method_is(frame, envelope, "initialize");
        if let Some(limit) = self.timeouts.of_message(envelope, frame) {
            self.deadlines.start(id.clone(), limit, (), at);
        }
        self.requests.insert(id, Request { stream, at, number, is_initialize, is_cancelled: false, token });
        Ok(())
    }

    /// Whom an answer with `id` is for.
    pub(super) fn find(&self, id: &[u8]) -> Option<Found<'_>> {
        if let Some((id, request)) = self.requests.get_key_value(id) {
            return Some(Found { id, request, respell: None });
        }
        let mut all = self.requests.iter();
        let (id, request) = all.find(|(asked, _)| spelling::means_same(asked.as_bytes(), id))?;
        Some(Found { id, request, respell: Some(id) })
    }

    /// Whose progress is reported under `token` (Rule C9).
    pub(super) fn find_token(&self, token: &[u8]) -> Option<Found<'_>> {
        let exact = self.tokens.get_key_value(token).map(|(_, id)| (id, None));
        let (id, respell) = exact.or_else(|| {
            let mut all = self.tokens.iter();
            let (asked, id) = all.find(|(asked, _)| spelling::means_same(asked.as_bytes(), token))?;
            Some((id, Some(asked)))
        })?;
        Some(Found { id, request: self.requests.get(id.as_bytes())?, respell })
    }

    /// The request with exactly this `id` waits no more.
    pub(super) fn take(&mut self, id: &[u8]) -> Option<Request> {
        let request = self.requests.remove(id)?;
        self.deadlines.stop(id);
        if request.is_cancelled {
            self.cancelled.retain(|cancelled| cancelled.as_bytes() != id);
        } else {
            self.waiting -= 1;
            self.forget_token(request.token.as_ref(), id);
        }
        Some(request)
    }

    /// The client waits no more for `id`; returns the stream it waited on. `initialize` cannot be cancelled
    /// (Rule C2, MCP 2025-11-25, Cancellation).
    pub(super) fn cancel(&mut self, id: &[u8]) -> Option<StreamKey> {
        let request = self.requests.get_mut(id).filter(|request| !request.is_initialize && !request.is_cancelled)?;
        request.is_cancelled = true;
        let (stream, token) = (request.stream, request.token.take());
        self.waiting -= 1;
        self.deadlines.stop(id);
        self.forget_token(token.as_ref(), id);
        self.cancelled.push_back(RequestId::new(id));
        if self.cancelled.len() > MAX_CANCELLED {
            let oldest = self.cancelled.pop_front();
            oldest.map(|oldest| self.requests.remove(oldest.as_bytes()));
        }
        Some(stream)
    }

    /// All requests that wait, in the order they came. The table is empty afterwards, but for the POSTs.
    pub(super) fn take_all(&mut self) -> Vec<(RequestId, Request)> {
        let all = self.requests.drain().filter(|(_, request)| !request.is_cancelled);
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(_, request)| request.number);
        self.tokens.clear();
        self.cancelled.clear();
        self.deadlines = Deadlines::default();
        self.waiting = 0;
        all
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn open_post(&mut self, stream: StreamKey, post: Post) {
        self.posts.insert(stream, post);
    }

    pub(super) fn post(&self, stream: StreamKey) -> Option<&Post> {
        self.posts.get(&stream)
    }

    pub(super) fn post_mut(&mut self, stream: StreamKey) -> Option<&mut Post> {
        self.posts.get_mut(&stream)
    }

    /// `answers` of what the POST waits for came, or will not come. Returns the POST as it was, and whether
    /// that was all; then it is no longer known.
    pub(super) fn settle(&mut self, stream: StreamKey, answers: usize) -> Option<(Post, bool)> {
        let post = self.posts.get_mut(&stream)?;
        post.waiting = post.waiting.saturating_sub(answers);
        let (post, ends) = (*post, post.waiting == 0);
        if ends {
            self.posts.remove(&stream);
        }
        Some((post, ends))
    }

    /// The one POST that waits, if there is exactly one.
    pub(super) fn only_post(&self) -> Option<(StreamKey, &Post)> {
        let mut posts = self.posts.iter();
        let (&stream, post) = posts.next()?;
        posts.next().is_none().then_some((stream, post))
    }

    /// What `connection` carries.
    pub(super) fn carried_by(&mut self, connection: StreamKey) -> Option<&mut Post> {
        self.posts.values_mut().find(|post| post.connection == Some(connection))
    }

    /// Whether a client is at the other end of any POST.
    pub(super) fn is_attached(&self) -> bool {
        self.posts.values().any(|post| post.connection.is_some())
    }

    fn forget_token(&mut self, token: Option<&RequestId>, id: &[u8]) {
        // Another request may have brought the same token since.
        if let Some(token) = token
            && self.tokens.get(token.as_bytes()).is_some_and(|owner| owner.as_bytes() == id)
        {
            self.tokens.remove(token.as_bytes());
        }
    }
}

/// Most cancelled ids that are remembered, so that a late answer is not taken for one to a new request.
const MAX_CANCELLED: usize = 256;
