//! The whole-buffer line decoder a child could write: the oracle of the tests and of the fuzz target.

use super::BYTE_ORDER_MARK;

/// What a decoder said, in order: a line or a refusal, each with its offset in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Line(u64, Vec<u8>),
    TooLarge(u64),
}

/// What any decoder has to say about `bytes`, however they are cut, if lines may be `max` bytes long.
pub(crate) fn naive(bytes: &[u8], max: usize) -> Vec<Said> {
    let mut at = if bytes.starts_with(&BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let mut said = Vec::new();
    for line in bytes.get(at..).unwrap_or_default().split(|&byte| byte == b'\n') {
        let frame = line.strip_suffix(b"\r").unwrap_or(line);
        if frame.len() > max {
            said.push(Said::TooLarge(at as u64));
        } else if !frame.is_empty() {
            said.push(Said::Line(at as u64, frame.to_owned()));
        }
        at += line.len() + 1;
    }
    said
}
