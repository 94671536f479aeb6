//! Whole sessions at random, on paused time: a client and a child that write in pieces, read late, ask, answer,
//! cancel, talk nonsense, end their streams, die, are told to end and do not; against a model that remembers
//! what was said.
//!
//! Held after every step, or at the end:
//!
//! - In each direction messages come in the order they were sent, byte for byte, and none is lost but those that
//!   may be: noise, and requests that were refused.
//! - Each request gets exactly one answer, or one error; at most one if it was cancelled, or if we were told to stop
//!   before it was read.
//! - What we hold is bounded by what the options say, what is charged to the memory budget never is more than all of it,
//!   and nothing of it is left at the end.
//! - Every session ends in the time its limits allow, its child is dead then, and no task is left.
//!
//! All of it is decided by the seed, but for the order of errors that come at once.

mod peer;

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    time::Duration,
};

use proptest::{collection::vec, prelude::*, sample::Index};
use shadowcat_codecs::{Limits, envelope::EnvelopeParser};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        nursery::memory::{Births, MemoryChild},
        signals::Drain,
    },
    *,
};
use crate::{
    budget::Budget,
    clock,
    supervise::ladder::Push,
    telemetry::metrics::{
        Metrics,
        labels::{TimeoutOf, To},
    },
    transport::memory,
    verify::Verify,
};
use peer::{Peer, Said, What};

#[derive(Debug, Clone)]
enum Step {
    Ask {
        who: Who,
        pad: usize,
    },
    Answer {
        who: Who,
        which: Index,
        is_overlong: bool,
    },
    Cancel {
        who: Who,
        which: Index,
    },
    /// Many at once: nobody reads as fast as that.
    Notes {
        who: Who,
        count: usize,
        pad: usize,
    },
    Noise {
        who: Who,
        what: usize,
    },
    Write {
        who: Who,
        len: usize,
    },
    Read {
        who: Who,
        len: usize,
    },
    /// It ends its stream and reads on.
    End {
        who: Who,
    },
    /// The client is gone altogether.
    Leave,
    Die {
        holds_streams: bool,
    },
    Stop,
    Pause {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Client,
    Server,
}

/// What the session and its child are like.
#[derive(Debug, Clone, Copy)]
struct Setting {
    capacity: usize,
    max_pending: usize,
    drain: Option<Duration>,
    /// Whether the child ends when its input does.
    heeds_end: bool,
    /// Whether it ends when it is told to.
    heeds_term: bool,
    /// How long it may take nothing of what is there for it.
    server_write: Duration,
}

/// A request, as both sides know it.
#[derive(Debug, Default)]
struct Asked {
    /// Whether it was written whole, so that we are bound to it.
    is_sent: bool,
    is_cancelled: bool,
    answers: u32,
}

struct World {
    setting: Setting,
    client: Peer,
    server: Peer,
    child: Vec<MemoryChild>,
    births: Births,
    serve: Pin<Box<dyn Future<Output = io::Result<Outcome>>>>,
    outcome: Option<Outcome>,
    stop: CancellationToken,
    metrics: Metrics,
    budget: Budget,
    /// What was sent whole and not seen by the other side, by sender.
    on_its_way: BTreeMap<Who, VecDeque<Said>>,
    asked: BTreeMap<(Who, String), Asked>,
    /// What each side was asked and has not answered.
    unanswered: BTreeMap<Who, Vec<String>>,
    serial: usize,
    /// Whether somebody has left, so that what was meant for the server need not arrive.
    may_cut: bool,
    is_stopped: bool,
    /// Whether the server was given up because it took nothing.
    is_overdue: bool,
}

impl World {
    fn new(setting: Setting) -> Self {
        let (client, ours) = memory::pair(setting.capacity);
        let (nursery, mut births) = Births::new(setting.capacity);
        let (born, mut child) = births.bear();
        let server = Peer::new(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let stop = CancellationToken::new();
        let stops = Drain { token: stop.clone(), timeout: STOP_TIMEOUT }.stops();
        let budget = Budget::new(BUDGET_LEN, MAX_FRAME_LEN).unwrap();
        let resources = Resources { verify: Verify::on().unwrap(), budget: budget.clone(), ..Resources::default() };
        let metrics = resources.metrics.clone();
        let options = Options {
            limits: Limits::default().with_max_frame_len(MAX_FRAME_LEN).unwrap(),
            max_pending: setting.max_pending,
            shutdown: Times::default(),
            drain: setting.drain,
            start_timeout: Duration::from_secs(30),
            resources,
            waits: Waits { server_write: Some(setting.server_write), ..Waits::default() },
        };
        let carer = Carer::Nursery(nursery, born.exit);
        let serve = async move {
            let allowance = crate::link::session_room(&options.resources)?;
            serve(((ours.reader, ours.writer), &allowance), carer, born.child, async |_: &[u8]| {}, options, stops)
                .await
        };
        Self {
            setting,
            client: Peer::new(client.reader, client.writer),
            server,
            child: vec![child],
            births,
            serve: Box::pin(serve),
            outcome: None,
            stop,
            metrics,
            budget,
            on_its_way: BTreeMap::from([(Who::Client, VecDeque::new()), (Who::Server, VecDeque::new())]),
            asked: BTreeMap::new(),
            unanswered: BTreeMap::from([(Who::Client, Vec::new()), (Who::Server, Vec::new())]),
            serial: 0,
            may_cut: false,
            is_stopped: false,
            is_overdue: false,
        }
    }

    fn peer(&mut self, who: Who) -> &mut Peer {
        match who {
            Who::Client => &mut self.client,
            Who::Server => &mut self.server,
        }
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Ask { who, pad } => self.ask(who, pad),
            Step::Answer { who, which, is_overlong } => {
                let unanswered = self.unanswered.get_mut(&who).unwrap();
                if !unanswered.is_empty() {
                    let id = unanswered.swap_remove(which.index(unanswered.len()));
                    self.answer(who, id, is_overlong);
                }
            }
            Step::Cancel { who, which } => self.cancel(who, which),
            Step::Notes { who, count, pad } => {
                // So many that they fill everything, and not so many that it takes all day.
                let most = 100 * self.setting.capacity / (2 * pad + 80) + 1;
                (0..count.min(most)).for_each(|_| self.note(who, pad));
            }
            Step::Noise { who, what } => {
                let noise = ["Server 1.0 is ready", "", "{\"jsonrpc\":", "{\"id\":1} {\"id\":2}", "   "][what % 5];
                self.peer(who).say(What::Noise, noise.to_owned(), "\n");
            }
            Step::Write { who, len } => self.write(who, len),
            Step::Read { who, len } => self.read(who, len),
            Step::End { who } => self.end(who),
            Step::Leave => {
                self.end(Who::Client);
                self.client.read_no_more();
            }
            Step::Die { holds_streams } => self.die(ExitStatus::Code(1), holds_streams),
            Step::Stop => self.stop(),
            Step::Pause { ms } => self.run_for(Duration::from_millis(ms)).await,
        }
        self.run_for(Duration::from_millis(1)).await;
        self.check_held();
    }

    /// Lets the session do all it can, then time pass. A child that is told to end, does.
    async fn run_for(&mut self, time: Duration) {
        let due = clock::now() + time;
        while clock::now() < due {
            let next = due.min(clock::now() + Duration::from_millis(100));
            tokio::select! {
                biased;
                outcome = &mut self.serve, if self.outcome.is_none() => self.outcome = Some(outcome.unwrap()),
                () = sleep_until(next) => {}
            }
            // Of a server that takes nothing no more is expected: it is ended, neither spoken to nor heard.
            self.is_overdue = self.metrics.timeouts.of((TimeoutOf::Write,)) > 0;
            self.may_cut |= self.is_overdue;
            self.births.attend(&mut self.child);
            let child = &self.child[0];
            let is_killed = child.pushes.contains(&Push::Kill);
            let is_told = child.pushes.contains(&Push::Terminate) && self.setting.heeds_term;
            if child.is_alive() && (is_killed || is_told) {
                self.die(ExitStatus::Signal(if is_killed { 9 } else { 15 }), false);
            }
        }
    }

    fn ask(&mut self, who: Who, pad: usize) {
        self.serial += 1;
        let n = self.serial;
        let id = match n % 6 {
            0 => format!("{n}.0"),
            1 => format!("\"{n}\""),
            2 => format!("\"\\u0061/{n}\""),
            3 => format!("\"{n}{}\"", "x".repeat(200)),
            _ => n.to_string(),
        };
        let pad = "p".repeat(pad);
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"n":{n},"p":"{pad}\n"}}}}"#);
        self.asked.insert((who, id.clone()), Asked::default());
        self.peer(who).say(What::Ask(id), line, "\r\n");
    }

    fn answer(&mut self, who: Who, id: String, is_overlong: bool) {
        self.serial += 1;
        let n = self.serial;
        let pad = "p".repeat(if is_overlong { MAX_FRAME_LEN } else { n % 50 });
        let line = format!(r#"{{"id":{id} , "result":{{"n":{n},"id":1,"p":"{pad}"}},"jsonrpc":"2.0"}}"#);
        self.peer(who).say(if is_overlong { What::OverlongAnswer(id) } else { What::Answer(id) }, line, "\n");
    }

    fn cancel(&mut self, who: Who, which: Index) {
        let open: Vec<String> = self
            .asked
            .iter()
            .filter(|((by, _), one)| *by == who && one.answers == 0 && one.is_sent)
            .map(|((_, id), _)| id.clone())
            .collect();
        if open.is_empty() || !self.peer(who).can_say() {
            return;
        }
        self.serial += 1;
        let (id, n) = (which.get(&open).clone(), self.serial);
        let line =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"n":{n}}}}}"#);
        self.asked.get_mut(&(who, id.clone())).unwrap().is_cancelled = true;
        self.peer(who).say(What::Cancel(id), line, "\n");
    }

    fn note(&mut self, who: Who, pad: usize) {
        self.serial += 1;
        let (n, pad) = (self.serial, "é".repeat(pad));
        let line = format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"n":{n},"p":"{pad}"}}}}"#);
        self.peer(who).say(What::Note, line, if n.is_multiple_of(7) { "\n\n" } else { "\n" });
    }

    fn write(&mut self, who: Who, len: usize) {
        let whole = self.peer(who).write(len);
        self.sent(who, whole);
    }

    fn sent(&mut self, who: Who, whole: Vec<Said>) {
        // Whoever comes when all is over was never let in.
        let is_over = self.outcome.is_some();
        for said in whole {
            if let What::Ask(id) = &said.what {
                self.asked.get_mut(&(who, id.clone())).unwrap().is_sent = !is_over && !self.is_stopped;
            }
            self.on_its_way.get_mut(&who).unwrap().push_back(said);
        }
    }

    fn end(&mut self, who: Who) {
        let whole = self.peer(who).end();
        self.sent(who, whole);
        self.may_cut |= who == Who::Server;
    }

    fn die(&mut self, status: ExitStatus, holds_streams: bool) {
        self.may_cut = true;
        let whole = self.server.end();
        self.sent(Who::Server, whole);
        if holds_streams {
            self.child[0].exit_only(status);
        } else {
            self.server.read_no_more();
            self.child[0].die(status);
        }
    }

    fn read(&mut self, who: Who, len: usize) {
        for line in self.peer(who).read(len) {
            self.hear(who, &line);
        }
    }

    /// We are told to stop. What we have not read by now, we never will, and nobody here can tell what that is.
    fn stop(&mut self) {
        (self.may_cut, self.is_stopped) = (true, true);
        for said in &self.on_its_way[&Who::Client] {
            if let What::Ask(id) = &said.what {
                self.asked.get_mut(&(Who::Client, id.clone())).unwrap().is_sent = false;
            }
        }
        self.stop.cancel();
    }

    /// `who` got a line: it is the next of what the other side sent, or an error of ours.
    fn hear(&mut self, who: Who, line: &str) {
        let sender = who.other();
        if !line.contains("\"n\":") {
            let envelope = EnvelopeParser::new(Limits::default()).parse(line.as_bytes()).unwrap();
            let id = std::str::from_utf8(envelope.id().unwrap().of(line.as_bytes())).unwrap();
            return self.answered(who, id);
        }
        let on_its_way = self.on_its_way.get_mut(&sender).unwrap();
        let said = loop {
            let said =
                on_its_way.pop_front().unwrap_or_else(|| panic!("{who:?} got what nobody sent, or twice: {line}"));
            if said.line == line {
                break said;
            }
            assert!(said.what.may_stay_behind(), "{who:?} got {line} before, or in place of, {said:?}");
        };
        match said.what {
            What::Ask(id) => self.unanswered.get_mut(&who).unwrap().push(id),
            What::Answer(id) => self.answered(who, &id),
            What::Cancel(_) | What::Note => {}
            What::Noise | What::OverlongAnswer(_) => panic!("{who:?} got {line}"),
        }
    }

    fn answered(&mut self, who: Who, id: &str) {
        let asked = self.asked.get_mut(&(who, id.to_owned())).unwrap_or_else(|| panic!("{who:?} never asked {id}"));
        asked.answers += 1;
        assert_eq!(asked.answers, 1, "{who:?} got more than one answer to {id}");
    }

    /// What was taken from a sender and has not arrived is in a stream on either side, or held by us.
    fn check_held(&self) {
        let (charged, total) = (self.budget.held(), self.budget.total());
        assert!(charged <= total, "{charged} bytes are charged, of {total}");
        assert!(charged > 0 || self.outcome.is_some(), "a session holds at least its room");
        for (sender, on_its_way) in &self.on_its_way {
            let (from, to) = match sender {
                Who::Client => (&self.client, &self.server),
                Who::Server => (&self.server, &self.client),
            };
            let held = on_its_way.iter().filter(|said| !said.what.may_stay_behind()).map(Said::len).sum::<u64>();
            let held = (held + from.begun_len()).saturating_sub(to.unread_len() as u64);
            // Two streams, one read, and a line without end.
            let bound = (3 * self.setting.capacity + MAX_FRAME_LEN + 64) as u64;
            // What nobody can take any more goes nowhere.
            let is_cut = (*sender == Who::Client && self.may_cut) || self.is_overdue;
            let is_open = self.outcome.is_none() && to.is_reading() && !is_cut;
            assert!(!is_open || held <= bound, "{held} bytes from the {sender:?} are held, more than {bound}");
        }
    }

    /// Everybody does what is left to do, for as long as it takes.
    async fn finish(&mut self, last: &Step) {
        self.step(last).await;
        for round in 0.. {
            if self.outcome.is_some() && (!self.client.is_reading() || self.client.has_heard_end) {
                break;
            }
            assert!(round < MAX_ROUNDS, "the session does not end; so far: {:?}", self.outcome);
            // Whoever has a deadline for answers may never get them.
            if self.setting.drain.is_none() {
                for who in [Who::Client, Who::Server] {
                    for id in std::mem::take(self.unanswered.get_mut(&who).unwrap()) {
                        self.answer(who, id, false);
                    }
                }
            }
            for who in [Who::Client, Who::Server] {
                self.write(who, 4096);
                self.read(who, 4096);
            }
            let is_done = self.server.has_heard_end && !self.server.has_unsent();
            if is_done && self.setting.heeds_end && self.child[0].is_alive() {
                self.die(ExitStatus::Code(0), false);
            }
            self.run_for(Duration::from_millis(if round % 8 == 7 { 1000 } else { 1 })).await;
            self.check_held();
        }
        self.check_end();
    }

    fn check_end(&self) {
        assert!(!self.child[0].is_alive(), "the child is left behind");
        let altered = [To::Server, To::Client].map(|to| self.metrics.verify_mismatches.of((Link::Pipe, to)));
        assert_eq!(altered, [0, 0], "found by --verify");
        assert_eq!(self.budget.held(), 0, "charged to the budget, and not given back");
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "a task is left behind");
        if self.client.is_reading() {
            let lost = self.on_its_way[&Who::Server].iter().find(|said| !said.what.may_stay_behind());
            assert!(lost.is_none() || self.is_overdue, "lost on the way to the client: {lost:?}");
            for ((who, id), asked) in &self.asked {
                let is_due = *who == Who::Client && asked.is_sent && !asked.is_cancelled;
                assert!(!is_due || asked.answers == 1, "{id} was never answered: {:?}", self.outcome);
            }
        }
        if !self.may_cut && self.client.is_reading() {
            let lost = self.on_its_way[&Who::Client].iter().find(|said| !said.what.may_stay_behind());
            assert_eq!(lost, None, "lost on the way to the server");
        }
    }
}

impl Who {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![Just(Who::Client), Just(Who::Server)]
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![2 => 1..40_usize, 2 => 40..6000_usize];
    prop_oneof![
        12 => (who(), 0..300_usize).prop_map(|(who, pad)| Step::Ask { who, pad }),
        10 => (who(), any::<Index>(), prop::bool::weighted(0.1))
            .prop_map(|(who, which, is_overlong)| Step::Answer { who, which, is_overlong }),
        3 => (who(), any::<Index>()).prop_map(|(who, which)| Step::Cancel { who, which }),
        6 => (who(), prop_oneof![4 => 1..4_usize, 1 => 1..200_usize], 0..400_usize)
            .prop_map(|(who, count, pad)| Step::Notes { who, count, pad }),
        2 => (who(), 0..5_usize).prop_map(|(who, what)| Step::Noise { who, what }),
        40 => (who(), len()).prop_map(|(who, len)| Step::Write { who, len }),
        40 => (who(), len()).prop_map(|(who, len)| Step::Read { who, len }),
        1 => Just(Step::Pause { ms: 3000 }),
        2 => (1..200_u64).prop_map(|ms| Step::Pause { ms }),
    ]
}

/// What ends a session. In the midst of it, or when all has been said.
fn last() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::End { who: Who::Client }),
        1 => Just(Step::End { who: Who::Server }),
        1 => Just(Step::Leave),
        2 => any::<bool>().prop_map(|holds_streams| Step::Die { holds_streams }),
        1 => Just(Step::Stop),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let capacity = prop_oneof![1 => 16..64_usize, 3 => 64..8000_usize];
    let drain = prop_oneof![2 => Just(None), 1 => (0..6_u64).prop_map(|seconds| Some(Duration::from_secs(seconds)))];
    // Seldom so short that a server is ended for it.
    let server_write = prop_oneof![3 => Just(Duration::from_secs(300)), 1 => (1..6_u64).prop_map(Duration::from_secs)];
    (capacity, 1..12_usize, drain, any::<bool>(), any::<bool>(), server_write).prop_map(
        |(capacity, max_pending, drain, heeds_end, heeds_term, server_write)| Setting {
            capacity,
            max_pending,
            drain,
            heeds_end,
            heeds_term,
            server_write,
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_reordered_or_left(
        setting in setting(),
        steps in vec(step(), 0..120),
        middle in prop::option::of(last()),
        more in vec(step(), 0..60),
        last in last(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(setting);
            for step in steps.iter().chain(&middle).chain(&more) {
                world.step(step).await;
            }
            world.finish(&last).await;
        });
    }
}

const MAX_FRAME_LEN: usize = 2000;
/// About the least that has room for such a session.
const BUDGET_LEN: usize = 12 << 20;
/// How long what was asked may still be answered when we are told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// Turns of everybody until all must be over; every eighth takes a second.
const MAX_ROUNDS: u32 = 20000;
