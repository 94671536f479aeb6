//! A small server behind the proxy, over real HTTP: it echoes what is posted, and its GET is a stream on
//! which nothing happens after the first event.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::support::DEADLINE;

/// Ends when dropped.
pub(crate) struct Upstream {
    pub(crate) url: String,
    seen: mpsc::Receiver<HeaderMap>,
    gate: Arc<Semaphore>,
    runtime: Runtime,
}

/// Posted, it is answered only after [`Upstream::open_gate`].
pub(crate) const WAIT: &str = "wait at the gate";

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Upstream {
    pub(crate) fn start() -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/upstream", listener.local_addr().unwrap());
        let (told, seen) = mpsc::channel(64);
        let gate = Arc::new(Semaphore::new(0));
        let at_gate = Arc::clone(&gate);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, gate) = (told.clone(), Arc::clone(&at_gate));
                let service = service_fn(move |request| answer(request, told.clone(), Arc::clone(&gate)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, seen, gate, runtime }
    }

    /// The headers of the next request.
    pub(crate) fn seen(&mut self) -> HeaderMap {
        let next = async { timeout(DEADLINE, self.seen.recv()).await };
        self.runtime.block_on(next).expect("a request in time").unwrap()
    }

    /// The same, for a test that is not to block.
    pub(crate) async fn next_seen(&mut self) -> HeaderMap {
        self.seen.recv().await.unwrap()
    }

    /// Whether a request has come that was not looked at.
    pub(crate) fn has_seen(&mut self) -> bool {
        self.seen.try_recv().is_ok()
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(1);
    }
}

async fn answer(
    request: Request<Incoming>,
    told: mpsc::Sender<HeaderMap>,
    gate: Arc<Semaphore>,
) -> Result<Response<Body>, hyper::Error> {
    let _ = told.send(request.headers().clone()).await;
    if request.method() == Method::GET {
        let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"data: hello\n\n")))]);
        let stream = futures::StreamExt::chain(first, futures::stream::pending());
        let body = StreamBody::new(stream).boxed_unsync();
        return Ok(Response::builder().header("content-type", "text/event-stream").body(body).unwrap());
    }
    let posted = request.into_body().collect().await?.to_bytes();
    if posted == WAIT {
        gate.acquire().await.unwrap().forget();
    }
    let body = http_body_util::Full::new(posted).boxed_unsync();
    Ok(Response::builder().header("content-type", "application/json").body(body).unwrap())
}
