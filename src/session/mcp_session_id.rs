//! `Mcp-Session-Id`: what a client of the legacy HTTP transport names its session by.
//!
//! Visible ASCII and unguessable (Rules G9 and G13, MCP 2025-11-25, Transports): 128 bits from the operating
//! system, as 32 hexadecimal digits. It names a session and authenticates nobody.

use std::fmt;

/// The id of one session, as it stands in the header.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct McpSessionId {
    /// Invariant: each is one of `0123456789abcdef`.
    digits: [u8; DIGITS],
}

impl McpSessionId {
    /// A new id.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random bytes. No session may be started then.
    pub fn mint() -> Result<Self, getrandom::Error> {
        let mut secret = [0; DIGITS / 2];
        getrandom::fill(&mut secret)?;
        Ok(Self::from_secret(secret))
    }

    /// The id a client sent. `None` if it has not the form of ours, so that it names no session of ours.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let digits: [u8; DIGITS] = header.try_into().ok()?;
        digits.iter().all(|digit| ALPHABET.contains(digit)).then_some(Self { digits })
    }

    /// The header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits).unwrap_or_default()
    }

    fn from_secret(secret: [u8; DIGITS / 2]) -> Self {
        let mut digits = [0; DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(secret) {
            let nibbles = [byte >> 4, byte & 15];
            for (digit, nibble) in pair.iter_mut().zip(nibbles) {
                *digit = ALPHABET.get(usize::from(nibble)).copied().unwrap_or_default();
            }
        }
        Self { digits }
    }
}

/// Enough to tell sessions apart in a log, too little to take one over.
impl fmt::Debug for McpSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.as_str().get(..SHOWN).unwrap_or_default())
    }
}

/// 128 bits, four each.
const DIGITS: usize = 32;
/// Digits that a log may show.
const SHOWN: usize = 6;
const ALPHABET: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule G9: visible ASCII, and what we give out is what we take back.
    #[test]
    fn ids_come_back_as_they_went_and_are_not_logged() {
        let id = McpSessionId::mint().unwrap();
        assert_eq!(McpSessionId::parse(id.as_str().as_bytes()), Some(id));
        assert!(id.as_str().bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
        assert_ne!(McpSessionId::mint().unwrap(), id);
        assert!(!format!("{id:?}").contains(id.as_str()));
        assert_eq!(McpSessionId::from_secret([0xa5; 16]).as_str(), "a5".repeat(16));
    }

    #[test]
    fn other_texts_are_no_ids() {
        let id = "a5".repeat(16);
        let (short, long, upper) = (id.get(1..).unwrap(), format!("{id}0"), id.to_uppercase());
        for text in ["", short, &long, &upper, "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(McpSessionId::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(McpSessionId::parse(&[0xff; 32]), None);
    }
}
