//! 64-byte blocks as bit masks: bit `i` of a mask says whether byte `i` of the block is the byte looked
//! for. This is the one unsafe island of the crate; everything above it is safe code over `u64`s.
//!
//! Unsafe here: calling functions compiled for AVX2 or AVX-512 after asking the CPU for them, and their
//! loads. Safe code was not enough: the safe twin below, which is also the fallback and the tests'
//! oracle, is some forty times slower (`cargo bench --bench line -- masks` prints both). The vector code
//! must stay free of closures: a closure loses the target feature of the function around it, and every
//! intrinsic becomes a call.

mod json;
pub(crate) mod skip;

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
    if let Some(blocks) = x86_64::masks_512(hay, needles, group).or_else(|| x86_64::masks_256(hay, needles, group)) {
        return blocks;
    }
    masks_portable(hay, needles, group)
}

/// As [`masks`], with one mask per block: the bytes that are any of `needles`.
#[inline]
pub(crate) fn any_masks<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut [u64; GROUP_BLOCKS]) -> usize {
    let hay = hay.get(..GROUP_LEN).unwrap_or(hay);
    #[cfg(target_arch = "x86_64")]
    if let Some(blocks) = x86_64::any_512(hay, needles, group).or_else(|| x86_64::any_256(hay, needles, group)) {
        return blocks;
    }
    any_masks_portable(hay, needles, group)
}

/// The safe twin of [`any_masks`].
pub(crate) fn any_masks_portable<const N: usize>(
    hay: &[u8],
    needles: [u8; N],
    group: &mut [u64; GROUP_BLOCKS],
) -> usize {
    let mut all = [[0; N]; GROUP_BLOCKS];
    let blocks = masks_portable(hay, needles, &mut all);
    for (any, masks) in group.iter_mut().zip(all).take(blocks) {
        *any = masks.iter().fold(0, |any, mask| any | mask);
    }
    blocks
}

/// Where a quote, a backslash, a control byte or a byte above 0x7F is among sixteen; bit `i` for byte `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Specials {
    /// Quotes, backslashes and bytes below 0x20.
    pub(crate) special: u32,
    /// Bytes above 0x7F.
    pub(crate) high: u32,
}

/// The [`Specials`] of a few bytes: for strings that are too short for a block.
#[inline]
pub(crate) fn specials(bytes: &[u8; 16]) -> Specials {
    #[cfg(target_arch = "x86_64")]
    return x86_64::specials_sse2(bytes);
    #[cfg(not(target_arch = "x86_64"))]
    return specials_portable(bytes);
}

/// The safe twin.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn specials_portable(bytes: &[u8; 16]) -> Specials {
    let mask =
        |is_wanted: fn(u8) -> bool| bytes.iter().rev().fold(0, |mask, &byte| mask << 1 | u32::from(is_wanted(byte)));
    Specials { special: mask(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)), high: mask(|byte| !byte.is_ascii()) }
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

    use std::arch::x86_64::{
        __m128i, __m256i, __m512i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
        _mm256_setzero_si256, _mm512_cmpeq_epi8_mask, _mm512_loadu_si512, _mm512_set1_epi8,
    };

    use super::{BLOCK_LEN, GROUP_BLOCKS, Group, Specials};

    /// As [`super::specials`]; SSE2 is there on every x86-64.
    #[inline]
    pub(super) fn specials_sse2(bytes: &[u8; 16]) -> Specials {
        // SAFETY: a reference to 16 bytes is valid for a read of 16 bytes, and `loadu` wants no alignment.
        let bytes: __m128i = unsafe { _mm_loadu_si128(std::ptr::from_ref(bytes).cast()) };
        // SAFETY: every x86-64 has SSE2.
        let (special, high) = unsafe { special_and_high(bytes) };
        Specials { special: special.cast_unsigned(), high: high.cast_unsigned() }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn special_and_high(bytes: __m128i) -> (i32, i32) {
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"'.cast_signed()));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\'.cast_signed()));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
        (_mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash))), _mm_movemask_epi8(bytes))
    }

    /// As [`super::masks`], on a machine with good 512-bit vectors: VBMI2 is asked for because the first
    /// CPUs with AVX-512 slowed down when it was used, and those do not have it.
    #[inline]
    pub(super) fn masks_512<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut Group<N>) -> Option<usize> {
        let usable =
            std::arch::is_x86_feature_detected!("avx512bw") && std::arch::is_x86_feature_detected!("avx512vbmi2");
        // SAFETY: this CPU has AVX-512 BW, which includes F.
        usable.then(|| unsafe { masks_avx512(hay, needles, group) })
    }

    /// As [`super::masks`], on a machine with AVX2.
    #[inline]
    pub(super) fn masks_256<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut Group<N>) -> Option<usize> {
        // SAFETY: this CPU has AVX2.
        std::arch::is_x86_feature_detected!("avx2").then(|| unsafe { masks_avx2(hay, needles, group) })
    }

    /// As [`super::any_masks`], on a machine for [`masks_512`].
    #[inline]
    pub(super) fn any_512<const N: usize>(
        hay: &[u8],
        needles: [u8; N],
        group: &mut [u64; GROUP_BLOCKS],
    ) -> Option<usize> {
        let usable =
            std::arch::is_x86_feature_detected!("avx512bw") && std::arch::is_x86_feature_detected!("avx512vbmi2");
        // SAFETY: this CPU has AVX-512 BW, which includes F.
        usable.then(|| unsafe { any_avx512(hay, needles, group) })
    }

    /// As [`super::any_masks`], on a machine with AVX2.
    #[inline]
    pub(super) fn any_256<const N: usize>(
        hay: &[u8],
        needles: [u8; N],
        group: &mut [u64; GROUP_BLOCKS],
    ) -> Option<usize> {
        // SAFETY: this CPU has AVX2.
        std::arch::is_x86_feature_detected!("avx2").then(|| unsafe { any_avx2(hay, needles, group) })
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn any_avx512<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut [u64; GROUP_BLOCKS]) -> usize {
        let (blocks, tail) = hay.as_chunks::<BLOCK_LEN>();
        let mut count = 0;
        for (block, any) in blocks.iter().zip(group.iter_mut()) {
            *any = any_of_block_avx512(block, needles);
            count += 1;
        }
        if let (false, Some(any)) = (tail.is_empty(), group.get_mut(count)) {
            *any = any_of_block_avx512(&padded(tail), needles) & ((1 << tail.len()) - 1);
            count += 1;
        }
        count
    }

    #[target_feature(enable = "avx2")]
    fn any_avx2<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut [u64; GROUP_BLOCKS]) -> usize {
        let (blocks, tail) = hay.as_chunks::<BLOCK_LEN>();
        let mut count = 0;
        for (block, any) in blocks.iter().zip(group.iter_mut()) {
            *any = any_of_block_avx2(block, needles);
            count += 1;
        }
        if let (false, Some(any)) = (tail.is_empty(), group.get_mut(count)) {
            *any = any_of_block_avx2(&padded(tail), needles) & ((1 << tail.len()) - 1);
            count += 1;
        }
        count
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn any_of_block_avx512<const N: usize>(block: &[u8; BLOCK_LEN], needles: [u8; N]) -> u64 {
        let (bytes, mut any) = (load_512(block), 0);
        for needle in needles {
            any |= _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(needle.cast_signed()));
        }
        any
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn any_of_block_avx2<const N: usize>(block: &[u8; BLOCK_LEN], needles: [u8; N]) -> u64 {
        let (halves, _) = block.as_chunks::<32>();
        let [low, high] = halves else { unreachable!("64 bytes are two times 32") };
        let (low, high) = (load_256(low), load_256(high));
        let (mut any_low, mut any_high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for needle in needles {
            let needle = _mm256_set1_epi8(needle.cast_signed());
            any_low = _mm256_or_si256(any_low, _mm256_cmpeq_epi8(low, needle));
            any_high = _mm256_or_si256(any_high, _mm256_cmpeq_epi8(high, needle));
        }
        let (low, high) = (_mm256_movemask_epi8(any_low), _mm256_movemask_epi8(any_high));
        u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn masks_avx512<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut Group<N>) -> usize {
        let (blocks, tail) = hay.as_chunks::<BLOCK_LEN>();
        let mut count = 0;
        for (block, masks) in blocks.iter().zip(group.iter_mut()) {
            mask_block_avx512(block, needles, masks);
            count += 1;
        }
        if let (false, Some(masks)) = (tail.is_empty(), group.get_mut(count)) {
            mask_block_avx512(&padded(tail), needles, masks);
            cut(masks, tail.len());
            count += 1;
        }
        count
    }

    #[target_feature(enable = "avx2")]
    fn masks_avx2<const N: usize>(hay: &[u8], needles: [u8; N], group: &mut Group<N>) -> usize {
        let (blocks, tail) = hay.as_chunks::<BLOCK_LEN>();
        let mut count = 0;
        for (block, masks) in blocks.iter().zip(group.iter_mut()) {
            mask_block_avx2(block, needles, masks);
            count += 1;
        }
        if let (false, Some(masks)) = (tail.is_empty(), group.get_mut(count)) {
            mask_block_avx2(&padded(tail), needles, masks);
            cut(masks, tail.len());
            count += 1;
        }
        count
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn mask_block_avx512<const N: usize>(block: &[u8; BLOCK_LEN], needles: [u8; N], masks: &mut [u64; N]) {
        let bytes = load_512(block);
        for (&needle, mask) in needles.iter().zip(masks) {
            *mask = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(needle.cast_signed()));
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn mask_block_avx2<const N: usize>(block: &[u8; BLOCK_LEN], needles: [u8; N], masks: &mut [u64; N]) {
        let (halves, _) = block.as_chunks::<32>();
        let [low, high] = halves else { unreachable!("64 bytes are two times 32") };
        let (low, high) = (load_256(low), load_256(high));
        for (&needle, mask) in needles.iter().zip(masks) {
            let needle = _mm256_set1_epi8(needle.cast_signed());
            *mask = u64::from(equal(low, needle)) | u64::from(equal(high, needle)) << 32;
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_512(bytes: &[u8; BLOCK_LEN]) -> __m512i {
        // SAFETY: a reference to 64 bytes is valid for a read of 64 bytes, and `loadu` wants no alignment.
        unsafe { _mm512_loadu_si512(std::ptr::from_ref(bytes).cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn load_256(bytes: &[u8; 32]) -> __m256i {
        // SAFETY: a reference to 32 bytes is valid for a read of 32 bytes, and `loadu` wants no alignment.
        unsafe { _mm256_loadu_si256(std::ptr::from_ref(bytes).cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn equal(bytes: __m256i, needle: __m256i) -> u32 {
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, needle)).cast_unsigned()
    }

    /// The last bytes of a hay as a block. What the padding matches has to be [`cut`] off the masks.
    #[inline]
    fn padded(tail: &[u8]) -> [u8; BLOCK_LEN] {
        let mut block = [0; BLOCK_LEN];
        for (to, &from) in block.iter_mut().zip(tail) {
            *to = from;
        }
        block
    }

    #[inline]
    fn cut<const N: usize>(masks: &mut [u64; N], len: usize) {
        for mask in masks {
            *mask &= (1 << len) - 1;
        }
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
            let hay = hay.get(..GROUP_LEN).unwrap_or(hay);
            let expected = masks_portable(hay, [1, 3], &mut slow);
            prop_assert_eq!(counted, expected);
            prop_assert_eq!(fast, slow);
            // On a machine that prefers wider vectors the narrow ones are not to go untested.
            #[cfg(target_arch = "x86_64")]
            if let Some(counted) = x86_64::masks_256(hay, [1, 3], &mut fast) {
                prop_assert_eq!(counted, expected);
                prop_assert_eq!(fast, slow);
            }
        }
    }

    proptest! {
        #[test]
        fn any_masks_are_the_portable_ones(hay in vec(0_u8..4, 0..GROUP_LEN + 100), skip in 0_usize..70) {
            let hay = hay.get(skip..).unwrap_or_default();
            let (mut fast, mut slow) = ([0; GROUP_BLOCKS], [0; GROUP_BLOCKS]);
            let counted = any_masks(hay, [1, 3], &mut fast);
            let hay = hay.get(..GROUP_LEN).unwrap_or(hay);
            let expected = any_masks_portable(hay, [1, 3], &mut slow);
            prop_assert_eq!(counted, expected);
            prop_assert_eq!(fast, slow);
            #[cfg(target_arch = "x86_64")]
            if let Some(counted) = x86_64::any_256(hay, [1, 3], &mut fast) {
                prop_assert_eq!(counted, expected);
                prop_assert_eq!(fast, slow);
            }
        }

        #[test]
        fn vector_specials_are_the_portable_ones(bytes: [u8; 16]) {
            prop_assert_eq!(specials(&bytes), specials_portable(&bytes));
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
