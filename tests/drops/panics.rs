//! A fault of ours, in a task that has a child.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::BodyExt as _;
use shadowcat::{
    budget::Budget,
    clock,
    link::{
        endpoint::Link,
        mux::{Mux, MuxOptions},
    },
    resources::Resources,
    supervise::Command,
    telemetry::Log,
};
use shadowcat_codecs::Limits;
use tokio::{runtime, time::sleep};
use tracing::{
    field::{Field, Visit},
    span,
};

use super::{
    children_of,
    parts::{QUICK, ask, bind, client_of, new_keeper, serve, site},
    support,
};

/// A fault of ours in the task of a child: the child is ended, though whoever started it goes on, and whoever waits is
/// told that it is gone.
pub(crate) fn a_task_that_panics_lets_go_of_its_child(log: &Log) {
    let panics = Panics::default();
    let has_panicked = Arc::clone(&panics.has_panicked);
    // On one thread, which has this subscriber.
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(panics, || {
        runtime.block_on(async {
            let mut options = MuxOptions::new(Limits::default());
            options.shutdown = QUICK;
            // It would not see by itself that nobody is there.
            let deaf = Command::new("sleep").with_args(["1000"]);
            let mux = Mux::new(deaf, new_keeper(), log.server_lines("sleep".to_owned()), options);
            let before = children_of(std::process::id());
            let listener = bind(&Resources::default(), None).await;
            let client = client_of(listener.local_addr().unwrap().unwrap(), &Budget::default());
            let asking = async {
                let answer = ask(&client, 8).await.unwrap();
                assert_eq!(answer.status(), 502);
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(body.windows(6).any(|bytes| bytes == b"\"id\":8"), "{body:?}");
                let start = clock::now();
                while children_of(std::process::id()) > before {
                    assert!(clock::now() - start < support::DEADLINE, "the child of a task that is gone goes on");
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                () = serve(listener, site(Link::Mux(mux))) => panic!("it serves no more"),
                () = asking => {}
            }
        });
    });
    assert!(has_panicked.load(Ordering::Relaxed), "nothing panicked, so nothing was tested");
}

/// Panics in the task of a child, which has just been started.
#[derive(Default)]
struct Panics {
    has_panicked: Arc<AtomicBool>,
}

impl tracing::Subscriber for Panics {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut is_start = IsStart(false);
        event.record(&mut is_start);
        if is_start.0 {
            self.has_panicked.store(true, Ordering::Relaxed);
            panic!("on purpose, in the task of a child");
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct IsStart(bool);

impl Visit for IsStart {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}") == "server started";
    }
}
