//! Who does not come in: what does not speak as a client does, and clients for whom there is no room or no server.

use std::{net::SocketAddr, task::Poll};

use futures::future::poll_fn;
use tokio::time::timeout;

use super::{
    super::pipe::{Event, Pipe},
    LINGER, LinesOptions,
};
use crate::{
    clock,
    session::{Reason, Session, StreamKey},
    transport::{connection::Connection, memory},
};

/// Whether a connection over TCP begins as a message does. Every page of every web site can make a browser send an
/// HTTP request to a port of this machine, directly or by DNS rebinding, with a body of lines that are JSON-RPC;
/// and there is no `Host` or `Origin` here to tell them by (Rules S1, S2). The lines before that body would be
/// kept back as noise, and the body would be obeyed. So the first byte decides: a message is an object or an
/// array, what precedes it is white space or a byte order mark, and a request line begins with none of these; nor
/// does TLS.
pub(super) async fn says_json(connection: &Connection, peer: SocketAddr) -> bool {
    match connection.peek_over_tcp().await {
        Ok(Some(b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n' | 0xEF)) => true,
        Ok(Some(first)) => {
            let what = match first {
                b'A'..=b'Z' | b'a'..=b'z' => "an HTTP request, it seems",
                0x16 => "a TLS handshake, it seems",
                _ => "no JSON",
            };
            tracing::warn!(%peer, what, "refused: here are spoken lines of JSON-RPC, and nothing else");
            false
        }
        Ok(None) => false,
        Err(error) => {
            tracing::debug!(%peer, %error, "the connection ended before it began");
            false
        }
    }
}

/// There is nobody to serve this client: answers its first requests with the reason, and hangs up. One that asks
/// nothing is not waited for.
pub(super) async fn turn_away(connection: Connection, options: LinesOptions, reason: Reason) {
    let Ok(downstream) = connection.halves() else { return };
    // A server that has left already.
    let (nobody, _) = memory::pair(1);
    let session = Session::new(options.max_pending);
    let mut pipe = Pipe::new(downstream, (nobody.reader, nobody.writer), options.limits, session);
    let mut answered = 0;
    let mut has_ended = false;
    let answering = poll_fn(|cx| {
        loop {
            answered += pipe.answer_orphans(StreamKey::UPSTREAM, &reason);
            match pipe.poll_event(cx, || clock::now().into_std()) {
                Poll::Ready(Event::Gone(StreamKey::DOWNSTREAM)) => return Poll::Ready(()),
                Poll::Ready(Event::Ended(StreamKey::DOWNSTREAM)) => has_ended = true,
                Poll::Ready(_) => {}
                Poll::Pending if pipe.session().pending_at(StreamKey::UPSTREAM) > 0 => {}
                Poll::Pending if (answered > 0 || has_ended) && pipe.is_flushed(StreamKey::DOWNSTREAM) => {
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    if timeout(LINGER, answering).await.is_err() {
        tracing::debug!("a client that was turned away has asked nothing");
    }
    drop(pipe);
    connection.linger(LINGER).await;
}
