//! What the benchmarks look at from inside: the vector code and its safe twin, as functions.

use crate::block::{self, GROUP_BLOCKS, GROUP_LEN};

/// Counts the line feeds in `hay` by the masks the decoders use.
#[must_use]
pub fn count_by_masks(hay: &[u8]) -> u32 {
    count(hay, |group, masks| block::masks(group, [b'\n'], masks))
}

/// The same by the safe twin.
#[must_use]
pub fn count_by_portable_masks(hay: &[u8]) -> u32 {
    count(hay, |group, masks| block::masks_portable(group, [b'\n'], masks))
}

#[inline]
fn count(hay: &[u8], mut masks: impl FnMut(&[u8], &mut block::Group<1>) -> usize) -> u32 {
    let mut group = [[0]; GROUP_BLOCKS];
    let mut found = 0;
    for hay in hay.chunks(GROUP_LEN) {
        let blocks = masks(hay, &mut group);
        found += group.iter().take(blocks).map(|[mask]| mask.count_ones()).sum::<u32>();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_count_the_same() {
        let hay = b"one\ntwo\n\n".repeat(1000);
        assert_eq!((count_by_masks(&hay), count_by_portable_masks(&hay)), (3000, 3000));
    }
}
