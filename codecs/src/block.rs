//! 64-byte blocks as bit masks: bit `i` of a mask says whether byte `i` of the block is the byte looked
//! for. This is the one unsafe island of the crate; everything above it is safe code over `u64`s.
//!
//! Unsafe here: calling a function compiled for AVX2 after asking the CPU for it, and its 32-byte loads.
//! Safe code was not enough: the safe twin below, which is also the fallback and the tests' oracle, cuts
//! a stream of 64-byte lines at a fraction of the speed (`cargo bench --bench line -- masks` prints
//! both). The vector code must stay free of closures: a closure loses the target feature of the function
//! around it, and every intrinsic becomes a call.

pub(crate) mod json;

/// Bytes in a block; bits in a mask.
pub(crate) const BLOCK_LEN: usize = 64;

/// Blocks looked at in one call: enough to hide the call, small enough to live on the stack.
pub(crate) const GROUP_BLOCKS: usize = 32;

/// Bytes looked at in one call of [`masks`] at the most.
pub(crate) const GROUP_LEN: usize = BLOCK_LEN * GROUP_BLOCKS;

/// The masks of one group, one array of `N` masks per block.
pub(crate) type Group<const N: usize> = [[u64; N]; GROUP_BLOCKS];

/// Fills `group` with the masks of `hay` for each of `needles`, and returns how many blocks there are.
///
/// Looks at the first [`GROUP_LEN`] bytes of `hay` only. Bits behind the end of `hay` are 0; masks behind
/// the returned count are left as they were.
#[inline]
pub(crate) fn masks<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut Group<N>) -> usize {
    let hay = hay.get(..GROUP_LEN).unwrap_or(hay);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return x86_64::masks_with_avx2(hay, needles, group);
    }
    masks_portable(hay, needles, group)
}

/// The safe twin: fallback on other machines, and the oracle of the tests.
pub(crate) fn masks_portable<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut Group<N>) -> usize {
    let mut blocks = 0;
    for (bytes, masks) in hay.chunks(BLOCK_LEN).zip(group) {
        for (&needle, mask) in needles.iter().zip(masks) {
            *mask = bytes.iter().rev().fold(0, |mask, &byte| mask << 1 | u64::from(byte == needle));
        }
        blocks += 1;
    }
    blocks
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    #![expect(unsafe_code, reason = "the island: see the module's first lines")]

    use std::arch::x86_64::{__m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8};

    use super::{BLOCK_LEN, Group};

    /// As [`super::masks`], on a machine that has AVX2.
    #[inline]
    pub(super) fn masks_with_avx2<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut Group<N>) -> usize {
        debug_assert!(std::arch::is_x86_feature_detected!("avx2"));
        // SAFETY: the only caller has just seen that this CPU has AVX2.
        unsafe { masks_avx2(hay, needles, group) }
    }

    #[target_feature(enable = "avx2")]
    fn masks_avx2<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut Group<N>) -> usize {
        let (blocks, tail) = hay.as_chunks::<BLOCK_LEN>();
        let mut count = 0;
        for (block, masks) in blocks.iter().zip(group.iter_mut()) {
            mask_block(block, needles, masks);
            count += 1;
        }
        if let (false, Some(masks)) = (tail.is_empty(), group.get_mut(count)) {
            // Bytes behind the end must match nothing, so the mask is cut rather than the padding chosen.
            let mut block = [0; BLOCK_LEN];
            for (to, &from) in block.iter_mut().zip(tail) {
                *to = from;
            }
            mask_block(&block, needles, masks);
            for mask in masks {
                *mask &= (1 << tail.len()) - 1;
            }
            count += 1;
        }
        count
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn mask_block<const N: usize>(block: &[u8; BLOCK_LEN], needles: [u8; N], masks: &mut [u64; N]) {
        let (low, high) = (load(block, Half::Low), load(block, Half::High));
        for (&needle, mask) in needles.iter().zip(masks) {
            let needle = _mm256_set1_epi8(needle.cast_signed());
            *mask = u64::from(equal(low, needle)) | u64::from(equal(high, needle)) << 32;
        }
    }

    enum Half {
        Low,
        High,
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(block: &[u8; BLOCK_LEN], half: Half) -> __m256i {
        let (halves, _) = block.as_chunks::<32>();
        let [low, high] = halves else { unreachable!("64 bytes are two times 32") };
        let bytes: &[u8; 32] = match half {
            Half::Low => low,
            Half::High => high,
        };
        // SAFETY: a reference to 32 bytes is valid for a read of 32 bytes, and `loadu` wants no alignment.
        unsafe { _mm256_loadu_si256(std::ptr::from_ref(bytes).cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn equal(bytes: __m256i, needle: __m256i) -> u32 {
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, needle)).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn vector_masks_are_the_portable_ones(hay in vec(0_u8..4, 0..GROUP_LEN + 100), skip in 0_usize..70) {
            let hay = hay.get(skip..).unwrap_or_default();
            let (mut fast, mut slow) = ([[0; 2]; GROUP_BLOCKS], [[0; 2]; GROUP_BLOCKS]);
            let counted = masks(hay, [1, 3], &mut fast);
            let expected = masks_portable(hay.get(..GROUP_LEN).unwrap_or(hay), [1, 3], &mut slow);
            prop_assert_eq!(counted, expected);
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn bits_behind_the_end_are_zero() {
        for len in 0..=BLOCK_LEN {
            let mut group = [[u64::MAX]; GROUP_BLOCKS];
            let blocks = masks(&vec![0; len], [0], &mut group);
            assert_eq!(blocks, usize::from(len > 0));
            if len > 0 {
                assert_eq!(group[0][0].count_ones() as usize, len);
            }
        }
    }
}
