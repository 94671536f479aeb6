//! The child's own requests, to be answered by the client: which are open, and on which stream they went.
//!
//! An answer of the client is passed on only if it is to one of these.

use std::hash::RandomState;

use hashbrown::{HashMap, HashSet};

use super::super::{RequestId, StreamKey, spelling};

#[derive(Debug)]
pub(super) struct Questions {
    max: usize,
    open: HashMap<RequestId, Question, RandomState>,
    /// What a child asked that is gone, and the client may yet answer. Invariant: at most `max`.
    forgotten: HashSet<RequestId, RandomState>,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    /// `None` while it is held back.
    stream: Option<StreamKey>,
    /// How often the child asked under this id. More than once is its fault, and not ours to sort out.
    count: usize,
}

impl Questions {
    pub(super) fn new(max: usize) -> Self {
        Self { max, open: HashMap::default(), forgotten: HashSet::default() }
    }

    /// `Err` holds the limit that forbids it.
    pub(super) fn ask(&mut self, id: &[u8], stream: Option<StreamKey>) -> Result<(), usize> {
        if let Some(question) = self.open.get_mut(id) {
            question.count = question.count.saturating_add(1);
            question.stream = stream;
            return Ok(());
        }
        if self.open.len() >= self.max {
            return Err(self.max);
        }
        self.open.insert(RequestId::new(id), Question { stream, count: 1 });
        Ok(())
    }

    /// It went out on `stream` after it had been held back.
    pub(super) fn sent(&mut self, id: &[u8], stream: StreamKey) {
        if let Some(question) = self.open.get_mut(id) {
            question.stream = Some(stream);
        }
    }

    /// The child's own spelling of `id`, if it is open.
    pub(super) fn find(&self, id: &[u8]) -> Option<(&RequestId, Option<StreamKey>)> {
        let exact = self.open.get_key_value(id);
        let (id, question) = exact.or_else(|| {
            let mut all = self.open.iter();
            all.find(|(asked, _)| spelling::means_same(asked.as_bytes(), id))
        })?;
        Some((id, question.stream))
    }

    /// One answer to exactly this `id` came, or none will be waited for.
    pub(super) fn close(&mut self, id: &[u8]) {
        if let Some(question) = self.open.get_mut(id) {
            question.count -= 1;
            if question.count == 0 {
                self.open.remove(id);
            }
        }
    }

    /// The child that asked is gone. A late answer must not be taken for one to a question of the next child, which may
    /// count from the same number.
    pub(super) fn forget(&mut self) {
        let room = self.max.saturating_sub(self.forgotten.len());
        self.forgotten
            .extend(self.open.drain().filter(|(_, question)| question.stream.is_some()).map(|(id, _)| id).take(room));
    }

    /// Whether a child that is gone asked under `id`, and has no answer.
    pub(super) fn is_forgotten(&self, id: &[u8]) -> bool {
        self.forgotten.contains(id)
    }

    pub(super) fn has_forgotten(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// The client answered `id` after all.
    pub(super) fn recall(&mut self, id: &[u8]) {
        self.forgotten.remove(id);
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}
