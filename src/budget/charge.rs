//! [`Charge`]: bytes that are held, and whom they go back to.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use super::{
    Allowance,
    areas::{Areas, Which, units},
};

/// Bytes that are held, until this is dropped.
#[must_use = "dropped, it gives its bytes back"]
pub struct Charge {
    pub(super) source: Source,
    pub(super) len: usize,
}

/// Whom a charge gives its bytes back to.
pub(super) enum Source {
    Area(Arc<Areas>, Which),
    Allowance(Allowance),
}

impl Charge {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Gives back what is beyond `len` bytes.
    pub fn shrink(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        match &self.source {
            Source::Area(areas, which) => {
                areas.held.fetch_sub(self.len - len, Ordering::Relaxed);
                areas.area(*which).give_back(units(self.len) - units(len));
            }
            Source::Allowance(allowance) => allowance.give_back(self.len - len),
        }
        self.len = len;
    }

    /// Whether it is of what large messages wait for.
    pub(super) fn is_large(&self) -> bool {
        matches!(self.source, Source::Area(_, Which::Large(_)))
    }

    /// Takes in `other`, which is of the same area.
    pub(super) fn absorb(&mut self, mut other: Self) {
        let apart = units(self.len) + units(other.len);
        self.len += std::mem::take(&mut other.len);
        if let Source::Area(areas, which) = &self.source {
            areas.area(*which).give_back(apart - units(self.len));
        }
    }

    /// The same bytes, which hold this charge until the last reference to them is gone. Costs one allocation.
    #[must_use]
    pub fn wrap(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _charges: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        match &self.source {
            Source::Area(areas, which) => {
                areas.held.fetch_sub(self.len, Ordering::Relaxed);
                areas.area(*which).give_back(units(self.len));
            }
            Source::Allowance(allowance) => allowance.give_back(self.len),
        }
    }
}

/// Bytes and what they are charged with.
pub(super) struct Held<C> {
    pub(super) bytes: Bytes,
    pub(super) _charges: C,
}

impl<C> AsRef<[u8]> for Held<C> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Charge({} bytes)", self.len)
    }
}
