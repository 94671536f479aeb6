//! Whether web pages are kept out: `Origin` and `Host` (Rules S1 and S2: MCP 2025-11-25, Transports, "Security
//! Warning").

use http::{HeaderValue, header};
use shadowcat::{clock::now, transport::http::client::Probe};
use tokio::time::timeout_at;

use super::{
    PATIENCE,
    answer::Answer,
    asker::{Asker, read},
    finding::Finding,
    reachable::Place,
};

/// Asks as a page of another site would, and by a name that is not the server's.
pub(super) async fn check(asker: &mut Asker, probe: &Probe, place: Place) -> Finding {
    let mut request = asker.harmless();
    request.headers_mut().insert(header::ORIGIN, HeaderValue::from_static(EVIL_ORIGIN));
    let origin = asker.ask(request, PATIENCE).await;
    let (started, deadline) = (now(), now() + PATIENCE);
    let request = asker.harmless();
    let sent = timeout_at(deadline, probe.send_as(HeaderValue::from_static(EVIL_HOST), request)).await;
    let host = read(sent, started, deadline, PATIENCE).await;
    judge(&origin, &host, place)
}

fn judge(origin: &Result<Answer, String>, host: &Result<Answer, String>, place: Place) -> Finding {
    let is_open = |answer: &Result<Answer, String>| answer.as_ref().is_ok_and(Answer::is_answered);
    let seen = format!("foreign Origin: {}; foreign Host: {}", told(origin), told(host));
    match (is_open(origin), is_open(host), place) {
        (false, _, _) => Finding::ok(NAME, seen),
        (true, true, Place::Inside) => Finding::warning(NAME, seen).advise(
            "any web page that somebody in this network reads can use the server (DNS rebinding): check both there, or \
             put 'shadowcat proxy --listen' before it, which does",
        ),
        (true, _, Place::Inside) => {
            Finding::warning(NAME, seen).advise("Host guards against DNS rebinding; MCP demands 403 for the Origin too")
        }
        (true, _, Place::Outside) => Finding::warning(NAME, seen)
            .advise("MCP demands 403 for a foreign Origin; at a public address it matters if the server knows users by more than a token"),
    }
}

fn told(answer: &Result<Answer, String>) -> String {
    match answer {
        Ok(answer) if answer.is_answered() => "accepted".to_owned(),
        Ok(answer) => format!("refused ({})", answer.status.as_u16()),
        Err(what) => format!("not answered ({what})"),
    }
}

const NAME: &str = "guarded";
/// Names that nobody can own (RFC 6761).
const EVIL_ORIGIN: &str = "https://evil.example";
const EVIL_HOST: &str = "evil.example";
