//! The masks that skip JSON: per 64-byte block, the bytes that can change where a value ends.
//!
//! Part of the unsafe island; the same rules as above hold: masks in, `u64` out, no logic, no closures.

use super::GROUP_LEN;
pub(crate) use super::{BLOCK_LEN, GROUP_BLOCKS};

/// The masks of one block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// `"`
    pub(crate) quotes: u64,
    /// `\`
    pub(crate) backslashes: u64,
    /// `{` and `[`
    pub(crate) opens: u64,
    /// `}` and `]`
    pub(crate) closes: u64,
    /// Bytes below 0x20.
    pub(crate) controls: u64,
}

/// The masks of up to [`GROUP_BLOCKS`] blocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) blocks: [Blocks; GROUP_BLOCKS],
    /// Whether a byte above 0x7F is among those looked at.
    pub(crate) high: bool,
}

/// Fills `group` with the masks of `hay` and returns how many blocks there are.
///
/// Looks at the first [`GROUP_LEN`] bytes only. Bits behind the end of `hay` are 0; blocks behind the
/// returned count are left as they were.
#[inline]
pub(crate) fn blocks(hay: &[u8], group: &mut Group) -> usize {
    let hay = hay.get(..GROUP_LEN).unwrap_or(hay);
    blocks_portable(hay, group)
}

/// The safe twin: fallback on other machines, and the oracle of the tests.
pub(crate) fn blocks_portable(hay: &[u8], group: &mut Group) -> usize {
    let mut count = 0;
    group.high = !hay.is_ascii();
    for (bytes, masks) in hay.chunks(BLOCK_LEN).zip(&mut group.blocks) {
        *masks = Blocks::default();
        for (index, &byte) in bytes.iter().enumerate() {
            masks.quotes |= u64::from(byte == b'"') << index;
            masks.backslashes |= u64::from(byte == b'\\') << index;
            masks.opens |= u64::from(byte & CASE == b'[') << index;
            masks.closes |= u64::from(byte & CASE == b']') << index;
            masks.controls |= u64::from(byte < 0x20) << index;
        }
        count += 1;
    }
    count
}

/// Without this bit, `{` is `[` and `}` is `]`, and no other byte is either.
const CASE: u8 = !0x20;
