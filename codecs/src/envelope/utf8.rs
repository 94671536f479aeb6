//! UTF-8, in chunks: a character may be cut anywhere.

/// What a chunk left unfinished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Utf8 {
    /// The bytes of a character whose end has not come. Invariant: `len <= 3`.
    cut: [u8; 4],
    len: usize,
}

impl Utf8 {
    pub(super) const fn new() -> Self {
        Self { cut: [0; 4], len: 0 }
    }

    /// Whether the next bytes must be looked at even if they are ASCII.
    #[inline]
    pub(super) const fn is_cut(&self) -> bool {
        self.len > 0
    }

    /// Checks the bytes that follow those checked so far, which end at offset `at`. The error is the
    /// offset of the first sequence that is not a character.
    #[inline(never)]
    pub(super) fn check(&mut self, mut bytes: &[u8], mut at: usize) -> Result<(), usize> {
        while let (true, Some((&next, rest))) = (self.is_cut(), bytes.split_first()) {
            let start = at - self.len;
            if let Some(slot) = self.cut.get_mut(self.len) {
                *slot = next;
            }
            self.len += 1;
            match std::str::from_utf8(self.cut.get(..self.len).unwrap_or_default()) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(start),
                Err(_) => {}
            }
            (bytes, at) = (rest, at + 1);
        }
        if simdutf8::basic::from_utf8(bytes).is_ok() {
            return Ok(());
        }
        let Err(error) = std::str::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(at + error.valid_up_to());
        }
        let cut = bytes.get(error.valid_up_to()..).unwrap_or_default();
        for (slot, &byte) in self.cut.iter_mut().zip(cut) {
            *slot = byte;
        }
        self.len = cut.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn any_cut_finds_the_error_that_std_finds(
            bytes in vec(prop_oneof![any::<u8>(), Just(0xE2), Just(0x82), Just(0xAC), Just(0xF0), Just(0x9F), Just(b'a')], 0..24),
            cuts in vec(0_usize..24, 0..6),
        ) {
            let expected = match std::str::from_utf8(&bytes) {
                Err(error) if error.error_len().is_some() => Err(error.valid_up_to()),
                Err(error) => Ok(bytes.len() - error.valid_up_to()),
                Ok(_) => Ok(0),
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            let mut utf8 = Utf8::new();
            let checked = cuts.windows(2).try_for_each(|cut| utf8.check(&bytes[cut[0]..cut[1]], cut[0]));
            prop_assert_eq!(checked.map(|()| utf8.len), expected);
        }
    }
}
