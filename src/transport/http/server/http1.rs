//! HTTP/1.1 on one connection: one exchange after the other, and next to nothing held in between.
//!
//! hyper holds a buffer each way and more for every connection, also while nothing happens on it. So it gives back one
//! that is [quiet](Phase::is_quiet): the socket waits alone, and hyper is given it again when a request begins. And one
//! whose response [lasts](lasting).
//!
//! ```text
//!   hyper ──(quiet)──► the socket alone ──(bytes)──► hyper
//!     └──(a response that lasts)──► lasting ──┘
//! ```

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use futures::FutureExt as _;
use hyper::{
    server::conn::http1::{self, Parts},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;

use super::{
    super::{Request, Response},
    Peer,
    connection::{MAX_BUFFER_LEN, MAX_HEADER_LEN, Served, Setting},
    exchange::answer,
    lasting,
    patience::Patient,
    phase::Phase,
};

/// Serves one connection to its end.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub(super) async fn serve<H, F>(mut io: Patient, phase: Phase, setting: &Setting, handle: H) -> Served
where
    H: Fn(Request, Peer) -> F,
    F: Future<Output = Response>,
{
    let (config, peer, handle, at) = (&*setting.config, setting.peer, &handle, &phase);
    let mut drained = pin!(setting.drain.cancelled());
    loop {
        let service = service_fn(move |request| {
            let running = at.run();
            answer(request, peer, config, handle, Some(running)).map(Ok::<_, Infallible>)
        });
        let mut connection = Box::new(builder().serve_connection(TokioIo::new(io), service));
        let served = poll_fn(|cx| {
            loop {
                match Pin::new(&mut *connection).poll(cx) {
                    Poll::Ready(served) => return Poll::Ready(Some(served)),
                    // Said by the socket in this turn, in which everything was written too.
                    Poll::Pending if at.is_quiet() || at.is_still() => return Poll::Ready(None),
                    // hyper does not read again by itself behind an answer that was waited for, and it is by a read that
                    // the socket learns that it idles.
                    Poll::Pending if at.has_ended() => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        tokio::select! {
            served = served => if let Some(served) = served { return Ok(served?) },
            () = drained.as_mut() => {
                Pin::new(&mut *connection).graceful_shutdown();
                return Ok(connection.await?);
            }
        }
        at.lend();
        let Parts { io: below, read_buf: mut begun, .. } = connection.into_parts();
        io = below.into_inner();
        if let Some(response) = at.take_back() {
            begun = Box::pin(lasting::send(&mut io, *response, begun)).await?;
            if setting.drain.is_cancelled() {
                return Ok(io.shutdown().await?);
            }
        }
        if !begun.is_empty() {
            // A request that began behind the one before.
            io.unread(begun);
            continue;
        }
        // The block that nothing was read into.
        drop(begun);
        let is_over = tokio::select! {
            woken = io.wake() => !woken?,
            () = drained.as_mut() => true,
        };
        if is_over {
            return Ok(io.shutdown().await?);
        }
    }
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // See `patience`.
    builder.timer(TokioTimer::new()).header_read_timeout(None);
    builder.max_header_size(MAX_HEADER_LEN).max_buf_size(MAX_BUFFER_LEN);
    builder
}
