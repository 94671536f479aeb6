//! `examples/llm_stream.rs` does what it says, however the stream is cut and wherever it breaks off.

#![cfg(test)]

#[expect(dead_code, reason = "its `main` is for `cargo run`")]
#[path = "../examples/llm_stream.rs"]
mod example;

use std::io::{self, Read};

use example::{Answer, End, follow, made_up};

/// A body that arrives in reads of this many bytes.
struct Cut<'a>(&'a [u8], usize);

impl Read for Cut<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.1.min(buf.len());
        self.0.read(&mut buf[..len])
    }
}

#[test]
fn answer_that_broke_off_is_resumed_and_each_token_is_there_once() {
    for len in [1, 2, 7, 4096] {
        let (mut answer, mut out, mut asked) = (Answer::default(), Vec::new(), Vec::new());
        let connect = |last_id: Option<&str>| {
            asked.push(last_id.map(str::to_owned));
            Cut(made_up(last_id), len)
        };
        follow(&mut answer, connect, &mut out).unwrap();
        assert_eq!((answer.text.as_str(), out.as_slice()), ("Exact bytes.\n", &b"Exact bytes.\n"[..]));
        assert_eq!(asked, [None, Some("1".to_owned())], "reads of {len}");
    }
}

#[test]
fn answer_without_its_end_is_not_taken_for_a_whole_one() {
    let mut answer = Answer::default();
    let end = answer.read(made_up(None), &mut Vec::new()).unwrap();
    assert_eq!((end, answer.text.as_str()), (End::BrokeOff, "Exact "));
}
