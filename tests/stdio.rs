//! Our own stdin and stdout, whatever they are: pipes, sockets, files, terminals, nothing at all.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::Command,
};

use rustix::{
    fs::{OFlags, fcntl_getfl},
    process::Signal,
};
use support::{Ended, Launch, Output};
use temp::TempDir;

const MESSAGE: &str = "{\"jsonrpc\":\"2.0\",\"method\":\"x\"}\n";
/// A proxy that sends everything back, and says what it does.
const ECHO: [&str; 5] = ["proxy", "--log-level", "debug", "--", "cat"];

fn has_nonblock(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Asserts a clean end, and how stdin and stdout were used.
#[track_caller]
fn assert_ways(ended: &Ended, stdin: &str, stdout: &str) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let took = ended.stderr.lines().find(|line| line.contains("took over")).unwrap();
    assert!(took.ends_with(&format!("stdin={stdin} stdout={stdout}")), "{took}");
}

// --- pipes and sockets ---------------------------------------------------------------------------------------

#[test]
fn pipes_are_reopened_and_the_clients_descriptions_are_left_alone() {
    let ((their_in, mut our_in), (our_out, their_out)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let (kept_in, kept_out) = (their_in.try_clone().unwrap(), their_out.try_clone().unwrap());
    let mut session = Launch::new(ECHO).stdin(their_in).stdout(their_out).start();
    session.stdout = Output::new(our_out);
    our_in.write_all(MESSAGE.as_bytes()).unwrap();
    assert_eq!(session.stdout.line() + "\n", MESSAGE);
    assert_eq!((has_nonblock(&kept_in), has_nonblock(&kept_out)), (false, false));
    drop((our_in, kept_out));
    assert_ways(&session.wait(), "pipe", "pipe");
}

#[test]
fn sockets_as_node_gives_them_are_used_as_they_are() {
    let ((mut our_in, their_in), (our_out, their_out)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let (kept_in, kept_out) = (their_in.try_clone().unwrap(), their_out.try_clone().unwrap());
    let mut session = Launch::new(ECHO).stdin(OwnedFd::from(their_in)).stdout(OwnedFd::from(their_out)).start();
    session.stdout = Output::new(our_out);
    our_in.write_all(MESSAGE.as_bytes()).unwrap();
    assert_eq!(session.stdout.line() + "\n", MESSAGE);
    assert_eq!((has_nonblock(&kept_in), has_nonblock(&kept_out)), (false, false));
    our_in.shutdown(Shutdown::Write).unwrap();
    // Also for a client that holds the proxy's end of it, the end of stdout comes through.
    assert_ways(&session.wait(), "socket", "socket");
    assert!(!has_nonblock(&kept_out));
}

#[test]
fn large_messages_cross_sockets_both_ways() {
    let ((mut our_in, their_in), (our_out, their_out)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let mut session = Launch::new(ECHO).stdin(OwnedFd::from(their_in)).stdout(OwnedFd::from(their_out)).start();
    session.stdout = Output::new(our_out);
    let message = MESSAGE.replace('x', &"0123456789".repeat(200_000));
    let sent = message.clone();
    let sending = std::thread::spawn(move || our_in.write_all(sent.as_bytes()).map(|()| our_in));
    assert!(session.stdout.take(message.len()) == message.as_bytes());
    drop(sending.join().unwrap());
    assert_ways(&session.wait(), "socket", "socket");
}

#[test]
fn one_socket_may_be_both() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let clone = theirs.try_clone().unwrap();
    let mut session = Launch::new(ECHO).stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(clone)).start();
    session.stdout = Output::new(ours.try_clone().unwrap());
    ours.write_all(MESSAGE.as_bytes()).unwrap();
    assert_eq!(session.stdout.line() + "\n", MESSAGE);
    ours.shutdown(Shutdown::Write).unwrap();
    assert_ways(&session.wait(), "socket", "socket");
}

#[test]
#[cfg(target_os = "linux")]
fn neighbouring_messages_leave_in_few_writes() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    // A socket that keeps writes apart, so that they can be counted.
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let mut session = Launch::new(["proxy", "--", "cat"]).stdout(theirs).start();
    session.stdout = Output::new(File::from(ours));
    session.send(MESSAGE.repeat(1500));
    let (mut received, mut writes) = (0, 0);
    while received < 1500 * MESSAGE.len() {
        received += session.stdout.chunk().len();
        writes += 1;
    }
    assert!(writes < 30, "{writes} writes");
    assert_eq!(session.end().code, Some(0));
}

// --- a client that reads no more -----------------------------------------------------------------------------

#[test]
fn idle_session_ends_when_its_client_reads_no_more() {
    let mut session = Launch::new(ECHO).start();
    session.stderr.line_with("took over");
    session.stdout = Output::closed();
    let stdin = session.stdin.take();
    assert_eq!(session.wait_unread(), Some(0));
    session.assert_gone();
    drop(stdin);
}

#[test]
fn idle_session_on_sockets_ends_when_its_client_reads_no_more() {
    let ((our_in, their_in), (our_out, their_out)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
    let mut session = Launch::new(ECHO).stdin(OwnedFd::from(their_in)).stdout(OwnedFd::from(their_out)).start();
    session.stderr.line_with("took over");
    drop(our_out);
    assert_eq!(session.wait_unread(), Some(0));
    session.assert_gone();
    drop(our_in);
}

#[test]
fn reader_that_has_seen_enough_is_no_failure() {
    let mut session = Launch::new(["proxy", "--", "cat"]).start();
    let request = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n";
    session.send(request);
    session.stdout.line();
    session.stdout = Output::closed();
    // It may be gone before all is written, which is not what is being tested.
    let _ = session.stdin.as_mut().unwrap().write_all(request.repeat(1000).as_bytes());
    let ended = session.wait();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn flood_on_a_socket_does_not_hide_a_signal() {
    let (mut our_in, their_in) = UnixStream::pair().unwrap();
    let mut session = Launch::new(["proxy", "--shutdown-grace", "100ms", "--", "sh", "-c", "cat >/dev/null"])
        .stdin(OwnedFd::from(their_in))
        .start();
    let flood = std::thread::spawn(move || while our_in.write_all(MESSAGE.repeat(1000).as_bytes()).is_ok() {});
    session.process("cat");
    session.signal(Signal::TERM);
    assert_eq!(session.wait().code, Some(0));
    flood.join().unwrap();
}

// --- everything else -----------------------------------------------------------------------------------------

#[test]
fn files_are_read_and_written_to_their_end() {
    let here = TempDir::new().unwrap();
    let all = MESSAGE.repeat(5000);
    fs::write(here.join("in"), &all).unwrap();
    let (stdin, stdout) = (File::open(here.join("in")).unwrap(), File::create(here.join("out")).unwrap());
    let mut session = Launch::new(ECHO).stdin(stdin).stdout(stdout).start();
    assert_ways(&session.wait(), "thread", "thread");
    assert!(fs::read_to_string(here.join("out")).unwrap() == all);
}

#[test]
fn nothing_at_all_is_an_end() {
    for redirection in ["<&-", "</dev/null", "<&- >&-", "</dev/null >/dev/null"] {
        let script = format!("exec \"$0\" proxy --log-level debug -- cat {redirection}");
        let mut session = Launch::of("sh", ["-c", &script, env!("CARGO_BIN_EXE_shadowcat")]).start();
        let stdin = session.stdin.take();
        let ended = session.wait();
        assert_ways(&ended, "thread", if redirection.contains('>') { "thread" } else { "pipe" });
        drop(stdin);
    }
}

/// A named pipe, opened by its only reader, and its writer.
fn fifo(here: &TempDir) -> (PathBuf, File, File) {
    let path = here.join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Opening it for both waits for nobody.
    let both = File::options().read(true).write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    let writer = File::options().write(true).open(&path).unwrap();
    drop(both);
    (path, reader, writer)
}

#[test]
fn named_pipe_is_read_to_its_end() {
    let here = TempDir::new().unwrap();
    let (_, reader, mut writer) = fifo(&here);
    let mut session = Launch::new(ECHO).stdin(reader).start();
    writer.write_all(MESSAGE.as_bytes()).unwrap();
    assert_eq!(session.stdout.line() + "\n", MESSAGE);
    drop(writer);
    assert_ways(&session.wait(), "pipe", "pipe");
}

#[test]
fn named_pipe_whose_writer_is_gone_is_read_to_its_end() {
    for said in ["", MESSAGE] {
        let here = TempDir::new().unwrap();
        let (_, reader, mut writer) = fifo(&here);
        writer.write_all(said.as_bytes()).unwrap();
        drop(writer);
        let mut session = Launch::new(ECHO).stdin(reader).start();
        let ended = session.wait();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), said), "{}", ended.stderr);
    }
}

#[test]
fn named_pipe_that_nobody_reads_is_a_clean_end() {
    let here = TempDir::new().unwrap();
    let (path, reader, writer) = fifo(&here);
    drop(reader);
    let mut session = Launch::new(ECHO).stdout(writer).start();
    let _ = session.stdin.as_mut().unwrap().write_all(MESSAGE.as_bytes());
    assert_eq!(session.wait().code, Some(0));
    drop(path);
}

#[test]
#[cfg(target_os = "linux")]
fn terminal_can_be_a_client() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let end = File::options().read(true).write(true).open(path).unwrap();
    let mut session = Launch::new(ECHO).stdin(end.try_clone().unwrap()).stdout(end).start();
    let mut keyboard = File::from(terminal.try_clone().unwrap());
    session.stdout = Output::new(File::from(terminal));
    keyboard.write_all(MESSAGE.as_bytes()).unwrap();
    // Once from the terminal itself, once from the server.
    assert_eq!(session.stdout.line().trim_end(), MESSAGE.trim_end());
    assert_eq!(session.stdout.line().trim_end(), MESSAGE.trim_end());
    keyboard.write_all(b"\x04").unwrap();
    assert_ways(&session.wait(), "thread", "thread");
}
