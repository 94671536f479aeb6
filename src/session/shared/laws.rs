//! The law of a shared child: each client hears, byte for byte, what a child of its own would have told it, and
//! nothing of anybody else.
//!
//! Clients with few ids and tokens between them, so that they are nearly always equal, share a model of a
//! child that speaks of any request at any time, in any spelling, also of those that are over. Every message
//! is written twice: with what the child was given, and with what the client chose. The second is what must
//! arrive.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    tests::{Desk, written},
    *,
};

const IDS: [&str; 7] = ["1", "2", "1.0", "\"1\"", "\"\"", "\"\\u0061\\/b\"", "9007199254740993"];
const TOKENS: [&str; 4] = ["1", "2", "\"1\"", "\"t\\u00e9\""];

#[derive(Debug, Clone)]
enum Step {
    Ask {
        id: Index,
        token: Option<Index>,
        method: Method,
        shape: Index,
    },
    /// The child says this of any request it was ever asked.
    Say {
        of: Index,
        what: Says,
        spelling: Index,
    },
    /// The child logs something about a request it has not answered.
    Log {
        of: Index,
    },
    Leave {
        of: Index,
    },
    Withdraw {
        of: Index,
    },
    /// A client names its id in a message of its own.
    Cancel {
        id: Index,
    },
    /// The child makes an id up.
    Invent {
        id: Index,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    Call,
    CallWithLogs,
    Listen,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Result,
    ResultWithSubscription,
    Error,
    Progress,
    Change,
    Cancelled,
}

/// A request as both sides know it.
struct Asked {
    stream: StreamKey,
    id: &'static str,
    token: Option<&'static str>,
    minted: u64,
    method: Method,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    InFlight,
    /// Nobody waits, but the child may still be at it.
    Left,
    Answered,
    /// The child never saw it.
    Withdrawn,
}

struct World {
    desk: Desk,
    asked: Vec<Asked>,
    /// Of everything the child says: so that no two messages are equal.
    serial: u32,
    drops: u64,
}

impl World {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask { id, token, method, shape } => {
                self.ask(
                    IDS[id.index(IDS.len())],
                    token.as_ref().map(|token| *token.get(&TOKENS)),
                    *method,
                    shape.index(3),
                );
            }
            Step::Say { of, what, spelling } => self.say(*of, *what, *spelling),
            Step::Log { of } => self.log(*of),
            Step::Leave { of } => self.leave(*of),
            Step::Withdraw { of } => {
                if let Some(asked) = self.pick(*of, |asked| asked.state == State::InFlight) {
                    asked.state = State::Withdrawn;
                    let stream = asked.stream;
                    self.desk.shared.withdraw(stream);
                }
            }
            Step::Cancel { id } => {
                let cancel =
                    format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{}}}}}"#, id.get(&IDS));
                assert_eq!(self.desk.notify(&cancel), Err(Dropped::ClientCancelled));
                self.drops += 1;
            }
            Step::Invent { id } => {
                let id = self.asked.len() + 1 + id.index(1000);
                self.hears_nothing(&format!(r#"{{"id":{id},"result":{{}}}}"#), Dropped::Unknown);
            }
        }
        let in_flight = self.asked.iter().filter(|asked| asked.state == State::InFlight).count();
        assert_eq!(self.desk.shared.in_flight(), in_flight);
        assert_eq!(self.desk.shared.streams.len(), in_flight);
        assert_eq!(self.desk.shared.dropped().iter().map(|(_, count)| count).sum::<u64>(), self.drops);
    }

    fn ask(&mut self, id: &'static str, token: Option<&'static str>, method: Method, shape: usize) {
        let log_level = match method {
            Method::CallWithLogs => r#""io.modelcontextprotocol/logLevel":"debug","#,
            _ => "",
        };
        let name = if method == Method::Listen { "subscriptions/listen" } else { "tools/call" };
        let request = |id: &str, token: Option<&str>| {
            let token = token.map(|token| format!(r#""progressToken" : {token} ,"#)).unwrap_or_default();
            let params = format!(
                r#""params":{{"id":1,"arguments":{{"progressToken":1}},"_meta":{{{log_level}{token}"id":"1"}}}}"#
            );
            match shape {
                0 => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{name}",{params}}}"#),
                1 => format!(r#"{{{params},"method":"{name}","id":{id}}}"#),
                _ => format!(r#"{{ "method":"{name}", "id" : {id} , {params} }}"#),
            }
        };
        let (stream, read) = self.desk.ask(&request(id, token));
        let (frame, envelope) = self.desk.parsed(&read);
        let span = envelope.id().expect("a request");
        let minted: u64 = std::str::from_utf8(span.of(&frame)).expect("text").parse().expect("an integer");
        assert!(self.asked.iter().all(|asked| asked.minted < minted), "minted twice");
        let minted_text = minted.to_string();
        assert_eq!(read, request(&minted_text, token.map(|_| minted_text.as_str())), "nothing else is changed");

        // There and back is nothing.
        let mut back = Splice::new(frame);
        for (span, text) in [(Some(span), Some(id)), (envelope.meta_progress_token(), token)] {
            if let (Some(span), Some(text)) = (span, text) {
                back.replace(span, admit::kept(text.as_bytes()).expect("an id")).expect("a place for it");
            }
        }
        assert_eq!(written(&back), request(id, token));
        self.asked.push(Asked { stream, id, token, minted, method, state: State::InFlight });
    }

    fn say(&mut self, of: Index, what: Says, spelling: Index) {
        self.serial += 1;
        let serial = self.serial;
        let Some(asked) = self.pick(of, |asked| asked.state != State::Withdrawn) else { return };
        let minted = spelled(asked.minted, spelling.index(4));
        let told = message(what, &minted, &minted, serial);
        let own = message(what, asked.id, asked.token.unwrap_or(&minted), serial);
        let (is_answer, is_listen) =
            (!matches!(what, Says::Progress | Says::Change | Says::Cancelled), asked.method == Method::Listen);
        let state = asked.state;
        let expected = match (state, what) {
            (State::Left | State::Answered, _) => Err(Dropped::Late),
            (_, Says::Progress) if asked.token.is_none() => Err(Dropped::Unknown),
            (_, Says::Cancelled) if !is_listen => Err(Dropped::NotASubscription),
            (_, Says::Progress | Says::Change) => Ok((asked.stream, own, false)),
            _ => Ok((asked.stream, own, true)),
        };
        if is_answer || expected.as_ref().is_ok_and(|&(_, _, is_final)| is_final) {
            asked.state = State::Answered;
        }
        self.drops += u64::from(expected.is_err());
        assert_eq!(self.desk.hear(&told), expected);
    }

    /// A log belongs to the request the child means, or to nobody; and if only one can be meant, to that one.
    fn log(&mut self, of: Index) {
        let may_log = |asked: &Asked| {
            asked.method == Method::CallWithLogs && matches!(asked.state, State::InFlight | State::Left)
        };
        let meant = self.asked.iter().filter(|asked| may_log(asked)).count();
        self.serial += 1;
        let log = format!(r#"{{"method":"notifications/message","params":{{"data":{}}}}}"#, self.serial);
        let Some(asked) = self.pick(of, may_log) else {
            return self.hears_nothing(&log, Dropped::UnaskedLog);
        };
        if meant == 1 && asked.state == State::InFlight {
            let owner = asked.stream;
            assert_eq!(self.desk.hear(&log), Ok((owner, log, false)));
        } else {
            self.hears_nothing(&log, Dropped::AmbiguousLog);
        }
    }

    fn leave(&mut self, of: Index) {
        let Some(asked) = self.pick(of, |_| true) else { return };
        let (stream, minted, was) = (asked.stream, asked.minted, asked.state);
        if was == State::InFlight {
            asked.state = State::Left;
        }
        let Some(cancel) = self.desk.leave(stream) else {
            assert_ne!(was, State::InFlight, "the child is not told");
            return;
        };
        assert_eq!(was, State::InFlight, "the child is told twice, or after its answer");
        let (frame, envelope) = self.desk.parsed(&cancel);
        assert_eq!(envelope.request_id().map(|id| id.of(&frame)), Some(minted.to_string().as_bytes()));
    }

    fn hears_nothing(&mut self, message: &str, dropped: Dropped) {
        assert_eq!(self.desk.hear(message), Err(dropped));
        self.drops += 1;
    }

    fn pick(&mut self, of: Index, fits: impl Fn(&Asked) -> bool) -> Option<&mut Asked> {
        let mut fitting: Vec<&mut Asked> = self.asked.iter_mut().filter(|asked| fits(asked)).collect();
        (!fitting.is_empty()).then(|| fitting.swap_remove(of.index(fitting.len())))
    }

    /// The child answers all it was asked: nothing is remembered.
    fn end_with_answers(mut self) {
        for index in 0..self.asked.len() {
            let Some(asked) = self.asked.get(index).filter(|asked| asked.state != State::Withdrawn) else { continue };
            let _ = self.desk.hear(&message(Says::Result, &asked.minted.to_string(), "", 0));
        }
        let shared = self.desk.shared;
        assert!(shared.exchanges.is_empty() && shared.streams.is_empty() && shared.logs.is_empty());
    }

    /// The child goes: each one in flight gets an error with its own id, once.
    fn end_with_loss(self) {
        let gone = Reason::ServerExited { exit_code: None, signal: Some(9), stderr: Vec::new() };
        let orphans: Vec<Orphan> = self.desk.shared.child_gone(&gone).collect();
        let in_flight = self.asked.iter().filter(|asked| asked.state == State::InFlight);
        let expected: Vec<Orphan> = in_flight
            .map(|asked| Orphan {
                stream: asked.stream,
                reply: Reply::new(RequestId::new(asked.id.as_bytes()), gone.clone()),
                is_listen: asked.method == Method::Listen,
            })
            .collect();
        assert_eq!(orphans, expected);
    }
}

/// A message of the child; the payload is full of what looks like ids and is none.
fn message(what: Says, id: &str, token: &str, serial: u32) -> String {
    let subscription = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    let payload = format!(r#""serial":{serial},"id":1,"x":[{{"id":1,"progressToken":1,"requestId":2}}]"#);
    match what {
        Says::Result => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{payload},"progressToken":1}}}}"#),
        Says::ResultWithSubscription => format!(r#"{{"result":{{{payload},{subscription}}}, "id" : {id} }}"#),
        Says::Error => format!(r#"{{"id":{id},"error":{{"code":-32602,"message":"1","data":{{{payload}}}}}}}"#),
        Says::Progress => {
            format!(r#"{{"method":"notifications/progress","params":{{{payload},"progressToken":{token}}}}}"#)
        }
        Says::Change => {
            format!(
                r#"{{"method":"notifications/x","params":{{{payload},"requestId":1,"progressToken":1,{subscription}}}}}"#
            )
        }
        Says::Cancelled => {
            format!(
                r#"{{"method":"notifications\/cancelled","params":{{"requestId": {id},{payload},{subscription}}}}}"#
            )
        }
    }
}

fn spelled(minted: u64, spelling: usize) -> String {
    match spelling {
        0 => format!("{minted}.0"),
        1 => format!("{minted}0e-1"),
        _ => minted.to_string(),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let method = prop_oneof![3 => Just(Method::Call), 1 => Just(Method::CallWithLogs), 2 => Just(Method::Listen)];
    let says = prop_oneof![
        2 => Just(Says::Result),
        2 => Just(Says::ResultWithSubscription),
        1 => Just(Says::Error),
        4 => Just(Says::Progress),
        4 => Just(Says::Change),
        1 => Just(Says::Cancelled),
    ];
    prop_oneof![
        8 => (any::<Index>(), any::<Option<Index>>(), method, any::<Index>())
            .prop_map(|(id, token, method, shape)| Step::Ask { id, token, method, shape }),
        12 => (any::<Index>(), says, any::<Index>()).prop_map(|(of, what, spelling)| Step::Say { of, what, spelling }),
        4 => any::<Index>().prop_map(|of| Step::Log { of }),
        2 => any::<Index>().prop_map(|of| Step::Leave { of }),
        1 => any::<Index>().prop_map(|of| Step::Withdraw { of }),
        1 => any::<Index>().prop_map(|id| Step::Cancel { id }),
        1 => any::<Index>().prop_map(|id| Step::Invent { id }),
    ]
}

proptest! {
    #[test]
    fn each_client_hears_what_a_child_of_its_own_would_have_said(steps in vec(step(), 0..120), is_lost: bool) {
        let mut world = World { desk: Desk::with_limits(256, 64), asked: Vec::new(), serial: 0, drops: 0 };
        for step in &steps {
            world.step(step);
        }
        if is_lost { world.end_with_loss() } else { world.end_with_answers() }
    }

    #[test]
    fn nothing_a_child_may_write_makes_the_tables_disagree(
        said in vec("(\\{\"(id|method)\":(1|2|\"notifications/(progress|cancelled|message)\"),\"(result|params|error)\":\\{\"(requestId|progressToken|_meta)\":(1|2|\\{\\})\\}\\})", 0..12)
    ) {
        let mut desk = Desk::new();
        let streams = [r#"{"id":1,"method":"subscriptions/listen"}"#, r#"{"id":1,"method":"a"}"#].map(|text| desk.ask(text).0);
        for text in &said {
            let heard = desk.hear(text);
            prop_assert!(heard.is_err() || heard.is_ok_and(|(stream, _, _)| streams.contains(&stream)));
            let shared = &desk.shared;
            prop_assert!(shared.exchanges.iter().all(|(minted, exchange)| shared.streams.get(&exchange.stream) == Some(minted)));
            prop_assert_eq!(shared.exchanges.len(), shared.streams.len());
        }
    }
}
