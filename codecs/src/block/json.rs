//! The masks that skip JSON: per 64-byte block, the bytes that can change where a value ends.
//!
//! Part of the unsafe island, with the same rules as above. What the masks mean is [`Skip`]'s business; it
//! is inlined into the loops here, so that its counting of bits is compiled for the CPU that was found:
//! without the `popcnt` instruction it would take longer than the masks.

use super::{
    BLOCK_LEN,
    skip::{Skip, Step},
};

/// What in a block has to do with strings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Texts {
    /// `"`
    pub(super) quotes: u64,
    /// `\`
    pub(super) backslashes: u64,
    /// Bytes below 0x20.
    pub(super) controls: u64,
}

/// What in a block has to do with nesting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brackets {
    /// `{` and `[`
    pub(super) opens: u64,
    /// `}` and `]`
    pub(super) closes: u64,
}

/// Feeds the blocks of `hay` from offset `from` on to `skip` until it is at its end. The second result is true if a byte above
/// 0x7F may be among the bytes looked at.
#[inline]
pub(super) fn skip(skip: &mut Skip, hay: &[u8], from: usize) -> (Step, bool) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("popcnt")
    {
        return x86_64::skip_with_avx2(skip, hay, from);
    }
    skip_portable(skip, hay, from)
}

/// The safe twin: fallback on other machines, and the oracle of the tests.
pub(super) fn skip_portable(skip: &mut Skip, hay: &[u8], from: usize) -> (Step, bool) {
    let (mut at, mut high) = (from, false);
    for bytes in hay.get(from..).unwrap_or_default().chunks(BLOCK_LEN) {
        high |= !bytes.is_ascii();
        let texts = Texts {
            quotes: mask(bytes, is_quote),
            backslashes: mask(bytes, is_backslash),
            controls: mask(bytes, is_control),
        };
        if let Some(strings) = skip.texts(texts, bytes.len()) {
            let brackets = Brackets { opens: mask(bytes, is_open), closes: mask(bytes, is_close) };
            let step = skip.brackets(strings, brackets);
            if step != Step::More {
                return (step.moved(at), high);
            }
        }
        at += bytes.len();
    }
    (Step::More, high)
}

fn mask(bytes: &[u8], is_wanted: fn(u8) -> bool) -> u64 {
    bytes.iter().rev().fold(0, |mask, &byte| mask << 1 | u64::from(is_wanted(byte)))
}

const fn is_quote(byte: u8) -> bool {
    byte == b'"'
}

const fn is_backslash(byte: u8) -> bool {
    byte == b'\\'
}

const fn is_control(byte: u8) -> bool {
    byte < 0x20
}

const fn is_open(byte: u8) -> bool {
    byte & CASE == b'['
}

const fn is_close(byte: u8) -> bool {
    byte & CASE == b']'
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    #![expect(unsafe_code, reason = "the island: see the first lines of the module above")]

    use std::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_cmpeq_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
        _mm256_set1_epi8, _mm256_setzero_si256,
    };

    use super::{
        super::x86_64::{equal, load_256},
        BLOCK_LEN, Brackets, CASE, Skip, Step, Texts,
    };

    /// As [`super::skip`], on a machine that has AVX2, BMI1 and POPCNT.
    #[inline]
    pub(super) fn skip_with_avx2(skip: &mut Skip, hay: &[u8], from: usize) -> (Step, bool) {
        // SAFETY: the only caller has just seen that this CPU has AVX2, BMI1 and POPCNT.
        unsafe { skip_avx2(skip, hay, from) }
    }

    #[target_feature(enable = "avx2,bmi1,popcnt")]
    fn skip_avx2(skip: &mut Skip, hay: &[u8], from: usize) -> (Step, bool) {
        let (blocks, tail) = hay.get(from..).unwrap_or_default().as_chunks::<BLOCK_LEN>();
        let mut all = _mm256_setzero_si256();
        let mut at = from;
        for block in blocks {
            let (low, high) = load(block);
            all = _mm256_or_si256(all, _mm256_or_si256(low, high));
            // Long texts: nothing but a quote, a backslash or a control byte can matter.
            if !(skip.is_in_text() && specials(low, high) == 0)
                && let Some(strings) = skip.texts(texts(low, high, 0), BLOCK_LEN)
            {
                let step = skip.brackets(strings, brackets(low, high, 0));
                if step != Step::More {
                    return (step.moved(at), _mm256_movemask_epi8(all) != 0);
                }
            }
            at += BLOCK_LEN;
        }
        let mut step = Step::More;
        if !tail.is_empty() {
            let mut copy = [b' '; BLOCK_LEN];
            let block = last_block(hay, tail, &mut copy);
            let (low, high) = load(block);
            all = _mm256_or_si256(all, _mm256_or_si256(low, high));
            let before = BLOCK_LEN - tail.len();
            if let Some(strings) = skip.texts(texts(low, high, before), tail.len()) {
                step = skip.brackets(strings, brackets(low, high, before)).moved(at);
            }
        }
        (step, _mm256_movemask_epi8(all) != 0)
    }

    /// A block that ends as `hay` does, with `tail`: the last bytes of `hay` if it is long enough, else a
    /// copy of the tail behind blanks.
    #[inline]
    fn last_block<'a>(hay: &'a [u8], tail: &[u8], copy: &'a mut [u8; BLOCK_LEN]) -> &'a [u8; BLOCK_LEN] {
        if let Some(block) = hay.last_chunk::<BLOCK_LEN>() {
            return block;
        }
        if let Some(end) = copy.get_mut(BLOCK_LEN - tail.len()..) {
            end.copy_from_slice(tail);
        }
        copy
    }

    /// Both halves of a block.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(block: &[u8; BLOCK_LEN]) -> (__m256i, __m256i) {
        let (halves, _) = block.as_chunks::<32>();
        let [low, high] = halves else { unreachable!("64 bytes are two times 32") };
        (load_256(low), load_256(high))
    }

    /// The masks of a block without its first `before` bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn texts(low: __m256i, high: __m256i, before: usize) -> Texts {
        Texts {
            quotes: equal_pair(low, high, b'"') >> before,
            backslashes: equal_pair(low, high, b'\\') >> before,
            controls: pair(_mm256_movemask_epi8(controls(low)), _mm256_movemask_epi8(controls(high))) >> before,
        }
    }

    /// As [`texts`].
    #[inline]
    #[target_feature(enable = "avx2")]
    fn brackets(low: __m256i, high: __m256i, before: usize) -> Brackets {
        let case = _mm256_set1_epi8(CASE.cast_signed());
        let (low, high) = (_mm256_and_si256(low, case), _mm256_and_si256(high, case));
        Brackets { opens: equal_pair(low, high, b'[') >> before, closes: equal_pair(low, high, b']') >> before }
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
