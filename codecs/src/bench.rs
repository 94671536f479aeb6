//! What the benchmarks look at from inside: the vector code and its safe twin, as functions.

use crate::block::{self, GROUP_BLOCKS, GROUP_LEN};

/// All masks of `hay` for LF, as the decoders make them, in one number.
#[must_use]
pub fn fold_masks(hay: &[u8]) -> u64 {
    fold(hay, |group, masks| block::masks(group, [b'\n'], masks))
}

/// The same by the safe twin.
#[must_use]
pub fn fold_portable_masks(hay: &[u8]) -> u64 {
    fold(hay, |group, masks| block::masks_portable(group, [b'\n'], masks))
}

#[inline]
fn fold(hay: &[u8], mut masks: impl FnMut(&[u8], &mut block::Group<1>) -> usize) -> u64 {
    let mut group = [[0]; GROUP_BLOCKS];
    let mut found = 0;
    for hay in hay.chunks(GROUP_LEN) {
        let blocks = masks(hay, &mut group);
        found = group.iter().take(blocks).fold(found, |found, [mask]| found ^ mask);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_find_the_same() {
        let hay = b"one\ntwo\n\n".repeat(1000);
        assert_ne!(fold_masks(&hay), 0);
        assert_eq!(fold_masks(&hay), fold_portable_masks(&hay));
    }
}
