//! The pool and the moving of connections, against servers of a thread of their own. What a client makes of errors is
//! tested beside it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use http_body_util::BodyExt as _;
use tokio::io::AsyncReadExt as _;

use super::{super::Config, *};
use crate::transport::http::{Client, SendError};

/// A server of another thread, which does what it is told with each connection.
fn server(serve: impl FnOnce(TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, thread::spawn(move || serve(listener)))
}

fn accepted(listener: &TcpListener) -> BufReader<TcpStream> {
    BufReader::new(listener.accept().unwrap().0)
}

/// The head of one request, which has no body.
fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "ended within {head:?}");
    }
    head
}

fn answer(stream: &mut BufReader<TcpStream>, answer: &str) {
    stream.get_mut().write_all(answer.as_bytes()).unwrap();
}

fn client(address: SocketAddr, idle_timeout: Duration) -> Client {
    let mut config = Config::new(format!("http://{address}/mcp").parse().unwrap());
    config.idle_timeout = idle_timeout;
    Client::new(config).unwrap()
}

async fn get(client: &Client) -> String {
    let mut request = http::Request::new(Body::empty());
    *request.uri_mut() = client.url().clone();
    let answer = client.send(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn exchanges_share_a_connection_however_their_bodies_are_framed() {
    let (address, server) = server(|listener| {
        let mut stream = accepted(&listener);
        assert!(head(&mut stream).starts_with("GET /mcp HTTP/1.1\r\n"));
        answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none");
        let head_of_second = head(&mut stream);
        let host = format!("host: {}\r\n", listener.local_addr().unwrap());
        assert_eq!(head_of_second.matches(&host).count(), 1, "{head_of_second}");
        answer(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n");
        head(&mut stream);
        answer(&mut stream, "HTTP/1.1 204 No Content\r\n\r\n");
        head(&mut stream);
        answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour");
    });
    let client = client(address, MINUTE);
    for expected in ["one", "two", "", "four"] {
        assert_eq!(get(&client).await, expected);
    }
    server.join().unwrap();
}

#[tokio::test]
async fn request_whose_connection_was_closed_before_it_goes_over_another() {
    let marker = TcpListener::bind("127.0.0.1:0").unwrap();
    let marked = marker.local_addr().unwrap();
    let (address, server) = server(move |listener| {
        let mut first = accepted(&listener);
        head(&mut first);
        answer(&mut first, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1");
        let (go, _) = marker.accept().unwrap();
        drop(first);
        drop(go);
        let mut second = accepted(&listener);
        head(&mut second);
        answer(&mut second, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2");
    });
    let client = client(address, MINUTE);
    assert_eq!(get(&client).await, "1");
    // Ends behind the end of the connection, so the runtime has seen both.
    let mut go = tokio::net::TcpStream::connect(marked).await.unwrap();
    assert_eq!(go.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(get(&client).await, "2");
    server.join().unwrap();
}

#[tokio::test]
async fn connection_that_was_just_made_and_is_closed_is_not_tried_again() {
    let (closed, is_closed) = std::sync::mpsc::channel();
    let (address, server) = server(move |listener| {
        drop(accepted(&listener));
        closed.send(()).unwrap();
        // Whoever comes next would be answered.
        let mut next = accepted(&listener);
        let mut first_line = String::new();
        next.read_line(&mut first_line).unwrap();
        assert_eq!(first_line, "", "the request went over another connection");
    });
    let client = client(address, MINUTE);
    let mut request = http::Request::new(Body::empty());
    *request.uri_mut() = client.url().clone();
    // The runtime's only thread waits for the end of the connection before it learns that there is one.
    let (answer, ()) = tokio::join!(client.send(request), async { is_closed.recv().unwrap() });
    assert!(matches!(answer, Err(SendError::Broken { .. })), "{answer:?}");
    drop(TcpStream::connect(address).unwrap());
    server.join().unwrap();
}

#[tokio::test]
async fn body_that_is_dropped_early_closes_its_connection() {
    let (address, server) = server(|listener| {
        let mut stream = accepted(&listener);
        head(&mut stream);
        answer(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    let client = client(address, MINUTE);
    let mut request = http::Request::new(Body::empty());
    *request.uri_mut() = client.url().clone();
    let mut body = client.send(request).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    drop(body);
    server.join().unwrap();
    assert_eq!(client.direct.pool.waiting().wires.len(), 0);
}

#[tokio::test]
async fn connection_that_nobody_needs_is_closed_in_time() {
    let (address, server) = server(|listener| {
        let mut stream = accepted(&listener);
        head(&mut stream);
        answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    let client = client(address, Duration::from_millis(20));
    assert_eq!(get(&client).await, "");
    tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
    assert!(client.direct.pool.waiting().reaper.is_none());
}

#[tokio::test]
async fn pool_that_is_dropped_leaves_no_task() {
    let (address, server) = server(|listener| {
        let mut stream = accepted(&listener);
        head(&mut stream);
        answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    let client = client(address, MINUTE);
    assert_eq!(get(&client).await, "");
    let tasks = tokio::runtime::Handle::current().metrics();
    assert_eq!(tasks.num_alive_tasks(), 1);
    drop(client);
    server.join().unwrap();
    tokio::task::yield_now().await;
    assert_eq!(tasks.num_alive_tasks(), 0);
}
