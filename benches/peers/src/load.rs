//! The load: calls one at a time, many in flight, and streams of notifications. Checks each answer.
//!
//! What fails on the way is an outcome like another: counted, with its reason, never a panic.

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use crate::{
    client::{self, Client, PATIENCE},
    lane::{Got, Lane},
    message::{self, FIRST_ID, Template, Verdict},
};

/// What became of some calls.
#[derive(Debug, Default)]
pub struct Outcome {
    pub sent: u64,
    pub exact: u64,
    pub altered: u64,
    pub wrong: u64,
    pub errors: u64,
    pub lost: u64,
    /// From the first call to the last answer.
    pub elapsed: Duration,
    /// How long each call took, where calls go one at a time.
    pub times: Vec<Duration>,
    /// Why it ended early.
    pub failure: Option<String>,
}

impl Outcome {
    fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Exact => &mut self.exact,
            Verdict::Altered => &mut self.altered,
            Verdict::Error => &mut self.errors,
            Verdict::Wrong => &mut self.wrong,
        } += 1;
    }
}

/// Calls of `len` bytes, `width` in flight, for `time`; then waits for what is still on its way.
pub fn calls(client: &mut Client, len: usize, width: usize, time: Duration) -> Outcome {
    let mut load = Load {
        template: Template::new(len),
        next_id: FIRST_ID,
        open: HashMap::new(),
        is_timed: width == 1,
        outcome: Outcome::default(),
    };
    let start = Instant::now();
    if let Err(error) = load.run(client, width, start, time) {
        load.outcome.failure = Some(error.to_string());
    }
    load.outcome.lost = load.open.len() as u64;
    load.outcome
}

struct Load {
    template: Template,
    next_id: u64,
    /// Calls on their way: the lane, and since when.
    open: HashMap<u64, (usize, Instant)>,
    is_timed: bool,
    outcome: Outcome,
}

impl Load {
    fn run(&mut self, client: &mut Client, width: usize, start: Instant, time: Duration) -> io::Result<()> {
        let mut lanes = client.lanes(width)?;
        let per_lane = width / lanes.len();
        for index in 0..lanes.len() {
            self.send(&mut lanes[index], index, per_lane)?;
        }
        let (stop, mut ready) = (start + time, Vec::new());
        while !self.open.is_empty() {
            client::wait(&mut lanes, &mut ready, Instant::now() + PATIENCE)?;
            for index in ready.drain(..) {
                let done = self.receive(&mut lanes[index], index)?;
                let now = Instant::now();
                if done > 0 {
                    self.outcome.elapsed = now - start;
                }
                if now < stop {
                    self.send(&mut lanes[index], index, done)?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, lane: &mut Lane, index: usize, count: usize) -> io::Result<()> {
        for _ in 0..count {
            lane.queue(self.template.call(self.next_id));
            self.open.insert(self.next_id, (index, Instant::now()));
            self.next_id += 1;
            self.outcome.sent += 1;
        }
        lane.flush()
    }

    /// How many more calls this lane has room for.
    fn receive(&mut self, lane: &mut Lane, index: usize) -> io::Result<usize> {
        let (is_http, mut done) = (lane.is_http(), 0);
        lane.receive(&mut |got| match got {
            Got::Message(message) => {
                let Some(id) = message::id_of(message) else { return };
                let Some((_, since)) = self.open.remove(&id) else {
                    self.outcome.wrong += 1;
                    return;
                };
                let verdict = self.template.check(message, id);
                self.outcome.count(verdict);
                if self.is_timed {
                    self.outcome.times.push(since.elapsed());
                }
                done += usize::from(!is_http);
            }
            Got::End { status, .. } => {
                // The exchange is over and its answer did not come.
                let of_lane = self.open.iter().find(|(_, (lane, _))| *lane == index).map(|(id, _)| *id);
                if let Some(id) = of_lane {
                    self.open.remove(&id);
                    self.outcome.errors += 1;
                    self.outcome.failure.get_or_insert_with(|| format!("HTTP status {status} without an answer"));
                }
                done += 1;
            }
        })?;
        Ok(done)
    }
}

/// What became of calls that are answered by many notifications first.
#[derive(Debug, Default)]
pub struct Stream {
    pub expected: u64,
    pub delivered: u64,
    pub altered: u64,
    pub disordered: u64,
    /// After the answer.
    pub late: u64,
    pub elapsed: Duration,
    pub failure: Option<String>,
}

/// Calls with `count` notifications each, one after another, for `time`.
pub fn notifications(client: &mut Client, count: usize, time: Duration) -> Stream {
    let mut stream = Stream::default();
    let (start, mut id) = (Instant::now(), FIRST_ID);
    while start.elapsed() < time {
        if let Err(error) = one_stream(client, id, count, &mut stream) {
            stream.failure = Some(error.to_string());
            break;
        }
        stream.elapsed = start.elapsed();
        id += 1;
    }
    stream
}

fn one_stream(client: &mut Client, id: u64, count: usize, stream: &mut Stream) -> io::Result<()> {
    let mut lanes = client.lanes(1)?;
    let lane = &mut lanes[0];
    let is_http = lane.is_http();
    lane.queue(message::notify_call(id, count).as_bytes());
    lane.flush()?;
    stream.expected += count as u64;
    let (mut last, mut is_answered, mut is_over, mut ready, mut expected) = (0, false, false, Vec::new(), Vec::new());
    let until = Instant::now() + PATIENCE;
    while !is_over {
        client::wait(std::slice::from_mut(lane), &mut ready, until)?;
        let received = lane.receive(&mut |got| match got {
            Got::End { .. } => is_over = true,
            Got::Message(message) if message::id_of(message) == Some(id) => {
                is_answered = true;
                is_over = !is_http;
            }
            Got::Message(message) => {
                let Some(index) = progress_of(message, id) else { return };
                expected.clear();
                crate::answer::notification(id.to_string().as_bytes(), index, &mut expected);
                stream.delivered += 1;
                stream.altered += u64::from(message != expected);
                stream.disordered += u64::from(index != last + 1);
                stream.late += u64::from(is_answered);
                last = index;
            }
        });
        if !is_over {
            received?;
        }
    }
    if is_answered { Ok(()) } else { Err(io::Error::other("the stream ended without the answer")) }
}

/// Which notification for `token` this is.
fn progress_of(message: &[u8], token: u64) -> Option<usize> {
    let params = crate::json::member(message, "params")?;
    let number = |key: &str| std::str::from_utf8(crate::json::member(params, key)?).ok()?.parse::<f64>().ok();
    (number("progressToken")? as u64 == token).then_some(number("progress")? as usize)
}
