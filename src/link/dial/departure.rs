//! When the bodies of requests have left us, because nothing may overtake a request that refers to it.
//!
//! Connections know nothing of each other: a short notification on a second one would be there long before
//! a long call on the first. Whether the server reads in the order it was written to is its own affair.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures::task::AtomicWaker;

/// Whether one request's body has left: every byte is in the hands of the system, or of TLS, or nobody will
/// send it any more.
#[derive(Debug)]
pub(super) struct Departure(Arc<AtomicBool>);

/// A body that tells when its last byte is let go.
struct Parcel {
    bytes: Bytes,
    has_left: Arc<AtomicBool>,
    waker: Arc<AtomicWaker>,
}

/// The same bytes, and what becomes of them. `waker` is woken when they have left.
pub(super) fn watched(bytes: Bytes, waker: &Arc<AtomicWaker>) -> (Bytes, Departure) {
    let has_left = Arc::new(AtomicBool::new(false));
    let parcel = Parcel { bytes, has_left: Arc::clone(&has_left), waker: Arc::clone(waker) };
    (Bytes::from_owner(parcel), Departure(has_left))
}

impl Departure {
    pub(super) fn has_happened(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl AsRef<[u8]> for Parcel {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        self.has_left.store(true, Ordering::Release);
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_left_with_its_last_byte() {
        let waker = Arc::new(AtomicWaker::new());
        let (mut body, departure) = watched(Bytes::from_static(b"abc"), &waker);
        let first = body.split_to(2);
        drop(body);
        assert!(!departure.has_happened());
        assert_eq!(first, "ab");
        drop(first);
        assert!(departure.has_happened());
    }
}
