//! What a count can be told apart by: closed sets, so that each count has its place from the start and nothing
//! is looked up by a text while messages pass.

use shadowcat_codecs::envelope::Kind;

/// One label: its name, and every value it can have.
pub trait Label: Copy + 'static {
    /// As it is exposed.
    const NAME: &'static str;
    /// Every value, in the order of their indices.
    const ALL: &'static [Self];

    /// Its place in [`ALL`](Self::ALL).
    fn index(self) -> usize;

    /// As it is exposed.
    fn value(self) -> &'static str;

    /// Whether this process can count anything for it, as far as `links` says which links it runs.
    fn is_used(self, links: u32) -> bool {
        let _ = links;
        true
    }
}

/// The labels of one family: none, or up to three.
pub trait Labels: Copy + 'static {
    /// How many combinations there are.
    const COUNT: usize;

    /// The place of this combination, less than [`COUNT`](Self::COUNT).
    fn index(self) -> usize;

    /// Calls `visit` with every combination this process can count anything for, its place, and its names and values.
    fn each(links: u32, visit: &mut dyn FnMut(usize, &[Pair]));
}

/// A label's name and its value.
pub type Pair = (&'static str, &'static str);

impl Labels for () {
    const COUNT: usize = 1;

    #[inline]
    fn index(self) -> usize {
        0
    }

    fn each(_: u32, visit: &mut dyn FnMut(usize, &[Pair])) {
        visit(0, &[]);
    }
}

impl<A: Label> Labels for (A,) {
    const COUNT: usize = A::ALL.len();

    #[inline]
    fn index(self) -> usize {
        self.0.index()
    }

    fn each(links: u32, visit: &mut dyn FnMut(usize, &[Pair])) {
        for a in A::ALL.iter().filter(|a| a.is_used(links)) {
            visit((*a,).index(), &[pair(*a)]);
        }
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    const COUNT: usize = A::ALL.len() * B::ALL.len();

    #[inline]
    fn index(self) -> usize {
        self.0.index() * B::ALL.len() + self.1.index()
    }

    fn each(links: u32, visit: &mut dyn FnMut(usize, &[Pair])) {
        <(A,)>::each(links, &mut |a, first| {
            <(B,)>::each(links, &mut |b, second| visit(a * B::ALL.len() + b, &[first, second].concat()));
        });
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    const COUNT: usize = A::ALL.len() * B::ALL.len() * C::ALL.len();

    #[inline]
    fn index(self) -> usize {
        (self.0, self.1).index() * C::ALL.len() + self.2.index()
    }

    fn each(links: u32, visit: &mut dyn FnMut(usize, &[Pair])) {
        <(A, B)>::each(links, &mut |ab, first| {
            <(C,)>::each(links, &mut |c, second| visit(ab * C::ALL.len() + c, &[first, second].concat()));
        });
    }
}

fn pair<L: Label>(label: L) -> Pair {
    (L::NAME, label.value())
}

macro_rules! label {
    ($(#[$meta:meta])* $name:ident: $label:literal { $($(#[$of:meta])* $value:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(clippy::exhaustive_enums, reason = "a closed set, inside and outside")]
        pub enum $name { $($(#[$of])* $value,)+ }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            #[inline]
            fn index(self) -> usize {
                self as usize
            }

            fn value(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }

            label!(@used $name);
        }
    };
    (@used Link) => {
        fn is_used(self, links: u32) -> bool {
            links & (1 << self.index()) != 0
        }
    };
    (@used $other:ident) => {};
}

label! {
    /// Which link a session runs over.
    Link: "link" {
        /// Lines in front of a child.
        Pipe => "pipe",
        /// Lines in front of a server's socket.
        Socket => "socket",
        /// Lines in front of a server over HTTP.
        Dial => "dial",
        /// HTTP in front of children.
        Mux => "mux",
        /// HTTP in front of HTTP.
        Relay => "relay",
    }
}

label! {
    /// Which way something goes.
    To: "to" {
        /// From the client to the server.
        Server => "server",
        /// From the server to the client.
        Client => "client",
    }
}

label! {
    /// Who is waited for.
    Side: "side" {
        /// The client, to take what is there for it.
        Client => "client",
        /// The server, to do so.
        Server => "server",
    }
}

label! {
    /// What a message is. A batch is one.
    MessageKind: "kind" {
        /// A method with an id.
        Request => "request",
        /// A method without an id.
        Notification => "notification",
        /// A result.
        Response => "response",
        /// An error.
        Error => "error",
        /// An array of messages.
        Batch => "batch",
        /// JSON that is not JSON-RPC.
        Other => "other",
        /// Passed on without being looked at, or no message.
        Unseen => "unseen",
    }
}

label! {
    /// Who is to blame for an error.
    Blame: "blame" {
        /// The client.
        Downstream => "downstream",
        /// The server.
        Upstream => "upstream",
        /// This process: a limit of ours, or a fault.
        Us => "us",
    }
}

label! {
    /// Why somebody got an error from us; the `reason` in its `data`.
    ErrorReason: "reason" {
        /// A body or a header is encoded in a way we do not read.
        UnsupportedEncoding => "unsupported_encoding",
        /// A request is no JSON by its own account.
        UnsupportedMedia => "unsupported_media",
        /// `Origin` or `Host` is not served.
        Forbidden => "forbidden",
        /// A mirrored header contradicts the body.
        HeaderMismatch => "header_mismatch",
        /// No JSON.
        InvalidJson => "invalid_json",
        /// A tool that cannot be called over HTTP.
        InvalidTool => "invalid_tool",
        /// A message that must not be sent here.
        InvalidRequest => "invalid_request",
        /// Longer than the limit.
        MessageTooLarge => "message_too_large",
        /// A method the revision does not have.
        MethodNotFound => "method_not_found",
        /// An HTTP method the endpoint does not have.
        MethodNotAllowed => "method_not_allowed",
        /// A field of `_meta` is missing.
        MissingMeta => "missing_meta",
        /// `Accept` does not list what it has to.
        NotAcceptable => "not_acceptable",
        /// No room.
        Overloaded => "overloaded",
        /// Ambiguous.
        Refused => "refused",
        /// An id longer than what is remembered of it.
        IdTooLong => "id_too_long",
        /// The server's process ended.
        ServerExited => "server_exited",
        /// The server was started again, but the session cannot go on with it.
        RestartFailed => "restart_failed",
        /// No connection to the server.
        ServerUnreachable => "server_unreachable",
        /// No such session.
        SessionNotFound => "session_not_found",
        /// No session is named.
        SessionRequired => "session_required",
        /// The server's stream ended without the answer.
        StreamEnded => "stream_ended",
        /// Something took too long.
        Timeout => "timeout",
        /// Too many requests in flight.
        TooManyPending => "too_many_pending",
        /// Too many sessions.
        TooManySessions => "too_many_sessions",
        /// No credentials.
        Unauthorized => "unauthorized",
        /// What the server said over HTTP is no answer.
        UpstreamStatus => "upstream_status",
        /// A version that is not served.
        UnsupportedVersion => "unsupported_version",
        /// The session ended.
        SessionEnded => "session_ended",
        /// Too many streams.
        TooManyStreams => "too_many_streams",
        /// The client has no stream for it.
        NoListener => "no_listener",
        /// Too much waits for the client to open a stream.
        HoldFull => "hold_full",
    }
}

label! {
    /// What ended a session.
    SessionEnd: "cause" {
        /// The client: it ended its stream, deleted the session, or left.
        Client => "client",
        /// The server ended, or its stream did.
        Server => "server",
        /// Nobody used it for too long.
        Idle => "idle",
        /// We were told to stop.
        Stopped => "stopped",
        /// A side kept us waiting for too long.
        Timeout => "timeout",
        /// It never got a server.
        Unreachable => "unreachable",
        /// A fault of ours.
        Failed => "failed",
    }
}

label! {
    /// Why bytes were copied that could have stayed where they are.
    CopyReason: "reason" {
        /// A request's body came in pieces, and has to be one line.
        RequestJoin => "request_join",
        /// An answer's body came in pieces, and has to be one line.
        AnswerJoin => "answer_join",
        /// The beginning of a request that passes came in pieces, and is read for what headers have to say.
        HeadJoin => "head_join",
        /// Small pieces of an answer that passes leave in one write.
        Gather => "gather",
        /// An answer's id was spelled anew, and gets the spelling of its request back.
        Respell => "respell",
        /// A small message before children leaves as an event in one piece.
        Event => "event",
        /// An event is kept, so that its stream can be resumed, without the block it was read into.
        Replay => "replay",
        /// The beginning of a line moves on while its block is still in use.
        LineMove => "line_move",
    }
}

label! {
    /// Whose waiting took too long.
    TimeoutOf: "what" {
        /// A connection to the server.
        Connect => "connect",
        /// A child's start.
        ChildStart => "child_start",
        /// A request's headers.
        Header => "header",
        /// A request's body.
        Body => "body",
        /// A reader.
        Write => "write",
        /// The server's answer.
        Response => "response",
        /// The server's next event.
        EventRead => "event_read",
        /// A server on a byte stream saying anything.
        StdioRead => "stdio_read",
        /// What was asked before a session was to end.
        Drain => "drain",
        /// A session without its client.
        SessionIdle => "session_idle",
    }
}

label! {
    /// Which buffers a pool keeps.
    PoolKind: "pool" {
        /// For byte streams.
        Stdio => "stdio",
        /// For HTTP.
        Http => "http",
        /// For messages of our own.
        Own => "own",
    }
}

impl From<Kind> for MessageKind {
    #[inline]
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Request => Self::Request,
            Kind::Notification => Self::Notification,
            Kind::Response => Self::Response,
            Kind::Error => Self::Error,
            Kind::Batch => Self::Batch,
            Kind::Other => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_combination_has_a_place_of_its_own() {
        type All = (Link, To, MessageKind);
        let mut seen = BTreeSet::new();
        All::each(u32::MAX, &mut |index, pairs| {
            assert_eq!(pairs.len(), 3);
            assert!(index < All::COUNT && seen.insert(index), "{pairs:?}");
        });
        assert_eq!(seen.len(), All::COUNT);
        assert_eq!((Link::Relay, To::Client, MessageKind::Unseen).index(), All::COUNT - 1);
    }

    #[test]
    fn links_that_do_not_run_are_left_out() {
        let mut seen = Vec::new();
        <(Link,)>::each(1 << Link::Dial.index(), &mut |_, pairs| seen.extend(pairs.iter().copied()));
        assert_eq!(seen, [("link", "dial")]);
    }
}
