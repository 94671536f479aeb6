//! [`Pools`]: buffers that are kept to be used again, one pool for each kind of transport.

use bytes::{Bytes, BytesMut};
use shadowcat_codecs::pool::BufferPool;

use super::{Budget, Charge, Which};

/// The pools of one process. What is taken from them is charged to whoever has it, what they keep to the process.
#[derive(Debug)]
pub struct Pools {
    stdio: BufferPool,
    http: BufferPool,
    own: BufferPool,
    _kept: Charge,
}

impl Pools {
    /// Empty ones, with room for all that they may keep. `None` if there is no such room.
    pub(super) fn new(budget: &Budget) -> Option<Self> {
        let [stdio, http, own] = [STDIO_LEN, HTTP_LEN, OWN_LEN].map(BufferPool::new);
        let _kept = budget.try_charge(Which::Admitted, stdio.max_len() + http.max_len() + own.max_len())?;
        Some(Self { stdio, http, own, _kept })
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

    /// Messages of our own. They have blocks of their own size: a few hundred bytes must not hold what is read into.
    #[must_use]
    pub fn own(&self) -> &BufferPool {
        &self.own
    }
}

impl Budget {
    /// A message of our own, as `write` writes it.
    pub fn written(&self, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if let Some(pools) = self.pools() {
            return pools.own.written(write);
        }
        let mut message = BytesMut::with_capacity(OWN_LEN);
        write(&mut message);
        message.freeze()
    }
}

/// What a quiet byte stream reads into.
const STDIO_LEN: usize = 8 << 10;
/// What a body that comes in pieces takes at first.
const HTTP_LEN: usize = 32 << 10;
/// Most of our messages are shorter.
const OWN_LEN: usize = 256;
