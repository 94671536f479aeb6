//! Blocks: when they stay, where they go back to, and that a long line never waits for what it has itself.

use std::task::Waker;

use super::*;
use crate::budget::Budget;

fn pooled() -> (Budget, Allowance) {
    let budget = Budget::new(64 << 20, 1 << 20).unwrap().with_pools();
    let allowance = budget.try_admit(0, 16 << 10).unwrap();
    (budget, allowance)
}

fn read(block: &mut Block, bytes: &[u8]) -> Bytes {
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(matches!(block.poll_room(cx, MIN_BLOCK_LEN - PADDING, 0), Poll::Ready(Ok(()))));
    block.buf().extend_from_slice(bytes);
    block.buf().split().freeze()
}

#[test]
fn a_block_goes_back_to_the_pool_with_the_last_frame_of_it() {
    let (budget, allowance) = pooled();
    let stdio = budget.pools().unwrap().stdio();
    let (reserved, mut block) = (budget.held(), Block::new(&allowance, Toward::Client));
    let mut frame = |bytes: &[u8]| {
        let frame = read(&mut block, bytes);
        block.charged(&frame)
    };
    let frames = [frame(b"{}"), frame(&[b'x'; 7 << 10])];
    assert_eq!(stdio.counts().misses, 1);
    let more = frame(b"[]");
    assert_eq!(stdio.counts().misses, 2, "there is no room left in the first one");
    assert_eq!((&frames[0][..], frames[1].len(), &more[..]), (&b"{}"[..], 7 << 10, &b"[]"[..]));
    drop(block);
    assert_eq!(stdio.kept().0, 0, "frames of both are on their way");
    let [one, two] = frames;
    drop((two, more));
    assert_eq!(stdio.kept().0, 1, "the first frame holds its block");
    drop(one);
    assert_eq!((stdio.counts().returned, stdio.counts().dropped), (2, 0));
    assert_eq!(budget.held(), reserved);
}

#[test]
fn a_quiet_side_gives_its_block_to_the_next_one() {
    let (budget, allowance) = pooled();
    let stdio = budget.pools().unwrap().stdio();
    let [mut one, mut two] = [Toward::Client, Toward::Server].map(|toward| Block::new(&allowance, toward));
    drop(read(&mut one, b"{}\n"));
    one.clear();
    assert_eq!(stdio.kept(), (1, MIN_BLOCK_LEN));
    drop(read(&mut two, b"[]\n"));
    assert_eq!((stdio.kept().0, stdio.counts().hits), (0, 1));
}

/// Where nothing common is left, a long line grows by turns, and there may be no more than one of them.
#[tokio::test]
async fn a_line_that_grows_by_turns_never_waits_for_what_it_has_itself() {
    let budget = Budget::new(20 << 20, 4 << 20).unwrap();
    let allowance = budget.try_admit(0, 16 << 10).unwrap();
    let _common: Vec<_> = std::iter::from_fn(|| budget.try_take(1 << 10)).collect();
    let cx = &mut Context::from_waker(Waker::noop());
    let mut block = Block::new(&allowance, Toward::Client);
    let mut on_their_way = Vec::new();
    // One long line alone, and behind short ones that are on their way: the second of these has the turn.
    for shorts in 0..3 {
        for _ in 0..shorts {
            assert!(matches!(block.poll_room(cx, MIN_BLOCK_LEN - PADDING, 0), Poll::Ready(Ok(()))));
            block.buf().extend_from_slice(&[b'x'; 5 << 10]);
            let frame = block.buf().split_to(4 << 10).freeze();
            on_their_way.push(block.charged(&frame));
        }
        while block.len() < 3 << 20 {
            let polled = block.poll_room(cx, MIN_BLOCK_LEN - PADDING, 0);
            assert!(matches!(polled, Poll::Ready(Ok(()))), "{} bytes, then {polled:?}", block.len());
            let spare = block.spare();
            block.buf().extend_from_slice(&vec![b'x'; spare]);
        }
        on_their_way.clear();
        block.clear();
    }
}

#[test]
fn a_line_that_grew_long_is_not_kept() {
    let (budget, allowance) = pooled();
    let stdio = budget.pools().unwrap().stdio();
    let mut block = Block::new(&allowance, Toward::Client);
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..4 {
        assert!(matches!(block.poll_room(cx, MIN_BLOCK_LEN - PADDING, 0), Poll::Ready(Ok(()))));
        let spare = block.spare();
        block.buf().extend_from_slice(&vec![b'x'; spare]);
    }
    block.clear();
    let counts = stdio.counts();
    assert_eq!((counts.hits + counts.misses, counts.returned + counts.dropped), (1, 1));
    assert_eq!((counts.dropped, stdio.kept()), (1, (0, 0)));
}

/// A line of `len` bytes through `block`, in reads of what a pipe holds, and nobody has it any more.
fn pass(block: &mut Block, len: usize) {
    let cx = &mut Context::from_waker(Waker::noop());
    while block.len() < len {
        assert!(matches!(block.poll_room(cx, LONG_LEN, 0), Poll::Ready(Ok(()))));
        let read = block.spare().min(64 << 10).min(len - block.len());
        block.buf().extend_from_slice(&vec![b'x'; read]);
    }
    drop(block.buf().split().freeze());
}

#[tokio::test]
async fn a_block_stays_for_long_lines_that_follow_each_other_and_holds_no_turn_between_them() {
    let (budget, allowance) = pooled();
    let mut block = Block::new(&allowance, Toward::Client);
    pass(&mut block, SMALL_LEN + 1);
    let (first, allocated) = (block.buf().as_ptr().addr() + block.spare(), block.allocated);
    assert!(block.is_large() && allocated > SMALL_LEN);
    for _ in 0..4 {
        pass(&mut block, SMALL_LEN + 1);
        assert!(!block.is_large(), "others may have their turns");
        assert_eq!((block.buf().as_ptr().addr() + block.spare(), block.allocated), (first, allocated));
    }
    for _ in 0..4 * KEPT_READS {
        pass(&mut block, MIN_BLOCK_LEN);
    }
    assert!(block.allocated < SMALL_LEN, "no line was long for long");
    block.clear();
    drop(block);
    drop(allowance);
    assert_eq!(
        budget.held(),
        budget.pools().map_or(0, |pools| { pools.stdio().max_len() + pools.http().max_len() + pools.own().max_len() })
    );
}

#[tokio::test]
async fn a_block_does_not_stay_where_room_is_short() {
    let (budget, allowance) = pooled();
    let mut block = Block::new(&allowance, Toward::Client);
    let others: Vec<_> = std::iter::from_fn(|| budget.try_spare(64 << 10)).collect();
    pass(&mut block, SMALL_LEN + 1);
    pass(&mut block, MIN_BLOCK_LEN);
    assert!(!others.is_empty() && block.allocated < SMALL_LEN);
}
