//! Whatever leaves otherwise than it came in is noticed, however writes are cut; and nothing else is.

use proptest::prelude::*;

use super::*;

const PLACE: (Link, To) = (Link::Pipe, To::Server);

fn mismatches(entered: &[&str], written: &[u8], cut: usize) -> u64 {
    let (verify, metrics) = (Verify { key: Some(7) }, Metrics::default());
    let mut check = verify.check(&metrics, PLACE.0, PLACE.1).unwrap();
    for frame in entered {
        let seen = check.seen(frame.as_bytes());
        check.enter(seen);
    }
    written.chunks(cut).for_each(|part| check.leave(part));
    check.settle();
    assert_eq!(metrics.verify_frames.of(PLACE), entered.len() as u64);
    metrics.verify_mismatches.of(PLACE)
}

#[test]
fn whatever_is_changed_lost_doubled_or_left_open_is_noticed() {
    assert_eq!(mismatches(&["{}", "[1]"], b"[1]\n{}\n", 1), 0, "in any order");
    for written in ["[1]\n{ }\n", "[1]\n", "{}\n[1]\n[1]\n", "{}\n[1]", "{}[1]\n", "{}\n[1]\n\n"] {
        assert_ne!(mismatches(&["{}", "[1]"], written.as_bytes(), 3), 0, "{written:?}");
    }
}

#[test]
fn what_was_put_in_is_undone_and_nothing_else() {
    let original = Bytes::from_static(br#"{"id":"abc","t":7}"#);
    let edits = || {
        let (id, token) = (original.slice(6..11), original.slice(16..17));
        [(6, "12", id), (13, "12", token)].map(|(at, with, gone)| Edit { at, with: with.into(), gone })
    };
    for (written, mismatches) in [
        (r#"{"id":12,"t":12}"#, 0),
        (r#"{"id":13,"t":12}"#, 1),
        (r#"{"id":12,"t":11}"#, 1),
        (r#"{"iD":12,"t":12}"#, 1),
        (r#"{"id":12,"t":12]"#, 1),
        (r#"{"id":"abc","t":7}"#, 1),
    ] {
        for cut in 1..=written.len() {
            let (verify, metrics) = (Verify { key: Some(7) }, Metrics::default());
            let mut check = verify.check(&metrics, PLACE.0, PLACE.1).unwrap();
            for _ in 0..2 {
                check.enter(check.seen(&original));
                check.undo(edits());
                check.queue(written.len() + 1);
            }
            let line = format!("{written}\n").repeat(2);
            line.as_bytes().chunks(cut).for_each(|part| check.leave(part));
            check.settle();
            assert_eq!(metrics.verify_mismatches.of(PLACE), mismatches, "{written}, by {cut}");
            check.pass(check.seen(&original), edits().into(), written.as_bytes().chunks(cut));
            assert_eq!(metrics.verify_mismatches.of(PLACE), 2 * mismatches, "{written}, by {cut}");
        }
    }
}

#[test]
fn bodies_are_compared_whole_and_once() {
    let (verify, metrics) = (Verify { key: Some(7) }, Metrics::default());
    for (left, expected) in [("abcd", 0), ("abcx", 1), ("abc", 2)] {
        let mut through = verify.through(&metrics, PLACE.0, PLACE.1).unwrap();
        through.enter(b"ab");
        through.enter(b"cd");
        through.leave(left.as_bytes());
        through.settle();
        through.settle();
        assert_eq!(metrics.verify_mismatches.of(PLACE), expected, "{left}");
    }
}

#[test]
fn line_ends_between_tokens_count_as_spaces() {
    let verify = Verify { key: Some(7) };
    for text in ["{\r\n}", "\r{}\n\n", "{}", "", "\n"] {
        let spaces = text.replace(['\r', '\n'], " ");
        assert_eq!(verify.blanked(text.as_bytes()), Some(Seen::new(7, spaces.as_bytes())), "{text:?}");
    }
    assert_eq!(Verify::default().blanked(b"{}"), None);
}

proptest! {
    #[test]
    fn how_writes_are_cut_is_of_no_account(frames in prop::collection::vec("[a-z]{1,300}", 1..8), cut in 1..700_usize) {
        let written: String = frames.iter().flat_map(|frame| [frame.as_str(), "\n"]).collect();
        let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
        prop_assert_eq!(mismatches(&frames, written.as_bytes(), cut), 0);
    }

    #[test]
    fn one_altered_byte_is_noticed(frame in "[a-z]{1,300}", at: prop::sample::Index, bit in 0..5_u8, cut in 1..300_usize) {
        let mut altered = frame.clone().into_bytes();
        *at.get_mut(&mut altered) ^= 1 << bit;
        altered.push(b'\n');
        prop_assert_ne!(mismatches(&[&frame], &altered, cut), 0);
    }
}
