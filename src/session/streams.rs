//! Keys for streams that come and go.

use super::StreamKey;

/// Gives each exchange its key. No key is given twice.
#[derive(Debug)]
pub struct StreamKeys {
    next: u64,
}

impl StreamKeys {
    /// The first key is none of the two that name sides.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: StreamKey::UPSTREAM.0 + 1 }
    }

    /// A key that no other stream has or had.
    pub const fn mint(&mut self) -> StreamKey {
        let key = StreamKey(self.next);
        // One every nanosecond would take 584 years.
        self.next += 1;
        key
    }
}

impl Default for StreamKeys {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_given_twice_and_name_no_side() {
        let mut keys = StreamKeys::new();
        let minted = [keys.mint(), keys.mint(), keys.mint()];
        for (index, key) in minted.iter().enumerate() {
            assert!(![StreamKey::UPSTREAM, StreamKey::DOWNSTREAM].contains(key));
            assert!(!minted[..index].contains(key));
            assert!(key.to_string().starts_with("stream "));
        }
    }
}
