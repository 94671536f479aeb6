//! [`Pools`]: buffers that are kept to be used again, one pool for each kind of transport.

use shadowcat_codecs::pool::BufferPool;

use super::{Budget, Charge, Which};

/// The pools of one process. What is taken from them is charged to whoever has it, what they keep to the process.
#[derive(Debug)]
pub struct Pools {
    stdio: BufferPool,
    http: BufferPool,
    _kept: Charge,
}

impl Pools {
    /// Empty ones, with room for all that they may keep. `None` if there is no such room.
    pub(super) fn new(budget: &Budget) -> Option<Self> {
        let (stdio, http) = (BufferPool::new(STDIO_LEN), BufferPool::new(HTTP_LEN));
        let _kept = budget.try_charge(Which::Admitted, stdio.max_len() + http.max_len())?;
        Some(Self { stdio, http, _kept })
    }

    /// What is read from byte streams: pipes, sockets, lines of JSON.
    #[must_use]
    pub fn stdio(&self) -> &BufferPool {
        &self.stdio
    }

    /// Bodies of HTTP that come in several pieces.
    #[must_use]
    pub fn http(&self) -> &BufferPool {
        &self.http
    }
}

/// What a quiet byte stream reads into.
const STDIO_LEN: usize = 8 << 10;
/// What a body that comes in pieces takes at first.
const HTTP_LEN: usize = 32 << 10;
