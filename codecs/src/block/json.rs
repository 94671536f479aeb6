//! The masks that skip JSON: per 64-byte block, the bytes that can change where a value ends.
//!
//! Part of the unsafe island, with the same rules as above. What the masks mean is [`Skip`]'s business; it
//! is inlined into the loops here, so that its counting of bits is compiled for the CPU that was found:
//! without the `popcnt` instruction it would take longer than the masks.

use super::{
    BLOCK_LEN,
    skip::{Skip, Step},
};

/// The masks of one block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Masks {
    /// `"`
    pub(super) quotes: u64,
    /// `\`
    pub(super) backslashes: u64,
    /// `{` and `[`
    pub(super) opens: u64,
    /// `}` and `]`
    pub(super) closes: u64,
    /// Bytes below 0x20.
    pub(super) controls: u64,
}

/// Feeds the blocks of `hay` to `skip` until it is at its end. The second result is true if a byte above
/// 0x7F may be among the bytes looked at.
#[inline]
pub(super) fn skip(skip: &mut Skip, hay: &[u8]) -> (Step, bool) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("popcnt")
    {
        return x86_64::skip_with_avx2(skip, hay);
    }
    skip_portable(skip, hay)
}

/// The safe twin: fallback on other machines, and the oracle of the tests.
pub(super) fn skip_portable(skip: &mut Skip, hay: &[u8]) -> (Step, bool) {
    let (mut at, mut high) = (0, false);
    for bytes in hay.chunks(BLOCK_LEN) {
        high |= !bytes.is_ascii();
        let step = skip.block(&masks(bytes), bytes.len());
        if step != Step::More {
            return (step.moved(at), high);
        }
        at += bytes.len();
    }
    (Step::More, high)
}

fn masks(bytes: &[u8]) -> Masks {
    let mut masks = Masks::default();
    for (index, &byte) in bytes.iter().enumerate() {
        masks.quotes |= u64::from(byte == b'"') << index;
        masks.backslashes |= u64::from(byte == b'\\') << index;
        masks.opens |= u64::from(byte & CASE == b'[') << index;
        masks.closes |= u64::from(byte & CASE == b']') << index;
        masks.controls |= u64::from(byte < 0x20) << index;
    }
    masks
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    #![expect(unsafe_code, reason = "the island: see the first lines of the module above")]

    use std::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
        _mm256_set1_epi8, _mm256_setzero_si256,
    };

    use super::{
        super::x86_64::{Half, equal, load},
        BLOCK_LEN, CASE, Masks, Skip, Step,
    };

    /// As [`super::skip`], on a machine that has AVX2, BMI1 and POPCNT.
    #[inline]
    pub(super) fn skip_with_avx2(skip: &mut Skip, hay: &[u8]) -> (Step, bool) {
        // SAFETY: the only caller has just seen that this CPU has AVX2, BMI1 and POPCNT.
        unsafe { skip_avx2(skip, hay) }
    }

    #[target_feature(enable = "avx2,bmi1,popcnt")]
    fn skip_avx2(skip: &mut Skip, hay: &[u8]) -> (Step, bool) {
        let (blocks, tail) = hay.as_chunks::<BLOCK_LEN>();
        let mut all = _mm256_setzero_si256();
        let mut at = 0;
        for block in blocks {
            let (low, high) = (load(block, Half::Low), load(block, Half::High));
            all = _mm256_or_si256(all, _mm256_or_si256(low, high));
            // Long texts: nothing but a quote, a backslash or a control byte can matter.
            if !(skip.is_in_text() && specials(low, high) == 0) {
                let step = skip.block(&masks(low, high), BLOCK_LEN);
                if step != Step::More {
                    return (step.moved(at), _mm256_movemask_epi8(all) != 0);
                }
            }
            at += BLOCK_LEN;
        }
        if tail.is_empty() {
            return (Step::More, _mm256_movemask_epi8(all) != 0);
        }
        // Blanks match nothing.
        let mut block = [b' '; BLOCK_LEN];
        for (to, &from) in block.iter_mut().zip(tail) {
            *to = from;
        }
        let (low, high) = (load(&block, Half::Low), load(&block, Half::High));
        all = _mm256_or_si256(all, _mm256_or_si256(low, high));
        let step = skip.block(&masks(low, high), tail.len());
        (step.moved(at), _mm256_movemask_epi8(all) != 0)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn masks(low: __m256i, high: __m256i) -> Masks {
        let case = _mm256_set1_epi8(CASE.cast_signed());
        let (low_case, high_case) = (_mm256_and_si256(low, case), _mm256_and_si256(high, case));
        Masks {
            quotes: equal_pair(low, high, b'"'),
            backslashes: equal_pair(low, high, b'\\'),
            opens: equal_pair(low_case, high_case, b'['),
            closes: equal_pair(low_case, high_case, b']'),
            controls: pair(_mm256_movemask_epi8(controls(low)), _mm256_movemask_epi8(controls(high))),
        }
    }

    /// Not 0 if a quote, a backslash or a control byte is in either half.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn specials(low: __m256i, high: __m256i) -> i32 {
        _mm256_movemask_epi8(_mm256_or_si256(special(low), special(high)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn special(bytes: __m256i) -> __m256i {
        let quote = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'"'.cast_signed()));
        let backslash = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\'.cast_signed()));
        _mm256_or_si256(controls(bytes), _mm256_or_si256(quote, backslash))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn equal_pair(low: __m256i, high: __m256i, needle: u8) -> u64 {
        let needle = _mm256_set1_epi8(needle.cast_signed());
        pair(equal(low, needle).cast_signed(), equal(high, needle).cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn controls(bytes: __m256i) -> __m256i {
        _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1F)), bytes)
    }

    #[inline]
    fn pair(low: i32, high: i32) -> u64 {
        u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32
    }
}

/// Without this bit, `{` is `[` and `}` is `]`, and no other byte is either.
const CASE: u8 = !0x20;
