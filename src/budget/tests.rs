//! The budget: order, refusals, and that nothing is lost. Time is paused where somebody waits.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::*;

const MIB: usize = 1 << 20;

fn budget() -> Budget {
    // One large message at a time.
    Budget::new(16 * MIB, 4 * MIB).unwrap()
}

fn is_ready(waiting: &mut Waiting) -> Option<Result<Charge, Exhausted>> {
    match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

#[test]
fn charge_is_given_back_when_dropped_and_in_part_when_it_shrinks() {
    let budget = budget();
    let (first, mut second) = (budget.try_take(10).unwrap(), budget.try_take(5000).unwrap());
    assert_eq!(budget.held(), 5010);
    second.shrink(100);
    assert_eq!((budget.held(), second.len()), (110, 100));
    drop(first);
    assert_eq!(budget.held(), 100);
    let bytes = second.wrap(Bytes::from_static(b"abc"));
    let slice = bytes.slice(1..);
    drop(bytes);
    assert_eq!((budget.held(), &slice[..]), (100, &b"bc"[..]));
    drop(slice);
    assert_eq!(budget.held(), 0);
    let free: Vec<_> = std::iter::from_fn(|| budget.try_take(UNIT)).collect();
    let full = budget.held();
    assert!(full < budget.total() / 2, "{full}");
    drop(free);
    assert_eq!(budget.held(), 0);
    let again: Vec<_> = std::iter::from_fn(|| budget.try_take(UNIT)).collect();
    assert_eq!(again.len() * UNIT, full, "nothing is lost");
}

#[test]
fn a_budget_below_one_message_is_refused_with_the_numbers() {
    let least = 64 * MIB + LARGE_SLACK + MIN_REST;
    let error = Budget::new(least - 1, 64 * MIB).unwrap_err();
    assert_eq!(error, TooSmall { asked: least - 1, max_frame_len: 64 * MIB, least });
    let budget = Budget::new(least, 64 * MIB).unwrap();
    // Nothing of it is without a use.
    let Areas { admitted, common, turns, large, .. } = &*budget.areas;
    let lens = turns.iter().chain(large).map(|area| area.len).sum::<usize>();
    assert_eq!(admitted.len + common.len + lens, least);
    assert!(Budget::new(usize::MAX, usize::MAX).is_err());
}

#[test]
fn what_is_guaranteed_is_there_when_all_else_is_taken() {
    let budget = budget();
    let allowance = budget.try_admit(8 << 10, 16 << 10).unwrap();
    assert_eq!(budget.held(), 24 << 10);
    let all: Vec<_> = std::iter::from_fn(|| budget.try_take(64 << 10)).collect();
    let (one, two) = (allowance.try_take(10 << 10).unwrap(), allowance.try_take(6 << 10).unwrap());
    assert!(allowance.try_take(64 << 10).is_none());
    drop(one);
    let again = allowance.try_take(10 << 10).unwrap();
    drop((all, two));
    // Its last charge keeps what it was admitted with.
    drop(allowance);
    assert_eq!(budget.held(), 24 << 10);
    drop(again);
    assert_eq!(budget.held(), 0);
}

#[tokio::test]
async fn too_many_are_refused_and_sessions_cannot_take_what_messages_need() {
    let budget = budget();
    let admitted: Vec<_> = std::iter::from_fn(|| budget.try_admit(40 << 10, 0)).collect();
    assert!(admitted.len() > 50, "{}", admitted.len());
    assert!(budget.try_take(64 << 10).is_some());
    assert!(is_ready(&mut budget.turn(SMALL_LEN, Toward::Server)).is_some());
    assert!(is_ready(&mut budget.turn(budget.whole_len(), Toward::Server)).is_some());
}

#[tokio::test(start_paused = true)]
async fn large_messages_take_turns_in_order_and_who_leaves_the_queue_is_nobodys_turn() {
    let budget = Budget::new(24 * MIB, 15 * MIB).unwrap();
    let len = budget.whole_len();
    let first = budget.turn(len, Toward::Server).await.unwrap();
    let [mut second, mut third, mut fourth] =
        [budget.turn(len, Toward::Server), budget.turn(2 * MIB, Toward::Server), budget.turn(len, Toward::Server)];
    assert!(is_ready(&mut second).is_none() && is_ready(&mut third).is_none() && is_ready(&mut fourth).is_none());
    // While others wait, small ones go on.
    assert!(budget.try_take(SMALL_LEN).is_some() && is_ready(&mut budget.turn(SMALL_LEN, Toward::Server)).is_some());
    drop(second);
    assert!(is_ready(&mut third).is_none());
    drop(first);
    let third = is_ready(&mut third).unwrap().unwrap();
    assert!(is_ready(&mut fourth).is_none(), "there is room for the shorter one only");
    drop(third);
    drop(is_ready(&mut fourth).unwrap().unwrap());
    assert_eq!(budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_numbers() {
    let budget = budget().with_wait(Duration::from_secs(7));
    let large = budget.turn(budget.whole_len(), Toward::Server).await.unwrap();
    let started = crate::clock::now();
    let len = 5 * MIB;
    let total = budget.total();
    let error = budget.turn(len, Toward::Server).await.unwrap_err();
    assert_eq!(error, Exhausted { len, total, waited: Duration::from_secs(7) });
    assert_eq!(started.elapsed(), Duration::from_secs(7));
    let error = budget.turn(17 * MIB, Toward::Server).await.unwrap_err();
    assert_eq!(error, Exhausted { len: 17 * MIB, total, waited: Duration::ZERO }, "that can never be");
    drop(large);
    assert!(budget.turn(len, Toward::Server).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_to_be_admitted_is_when_another_leaves() {
    let budget = budget();
    let mut admitted: Vec<_> = std::iter::from_fn(|| budget.try_admit(100 << 10, 0)).collect();
    let mut waiting = budget.admit(100 << 10, 0);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    admitted.pop();
    assert!(budget.try_admit(100 << 10, 0).is_none(), "it is not overtaken");
    assert!(waiting.as_mut().poll(&mut cx).is_ready());
}
