//! HTTP clients of the revisions up to 2025-11-25, each session with a child of its own: the session's life,
//! and on which of its streams each message of the child goes. Real processes, real sockets.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/client.rs"]
mod client;
#[path = "support/legacy.rs"]
mod legacy;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/mux.rs"]
mod mux;
#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use std::collections::BTreeSet;

use client::Request;
use legacy::{Client, INITIALIZED, SESSION, VERSION, answer, initialize};
use mux::{Mux, ask, assert_refused, call, done, echoed, progress, result, run};
use serde_json::{Value, json};
use support::eventually;

// --- a session's life ----------------------------------------------------------------------------------------

#[test]
fn initialize_begins_a_session_with_a_child_of_its_own() {
    let mux = Mux::start(&[]);
    let clients: Vec<Client> = (0..4).map(|_| Client::start(&mux, "2025-11-25")).collect();
    let sessions: BTreeSet<&str> = clients.iter().map(|client| client.session.as_str()).collect();
    let pids: BTreeSet<u64> = clients.iter().map(|client| client.pid(&mux)).collect();
    assert_eq!((sessions.len(), pids.len(), mux.pids().len()), (4, 4, 4));
    for session in sessions {
        assert!(session.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "Rule G9: {session:?}");
        // 128 bits, at 6 bits a character.
        assert!(session.len() >= 22, "Rule G13: {session:?}");
    }
}

#[test]
fn what_a_client_says_reaches_its_child_as_it_is() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-06-18");
    for id in ["0", "\"\"", "18446744073709551616", "1.0", r#""\u0061""#] {
        let asked = call(id, "echo", "{}").token("\"t\"");
        let response = mux.send(&client.post(asked.legacy_body()));
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
        assert_eq!(response.text(), echoed(id, "{}"));
        mux.seen_with(&[asked.legacy_body().as_str()]);
    }
    let error = mux.send(&client.post(ask("1", "no/such", "").legacy_body()));
    assert_eq!(error.status, 200, "the status of errors is the modern era's");
    assert_eq!(error.json()["error"]["code"], -32601);
    assert!(mux.seen().contains(&INITIALIZED.to_owned()));
    let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":77}}"#;
    assert_eq!(mux.send(&client.post(cancelled)).status, 202);
    mux.seen_with(&[cancelled]);
}

#[test]
fn session_that_is_missing_or_unknown_is_refused() {
    let mux = Mux::start(&[]);
    let body = call("1", "echo", "{}").legacy_body();
    assert_refused(mux.send(&Request::post(body.clone())), 400, -32600, &json!(1));
    assert_refused(mux.send(&Request::post(body.clone()).with(VERSION, "2025-11-25")), 400, -32600, &json!(1));
    for session in ["unknown", "0", "", "../../etc"] {
        let response = mux.send(&Request::post(body.clone()).with(SESSION, session));
        assert_eq!(response.status, 404, "{session:?}");
    }
    for method in ["GET", "DELETE"] {
        let request = Request::new(method).with("Accept", "text/event-stream").with(VERSION, "2025-11-25");
        assert_eq!(mux.send(&request).status, 400, "{method}, Rule G11");
        assert_eq!(mux.send(&request.with(SESSION, "unknown")).status, 404, "{method}, Rule G11");
    }
    assert_eq!(mux.pids().len(), 0, "no child was started for it");
}

#[test]
fn deleting_a_session_ends_its_child_and_no_other() {
    let mux = Mux::start(&[]);
    let [one, two] = [0, 1].map(|_| Client::start(&mux, "2025-11-25"));
    let survivor = two.pid(&mux);
    let mut stream = mux.send(&one.get());
    let waiting = one.post(run("\"w\"", r#"{"wait":"never"}"#).legacy_body()).begin(mux.address);
    mux.seen_with(&["never"]);
    let response = mux.send(&one.request("DELETE"));
    assert!([200, 202, 204].contains(&response.status), "{response:?}");
    assert_eq!(waiting.response().json()["id"], "w", "who waits gets an error");
    assert_eq!(stream.event(), None);
    eventually("its child ends", || mux.pids().iter().map(|&pid| u64::from(pid)).eq([survivor]));
    assert_eq!(mux.send(&one.post(call("1", "echo", "{}").legacy_body())).status, 404);
    assert_eq!(mux.send(&one.get()).status, 404);
    assert_eq!(mux.send(&one.request("DELETE")).status, 404);
    assert_eq!(two.ask(&mux, &call("1", "echo", "{}")), echoed("1", "{}"));
}

#[test]
fn session_ends_with_its_child() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let mut stream = mux.send(&client.get());
    let waiting = client.post(run("\"w\"", r#"{"wait":"never"}"#).legacy_body()).begin(mux.address);
    mux.seen_with(&["never"]);
    let cause = mux.send(&client.post(run("1.0", r#"{"part":"{\"jsonrpc\""},{"exit":3}"#).legacy_body()));
    let error = cause.text();
    assert!(error.contains("\"id\":1.0,\"error\":{\"code\":-32603"), "{error}");
    let error = waiting.response().text();
    assert!(error.contains("\"id\":\"w\",\"error\":{\"code\":-32603"), "{error}");
    assert_eq!(stream.event(), None);
    eventually("the session is gone", || mux.send(&client.post(call("1", "echo", "{}").legacy_body())).status == 404);
    assert_eq!(mux.send(&client.get()).status, 404);
    assert_eq!(Client::start(&mux, "2025-11-25").ask(&mux, &call("1", "echo", "{}")), echoed("1", "{}"));
}

#[test]
fn idle_session_ends_and_one_with_a_connection_does_not() {
    let mux = Mux::start(&["--session-idle", "300ms"]);
    let listening = Client::start(&mux, "2025-11-25");
    let _stream = mux.send(&listening.get());
    let idle = Client::start(&mux, "2025-11-25");
    let waiting = Client::start(&mux, "2025-11-25");
    let post = waiting.post(run("1", r#"{"wait":"end"}"#).legacy_body()).begin(mux.address);
    eventually("the idle child ends", || mux.pids().len() == 2);
    assert_eq!(mux.send(&idle.post(call("1", "echo", "{}").legacy_body())).status, 404);
    assert_eq!(listening.ask(&mux, &call("1", "echo", "{}")), echoed("1", "{}"));
    waiting.ask(&mux, &run("2", r#"{"open":"end"}"#));
    assert_eq!(answer(post.response())["id"], 1);
}

#[test]
fn sessions_are_bounded() {
    let mux = Mux::start(&["--max-sessions", "2"]);
    let [one, two] = [0, 1].map(|_| Client::start(&mux, "2025-11-25"));
    let refused = mux.send(&Request::post(initialize("2025-11-25")));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert_refused(refused, 503, -32603, &json!("init"));
    assert_eq!(two.ask(&mux, &call("1", "echo", "{}")), echoed("1", "{}"));
    mux.send(&one.request("DELETE"));
    eventually("there is room again", || mux.send(&Request::post(initialize("2025-11-25"))).status == 200);
}

#[test]
fn both_eras_are_served_at_once_by_children_of_their_own() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let own = client.pid(&mux);
    let shared: Value = serde_json::from_str(&mux.ask(&call("1", "pid", "{}"))).unwrap();
    assert_ne!(shared["result"]["pid"], own);
    // A modern message does not become a legacy one by a session header.
    let response = mux.send(&call("1", "pid", "{}").modern().with(SESSION, client.session.as_str()));
    assert_eq!(response.json(), shared);
}

// --- revisions -----------------------------------------------------------------------------------------------

#[test]
fn version_header_may_be_missing_but_not_nonsense() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-06-18");
    let good = client.post(call("1", "echo", "{}").legacy_body());
    assert_eq!(mux.send(&good.clone().without(VERSION)).status, 200);
    for version in ["nonsense", "1999-12-31"] {
        assert_eq!(mux.send(&good.clone().but(VERSION, version)).status, 400, "Rule V6: {version}");
    }
    assert_eq!(mux.send(&good.with(VERSION, "2025-06-18")).status, 400, "two of them");
}

#[test]
fn version_is_the_one_the_child_chose() {
    let mux = Mux::with_env(&[], &["FIXTURE_VERSION=2025-03-26"]);
    // It asks for one without batches, and gets one with.
    let client = Client::start(&mux, "2025-11-25");
    let batch = format!("[{}]", call("1", "echo", "{}").legacy_body());
    assert_eq!(mux.send(&client.post(batch)).status, 200, "rule V14");
}

#[test]
fn batch_gets_all_its_answers() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-03-26");
    let [one, two] = [("1", "1.0"), ("\"1\"", "-0")].map(|(id, arguments)| call(id, "echo", arguments).legacy_body());
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/vendor"}"#;
    let batch = format!(" [{one} ,\t{notification},{two}]");
    let response = mux.send(&client.post(batch.clone()));
    assert_eq!(response.status, 200);
    let expected = [echoed("1", "1.0"), echoed("\"1\"", "-0")];
    if response.is_events() {
        let answers = response.rest().concat();
        assert!(expected.iter().all(|answer| answers.contains(answer)), "{answers}");
    } else {
        assert_eq!(response.text(), format!("[{}]", expected.join(",")));
    }
    mux.seen_with(&[batch.trim_start()]);
    let response = mux.send(&client.post(format!("[{notification}]")));
    assert_eq!((response.status, response.text().as_str()), (202, ""));
}

#[test]
fn batch_whose_answers_come_one_by_one_is_complete_all_the_same() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-03-26");
    let waits = run("1", r#"{"wait":"end"}"#).legacy_body();
    let opens = run("2", r#"{"open":"end"}"#).legacy_body();
    let response = mux.send(&client.post(format!("[{waits},{opens}]")));
    let answers = if response.is_events() {
        response.rest()
    } else {
        response.json().as_array().unwrap().iter().map(Value::to_string).collect()
    };
    let ids: BTreeSet<String> =
        answers.iter().map(|answer| serde_json::from_str::<Value>(answer).unwrap()["id"].to_string()).collect();
    assert_eq!((answers.len(), ids), (2, ["1", "2"].map(str::to_owned).into()));
}

#[test]
fn batch_that_may_not_be_is_refused() {
    let mux = Mux::start(&[]);
    let old = Client::start(&mux, "2025-03-26");
    let new = Client::start(&mux, "2025-06-18");
    let asked = call("1", "echo", "{}").legacy_body();
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for (client, batch) in [
        (&old, "[]".to_owned()),
        (&old, format!("[{}]", initialize("2025-03-26"))),
        (&old, format!("[{asked},{answer}]")),
        (&new, format!("[{asked}]")),
    ] {
        assert_refused(mux.send(&client.post(batch)), 400, -32600, &Value::Null);
    }
    let many = vec![asked.as_str(); 257].join(",");
    assert_eq!(mux.send(&old.post(format!("[{many}]"))).status, 400, "max_batch_len");
    for client in [&old, &new] {
        client.ask(&mux, &run("1", ""));
    }
    assert!(!mux.seen().iter().any(|line| line.starts_with('[') || line.contains("echo")));
}

// --- streams -------------------------------------------------------------------------------------------------

#[test]
fn progress_goes_to_the_call_whose_token_it_names() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let [mut one, mut two] = [("1", "\"1\""), ("2", "1")].map(|(id, token)| {
        let steps = format!(r#"{{"progress":["{id}"]}},{{"wait":"{id}"}},{{"progress":["end"]}}"#);
        let mut response = mux.send(&client.post(run(id, &steps).token(token).legacy_body()));
        assert_eq!(response.data(), progress(token, 0, id));
        response
    });
    for (id, token, response) in [("2", "1", &mut two), ("1", "\"1\"", &mut one)] {
        client.ask(&mux, &run("3", &format!(r#"{{"open":"{id}"}}"#)));
        assert_eq!(response.data(), progress(token, 0, "end"));
        assert_eq!((response.data(), response.event()), (done(id), None));
    }
}

#[test]
fn notification_about_no_call_goes_to_one_listening_stream() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let [mut one, mut two] = [0, 1].map(|_| mux.send(&client.get()));
    assert!(one.is_events() && two.is_events());
    let methods = ["notifications/a", "notifications/b"];
    let steps = methods.map(|method| json!({ "notify": method }).to_string()).join(",");
    let answer = mux.send(&client.post(run("1", &steps).legacy_body()));
    assert!(!answer.is_events(), "Rule G2: what is about no call is not on its stream");
    assert_eq!(answer.text(), done("1"));
    mux.send(&client.request("DELETE"));
    let mut both: Vec<String> = [&mut one, &mut two]
        .into_iter()
        .flat_map(|stream| std::iter::from_fn(|| stream.event()))
        .map(|event| event.data)
        .collect();
    both.sort();
    let expected = methods.map(|method| format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{}}}}"#));
    assert_eq!(both, expected, "Rule G3: each on exactly one stream");
}

#[test]
fn question_of_the_child_comes_with_the_only_call_and_its_answer_reaches_the_child() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let mut response = mux.send(&client.post(run("1", r#"{"ask":"sampling/createMessage"}"#).legacy_body()));
    assert!(response.is_events());
    let asked: Value = serde_json::from_str(&response.data()).unwrap();
    assert_eq!((&asked["method"], &asked["id"]), (&json!("sampling/createMessage"), &json!("question 1")));
    let answer = r#"{"result":{"z":1.0,"a":"\u00e9"},"id":"question 1","jsonrpc":"2.0"}"#;
    let accepted = mux.send(&client.post(answer));
    assert_eq!((accepted.status, accepted.text().as_str()), (202, ""));
    let expected = r#"{"content":[],"answer":{"z":1.0,"a":"\u00e9"},"resultType":"complete"}"#;
    assert_eq!(response.rest(), [result("1", expected)]);
    mux.seen_with(&[answer]);
}

#[test]
fn question_of_the_child_beside_several_calls_comes_on_the_listening_stream() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let other = client.post(run("1", r#"{"wait":"end"}"#).legacy_body()).begin(mux.address);
    mux.seen_with(&["\"wait\":\"end\""]);
    let mut stream = mux.send(&client.get());
    let asking =
        client.post(run("2", r#"{"ask":"elicitation/create"},{"open":"end"}"#).legacy_body()).begin(mux.address);
    assert!(stream.data().contains("elicitation/create"));
    let declined = r#"{"jsonrpc":"2.0","id":"question 1","error":{"code":-1,"message":"no"}}"#;
    assert_eq!(mux.send(&client.post(declined)).status, 202);
    let answer = asking.response().json();
    assert_eq!(answer["result"]["answer"], json!({"code": -1, "message": "no"}));
    assert_eq!(other.response().text(), done("1"));
}

#[test]
fn answer_to_a_question_nobody_asked_does_not_reach_the_child() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let stray = r#"{"jsonrpc":"2.0","id":"stray","result":{}}"#;
    let response = mux.send(&client.post(stray));
    assert!([202, 400].contains(&response.status), "{response:?}");
    client.ask(&mux, &call("1", "echo", "{}"));
    assert!(!mux.seen().contains(&stray.to_owned()));
}

#[test]
fn broken_stream_is_resumed_where_it_broke() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let steps = r#"{"progress":["a","b"]},{"wait":"on"},{"progress":["c"]},{"open":"said"},{"wait":"end"}"#;
    let mut broken = mux.send(&client.post(run("1", steps).token("1").legacy_body()));
    let last = broken.event().unwrap();
    assert_eq!(last.data, progress("1", 0, "a"));
    drop(broken);
    client.ask(&mux, &run("2", r#"{"open":"on"},{"wait":"said"}"#));
    let id = last.id.expect("an event that can be resumed has an id");
    let mut resumed = mux.send(&client.get().with("Last-Event-ID", id.as_str()));
    assert!(resumed.is_events(), "{resumed:?}");
    let missed = [(); 2].map(|()| resumed.event().unwrap());
    assert_eq!(missed.clone().map(|event| event.data), [progress("1", 1, "b"), progress("1", 0, "c")]);
    assert!(missed.iter().all(|event| event.id.as_ref().is_some_and(|other| *other != id)));
    client.ask(&mux, &run("3", r#"{"open":"end"}"#));
    assert_eq!(resumed.rest(), [done("1")]);
    assert!(!mux.seen().iter().any(|line| line.contains("notifications/cancelled")), "Rule G8");
}

#[test]
fn answer_that_came_while_the_client_was_away_is_waiting_for_it() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let steps = r#"{"progress":["a"]},{"wait":"on"}"#;
    let mut broken = mux.send(&client.post(run("1", steps).token("1").legacy_body()));
    let id = broken.event().unwrap().id.unwrap();
    drop(broken);
    client.ask(&mux, &run("2", r#"{"open":"on"}"#));
    eventually("it is said", || {
        let resumed = mux.send(&client.get().with("Last-Event-ID", id.as_str()));
        resumed.status == 200 && resumed.rest() == [done("1")]
    });
}

#[test]
fn id_that_is_in_use_is_refused() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let body = run("1", r#"{"wait":"end"}"#).legacy_body();
    let first = client.post(body).begin(mux.address);
    mux.seen_with(&["\"end\""]);
    assert_refused(mux.send(&client.post(call("1", "echo", "{}").legacy_body())), 400, -32600, &json!(1));
    client.ask(&mux, &run("\"1\"", r#"{"open":"end"}"#));
    assert_eq!(first.response().text(), done("1"), "Rule F4: it was still awaited");
    assert_eq!(client.ask(&mux, &call("1", "echo", "{}")), echoed("1", "{}"));
}

#[test]
fn answers_to_several_questions_may_come_as_a_batch() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-03-26");
    let steps = r#"{"tell":"roots/list"},{"tell":"roots/list"},{"wait_answers":2}"#;
    let mut response = mux.send(&client.post(run("1", steps).legacy_body()));
    let questions = [response.data(), response.data()];
    assert!(questions.iter().all(|question| question.contains("roots/list")));
    let answers = ["question 1", "question 2"].map(|id| json!({"jsonrpc": "2.0", "id": id, "result": {}}).to_string());
    let accepted = mux.send(&client.post(format!("[{}]", answers.join(","))));
    assert_eq!((accepted.status, accepted.text().as_str()), (202, ""), "Rules F8, H5");
    assert_eq!(response.rest(), [done("1")]);
}

#[test]
fn listening_stream_can_be_resumed_before_anything_was_said() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let mut stream = mux.send(&client.get());
    let first = stream.try_event().unwrap().unwrap();
    assert_eq!(first.data, "", "Rule G7");
    let id = first.id.expect("an id");
    client.ask(&mux, &run("1", r#"{"notify":"notifications/a"}"#));
    let said = stream.event().unwrap();
    drop(stream);
    let mut again = mux.send(&client.get().with("Last-Event-ID", id.as_str()));
    assert_eq!(again.event().unwrap(), said, "Rule G6");
    // Who is older takes an event without data for a broken message.
    let older = Client::start(&mux, "2025-06-18");
    let mut stream = mux.send(&older.get());
    older.ask(&mux, &run("1", r#"{"notify":"notifications/a"}"#));
    assert_eq!(stream.try_event().unwrap().unwrap().data, said.data);
}

#[test]
fn event_id_of_nobody_resumes_nothing() {
    let mux = Mux::start(&[]);
    let [one, two] = [0, 1].map(|_| Client::start(&mux, "2025-11-25"));
    let mut stream = mux.send(&one.get());
    let first = stream.try_event().unwrap().unwrap();
    one.ask(&mux, &run("1", r#"{"notify":"notifications/secret"}"#));
    assert!(stream.data().contains("secret"));
    for id in ["nonsense", "", "99-0", "18446744073709551616-0"] {
        let response = mux.send(&two.get().with("Last-Event-ID", id));
        assert!([400, 404].contains(&response.status), "{id}: {response:?}");
    }
    // An id of another session is no key to it.
    let response = mux.send(&two.get().with("Last-Event-ID", first.id.unwrap()));
    if response.status == 200 {
        assert_eq!(mux.send(&two.request("DELETE")).status / 100, 2);
        assert!(response.rest().iter().all(|data| !data.contains("secret")));
    }
}

#[test]
fn client_that_leaves_has_cancelled_nothing() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    let leaving = client.post(run("1", r#"{"wait":"on"},{"open":"did"}"#).legacy_body()).begin(mux.address);
    mux.seen_with(&["\"did\""]);
    drop(leaving);
    client.ask(&mux, &run("2", r#"{"open":"on"},{"wait":"did"}"#));
    assert!(!mux.seen().iter().any(|line| line.contains("notifications/cancelled")), "Rule G8");
}

#[test]
fn listening_needs_its_media_type() {
    let mux = Mux::start(&[]);
    let client = Client::start(&mux, "2025-11-25");
    assert_eq!(mux.send(&client.get().but("Accept", "application/json")).status, 406);
    let put = mux.send(&client.request("PUT"));
    assert_eq!(put.status, 405);
    assert!(put.header("allow").is_some());
}
