//! What a forwarded message costs in allocations, counted, not timed: none per message once warm, and at most
//! one per read, in both directions through the whole of `link::pipe`.
//!
//! One test: the counter counts the whole process.

#![cfg(test)]

use std::{
    io::IoSlice,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use shadowcat::{
    budget::Budget,
    clock,
    link::pipe::Pipe,
    session::Session,
    transport::memory::{self, End},
};
use shadowcat_codecs::{Limits, pool::PoolCounts};

#[path = "../codecs/tests/support/counting.rs"]
mod counting;

use counting::allocations;

/// A pipe, the client and the server at its ends, and room for what arrives there.
struct Course {
    pipe: Pipe,
    client: End,
    server: End,
    arrived: BytesMut,
}

impl Course {
    fn new(budget: &Budget) -> Self {
        let ((client, downstream), (server, upstream)) = (memory::pair(64 << 10), memory::pair(64 << 10));
        let (downstream, upstream) = ((downstream.reader, downstream.writer), (upstream.reader, upstream.writer));
        let room = budget.try_admit(0, 16 << 10).expect("nobody else has any");
        let pipe = Pipe::new(downstream, upstream, Limits::default(), Session::new(4096)).with_room(&room);
        Self { pipe, client, server, arrived: BytesMut::with_capacity(64 << 10) }
    }

    /// `bytes` from one end to the other, in one read. They fit, so nobody has to wait.
    fn cross(&mut self, from_client: bool, bytes: &[u8]) {
        let cx = &mut Context::from_waker(Waker::noop());
        let Self { pipe, client, server, arrived } = self;
        let (source, target) = if from_client { (client, server) } else { (server, client) };
        assert!(
            matches!(source.writer.poll_write(cx, &[IoSlice::new(bytes)]), Poll::Ready(Ok(len)) if len == bytes.len())
        );
        assert!(pipe.poll_event(cx, || clock::now().into_std()).is_pending());
        arrived.clear();
        while arrived.len() < bytes.len() {
            assert!(matches!(target.reader.poll_read(cx, arrived), Poll::Ready(Ok(1..))));
        }
        assert_eq!(arrived, bytes);
    }

    /// Allocations of so many requests, and then their answers, each in one read.
    fn allocations(&mut self, messages: usize) -> usize {
        let requests: String = (0..messages)
            .map(|id| {
                format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"a\":\"\\n\"}}}}\n")
            })
            .collect();
        let answers: String = (0..messages)
            .map(|id| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"text\":\"\\u00e9\"}}}}\n"))
            .collect();
        let before = allocations();
        self.cross(true, requests.as_bytes());
        self.cross(false, answers.as_bytes());
        allocations() - before
    }
}

#[test]
fn forwarded_messages_cost_no_allocation_each_and_reads_at_most_one() {
    for budget in [Budget::default(), Budget::default().with_pools()] {
        at_most_one_for_each_read(&budget);
        if let Some(pools) = budget.pools() {
            let PoolCounts { hits, misses, returned, dropped } = pools.stdio().counts();
            assert!(misses > 0, "the pool was not used");
            assert_eq!(hits + misses, returned + dropped, "the pipe is gone, its buffers are not home");
        }
    }
}

fn at_most_one_for_each_read(budget: &Budget) {
    let mut course = Course::new(budget);
    for messages in [90, 1, 90, 40] {
        course.allocations(messages);
    }
    for messages in [1, 2, 10, 40, 90] {
        let all: usize = (0..50).map(|_| course.allocations(messages)).sum();
        // Fifty rounds of two reads.
        assert!(all <= 100, "{all} allocations for 50 × {messages} messages and their answers");
    }
}
