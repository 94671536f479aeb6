//! Both ends of a proxy that are sockets of lines: a server that does what it is asked, and a client in the place of the
//! one on stdin.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process::ChildStdin,
    thread,
};

use serde_json::Value;

use crate::{
    stage::OPTIONS,
    support::{Launch, Output, Session},
};

/// A server on a Unix socket that answers requests; one to `run` first gets the bytes of the file it names.
pub(crate) fn server(path: &Path) -> String {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks off is what tables are about.
            thread::spawn(move || serve(&stream));
        }
    });
    format!("unix:{}", path.display())
}

fn serve(mut to: &UnixStream) -> io::Result<()> {
    let mut from = BufReader::new(to.try_clone()?);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        let asked: Value = serde_json::from_slice(&line).unwrap_or_default();
        line.clear();
        let (Some(id), Some(_)) = (asked.get("id"), asked.get("method")) else { continue };
        if let Some(file) = asked["params"]["arguments"]["steps"][0]["file"].as_str() {
            let said = fs::read(file)?;
            // Where the call's own id is to be, which is a text of few bytes.
            let mut rest = &said[..];
            while let Some(at) = rest.windows(3).position(|bytes| bytes == b"$ID") {
                to.write_all(&rest[..at])?;
                to.write_all(id.to_string().as_bytes())?;
                rest = &rest[at + 3..];
            }
            to.write_all(rest)?;
        }
        to.write_all(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n").as_bytes())?;
    }
    Ok(())
}

/// A proxy that listens for lines at `path`, with one client, whose ends are those of the session.
pub(crate) fn client(path: &Path, server: &[&str]) -> Session {
    let listen = format!("unix:{}", path.display());
    let mut session = Launch::new([&["proxy", "--listen", &listen], &OPTIONS[..], server].concat()).start();
    session.stderr.line_with("listening on ");
    let socket = UnixStream::connect(path).unwrap();
    session.stdout = Output::new(socket.try_clone().unwrap());
    session.stdin = Some(ChildStdin::from(OwnedFd::from(socket)));
    session
}
