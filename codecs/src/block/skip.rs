//! Skipping a JSON value, 64 bytes at a time: only where strings end, how brackets nest, and that no string
//! holds a control byte. Safe code over the masks of [`super::json`].
//!
//! A backslash escapes the byte behind it, wherever it stands. Kinds of brackets are not told apart.

use super::json::{self, Brackets, Texts};

/// A value being skipped. It is at its end when it is outside strings at depth 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skip {
    /// Open brackets of this value. Invariant: `depth <= limit`.
    depth: u32,
    limit: u32,
    /// All ones in a string, else 0.
    in_string: u64,
    /// 1 if the next byte is escaped, else 0.
    escaped: u64,
}

/// The strings of one block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strings {
    /// Quotes that open or close one.
    quotes: u64,
    /// The bytes in strings, opening quotes counted, closing ones not.
    inside: u64,
    /// Control bytes in strings.
    controls: u64,
}

/// What a stretch of bytes did to a [`Skip`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is still going on.
    More,
    /// Its last byte is the one at this offset.
    End(usize),
    /// The byte at this offset is a control byte in a string.
    Control(usize),
    /// The bracket at this offset is deeper than the limit.
    TooDeep(usize),
}

impl Skip {
    /// Behind the opening bracket of a container that may hold `limit` levels, its own included.
    ///
    /// `limit` is not 0.
    pub(crate) const fn container(limit: u32) -> Self {
        Self { depth: 1, limit, in_string: 0, escaped: 0 }
    }

    /// Behind the opening quote of a string.
    pub(crate) const fn string() -> Self {
        Self { depth: 0, limit: 0, in_string: u64::MAX, escaped: 0 }
    }

    /// Takes the bytes of `hay` from offset `from` on; offsets in the result are offsets in `hay`. The second
    /// result is true if a byte above 0x7F may be among them.
    #[inline]
    pub(crate) fn feed(&mut self, hay: &[u8], from: usize) -> (Step, bool) {
        json::skip(self, hay, from)
    }

    /// Whether a block that holds no quote, no backslash and no control byte changes nothing.
    #[inline(always)]
    pub(super) const fn is_in_text(&self) -> bool {
        self.in_string & !self.escaped & 1 == 1
    }

    /// Takes what in a block of `len` bytes, 1 to 64, has to do with strings; masks have no bits behind them.
    ///
    /// `None`: the block is in one string from end to end, brackets do not matter, and it has been taken.
    #[inline(always)]
    pub(super) fn texts(&mut self, texts: Texts, len: usize) -> Option<Strings> {
        let quotes = texts.quotes & !self.escaped(texts.backslashes, len);
        if quotes == 0 && self.in_string != 0 && texts.controls == 0 {
            return None;
        }
        // From each opening quote up to, not including, its closing one.
        let inside = prefix_xor(quotes) ^ self.in_string;
        Some(Strings { quotes, inside, controls: texts.controls & inside })
    }

    /// Takes the rest of that block.
    #[inline(always)]
    pub(super) fn brackets(&mut self, strings: Strings, brackets: Brackets) -> Step {
        if self.depth == 0 {
            return Self::end_of_string(strings);
        }
        let opens = brackets.opens & !strings.inside;
        let closes = brackets.closes & !strings.inside;
        let (opened, closed) = (opens.count_ones(), closes.count_ones());
        if strings.controls != 0 || closed >= self.depth || opened > self.limit - self.depth {
            return self.one_by_one(opens, closes, strings);
        }
        self.depth = self.depth + opened - closed;
        self.in_string = sign(strings.inside);
        Step::More
    }

    /// A string is skipped: only its end counts.
    #[inline(always)]
    fn end_of_string(strings: Strings) -> Step {
        match (strings.controls.trailing_zeros(), strings.quotes.trailing_zeros()) {
            (64, 64) => Step::More,
            (control, quote) if control < quote => Step::Control(control as usize),
            (_, quote) => Step::End(quote as usize),
        }
    }

    /// Something happens in this block; in which order?
    #[inline(always)]
    fn one_by_one(&mut self, opens: u64, closes: u64, strings: Strings) -> Step {
        let mut events = opens | closes | strings.controls;
        while events != 0 {
            let at = events.trailing_zeros();
            let bit = events & events.wrapping_neg();
            events ^= bit;
            if strings.controls & bit != 0 {
                return Step::Control(at as usize);
            }
            if opens & bit != 0 {
                if self.depth == self.limit {
                    return Step::TooDeep(at as usize);
                }
                self.depth += 1;
            } else {
                self.depth -= 1;
                if self.depth == 0 {
                    return Step::End(at as usize);
                }
            }
        }
        self.in_string = sign(strings.inside);
        Step::More
    }

    /// Which bytes are escaped: those behind an odd number of backslashes in a row.
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64, len: usize) -> u64 {
        if backslashes == 0 {
            return std::mem::take(&mut self.escaped);
        }
        // Backslashes that are not escaped by the block before; each run of them starts anew.
        let runs = backslashes & !self.escaped;
        let behind = runs << 1;
        // Subtracting carries through a run: where a run starts on an odd bit, the borrow flips the parity
        // of every bit up to its end, so that even and odd starts look alike.
        let parity = ((behind | ODD_BITS).wrapping_sub(runs)) ^ ODD_BITS;
        let escaped = parity ^ (backslashes | self.escaped);
        let escaping = parity & backslashes;
        self.escaped = escaping >> (len - 1) & 1;
        escaped
    }
}

impl Step {
    #[inline(always)]
    pub(super) fn moved(self, by: usize) -> Self {
        match self {
            Self::More => Self::More,
            Self::End(at) => Self::End(at + by),
            Self::Control(at) => Self::Control(at + by),
            Self::TooDeep(at) => Self::TooDeep(at + by),
        }
    }
}

/// Bit `i` of the result: parity of the bits up to and including `i`.
#[inline(always)]
const fn prefix_xor(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ bits << 32
}

/// All ones if the last bit is set, else 0.
#[inline(always)]
const fn sign(bits: u64) -> u64 {
    (bits.cast_signed() >> 63).cast_unsigned()
}

const ODD_BITS: u64 = 0xAAAA_AAAA_AAAA_AAAA;

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The skipper a child could write: the oracle.
    fn naive(hay: &[u8], mut skip: Skip) -> Step {
        let (mut in_string, mut escaped) = (skip.in_string != 0, false);
        for (at, &byte) in hay.iter().enumerate() {
            let is_escaped = std::mem::replace(&mut escaped, false);
            if byte == b'\\' && !is_escaped {
                escaped = true;
            } else if byte == b'"' && !is_escaped {
                in_string = !in_string;
                if skip.depth == 0 {
                    return Step::End(at);
                }
            } else if in_string && byte < 0x20 {
                return Step::Control(at);
            } else if !in_string && matches!(byte, b'{' | b'[') {
                if skip.depth == skip.limit {
                    return Step::TooDeep(at);
                }
                skip.depth += 1;
            } else if !in_string && matches!(byte, b'}' | b']') {
                skip.depth -= 1;
                if skip.depth == 0 {
                    return Step::End(at);
                }
            }
        }
        Step::More
    }

    fn bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            40 => Just(b'a'), 6 => Just(b'"'), 9 => Just(b'\\'), 4 => Just(b'{'), 4 => Just(b'['),
            4 => Just(b'}'), 3 => Just(b']'), 1 => Just(b'\n'), 2 => Just(0xC3),
        ];
        vec(byte, 0..len)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn skipping_by_blocks_is_skipping_by_bytes(hay in bytes(400), cuts in vec(0_usize..400, 0..5), limit in 1_u32..9, is_string in any::<bool>()) {
            let new = if is_string { Skip::string() } else { Skip::container(limit) };
            let expected = naive(&hay, new);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(hay.len())).chain([0, hay.len()]).collect();
            cuts.sort_unstable();
            let (mut skip, mut twin) = (new, new);
            let mut step = Step::More;
            for cut in cuts.windows(2) {
                let (stepped, high) = skip.feed(&hay[..cut[1]], cut[0]);
                let portable = json::skip_portable(&mut twin, &hay[..cut[1]], cut[0]);
                prop_assert_eq!((stepped, skip), (portable.0, twin));
                step = stepped;
                let looked_at = match stepped {
                    Step::More => &hay[cut[0]..cut[1]],
                    Step::End(at) | Step::Control(at) | Step::TooDeep(at) => &hay[cut[0]..at],
                };
                prop_assert!(high || looked_at.is_ascii());
                if step != Step::More {
                    break;
                }
            }
            prop_assert_eq!(step, expected);
        }
    }
}
