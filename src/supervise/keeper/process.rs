//! What the re-executed process does: one thread, one loop over the socket and SIGCHLD.
//!
//! It holds no bytes of any peer and knows nothing of sessions. Everything it starts, and everything those
//! start, is its descendant and stays so, because it is a subreaper; so "no child left" is a question it can
//! ask the system.

use std::{
    collections::HashSet,
    io::{self, IoSliceMut, Read as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, wait},
};

use super::{
    TERM_TIME,
    wire::{Event, Request},
};
use crate::supervise::{ChildId, Command, ExitStatus, ladder::Push};

/// How long the system may take to end what got KILL. Only a process stuck in the kernel needs more, and
/// that one nobody can end.
const KILL_TIME: Duration = Duration::from_secs(2);

/// Fewest rounds of KILL: on a machine so busy that we hardly run, time alone says little.
const MIN_KILLS: u32 = 100;

/// The process's whole life.
pub(super) fn run() -> ExitCode {
    match Keeping::start() {
        Ok(mut keeping) => {
            // Whatever ended the loop, the proxy is gone or cannot be talked to any more.
            let served = keeping.serve();
            keeping.end_all();
            if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(_) => ExitCode::FAILURE,
    }
}

struct Keeping {
    socket: UnixStream,
    /// Readable after a SIGCHLD.
    child_signal: UnixStream,
    /// Bytes of requests not yet complete.
    unread: BytesMut,
    /// Descriptors that came with them.
    descriptors: Vec<OwnedFd>,
    /// Children we started and have not reaped: their ids cannot mean another process or group.
    running: HashSet<ChildId>,
}

/// What a look at the children found.
#[derive(PartialEq, Eq)]
enum Left {
    None,
    Some,
}

impl Keeping {
    fn start() -> io::Result<Self> {
        become_subreaper()?;
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (child_signal, signalled) = UnixStream::pair()?;
        child_signal.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, signalled)?;
        let (unread, descriptors) = (BytesMut::new(), Vec::new());
        Ok(Self { socket, child_signal, unread, descriptors, running: HashSet::new() })
    }

    /// Serves requests until the proxy's end of the socket is closed.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.child_signal, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                polled => polled?,
            };
            let [has_request, has_signal] = fds.map(|fd| !fd.revents().is_empty());
            if has_signal {
                self.take_signals();
                self.reap(Self::tell_exit)?;
            }
            if has_request {
                if self.receive()? == 0 {
                    return Ok(());
                }
                while let Some(request) = Request::decode(&mut self.unread)? {
                    self.handle(request)?;
                }
            }
        }
    }

    fn handle(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Spawn(command) => {
                let fds: [OwnedFd; 3] = std::mem::take(&mut self.descriptors)
                    .try_into()
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                let event = match spawn(&command, fds) {
                    Ok(child) => {
                        self.running.insert(child);
                        Event::Spawned(child)
                    }
                    Err(error) => Event::Failed(error.raw_os_error().unwrap_or_default()),
                };
                self.tell(&event)
            }
            Request::Push(child, push) => {
                if let (true, Some(group)) = (self.running.contains(&child), pid(child)) {
                    let signal = match push {
                        Push::Terminate => Signal::TERM,
                        Push::Kill => Signal::KILL,
                    };
                    // It may have ended this very moment; then there is nothing to signal.
                    let _ = kill_process_group(group, signal);
                }
                Ok(())
            }
        }
    }

    /// Reads what is there, with the descriptors that came along.
    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.unread.extend_from_slice(chunk.get(..received.bytes).unwrap_or_default());
        Ok(received.bytes)
    }

    fn tell(&mut self, event: &Event) -> io::Result<()> {
        io::Write::write_all(&mut self.socket, &event.encode())
    }

    fn tell_exit(&mut self, child: ChildId, status: ExitStatus) -> io::Result<()> {
        self.tell(&Event::Exited(child, status))
    }

    fn take_signals(&mut self) {
        let mut taken = [0; 64];
        while matches!(self.child_signal.read(&mut taken), Ok(1..)) {}
    }

    /// Reaps everything that has ended, orphaned grandchildren too; tells of our own children.
    fn reap(&mut self, mut told: impl FnMut(&mut Self, ChildId, ExitStatus) -> io::Result<()>) -> io::Result<Left> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let child = ChildId(pid.as_raw_nonzero().get().cast_unsigned());
                    if let (true, Some(status)) = (self.running.remove(&child), exit_status(status)) {
                        told(self, child, status)?;
                    }
                }
                Ok(None) => return Ok(Left::Some),
                Err(Errno::INTR) => {}
                Err(_no_children) => return Ok(Left::None),
            }
        }
    }

    /// Ends every descendant: TERM, then KILL, until the system says that none is left.
    ///
    /// Only direct children get a signal, because only their ids are certain as long as we have not reaped
    /// them; what they leave behind becomes our direct child in the next round.
    fn end_all(&mut self) {
        let start = now();
        let mut termed = HashSet::new();
        let mut kills = 0;
        while kills < MIN_KILLS || now() < start + TERM_TIME + KILL_TIME {
            let reaped = self.reap(|_, _, _| Ok(()));
            if matches!(reaped, Ok(Left::None)) {
                return;
            }
            let killing = now() >= start + TERM_TIME;
            kills += u32::from(killing);
            for child in self.to_end() {
                if killing {
                    signal(child, Signal::KILL);
                } else if termed.insert(child.pid) {
                    signal(child, Signal::TERM);
                }
            }
            self.await_signal(LOOK_AGAIN);
        }
    }

    /// Whom to signal: what the system says are our children, or else those we know of.
    fn to_end(&self) -> Vec<DirectChild> {
        let found = direct_children();
        if !found.is_empty() {
            return found;
        }
        self.running.iter().map(|child| child.0.cast_signed()).map(|pid| DirectChild { pid, group: pid }).collect()
    }

    /// Waits for the next SIGCHLD, but not for long: a grandchild changes parents without one.
    fn await_signal(&mut self, at_most: Duration) {
        let at_most = Timespec::try_from(at_most).ok();
        let mut fds = [PollFd::new(&self.child_signal, PollFlags::IN)];
        let _ = poll(&mut fds, at_most.as_ref());
        self.take_signals();
    }
}

/// A process whose parent we are.
#[derive(Debug, Clone, Copy)]
struct DirectChild {
    pid: i32,
    group: i32,
}

/// All processes whose parent we are, read from `/proc`. Empty where there is no such thing.
fn direct_children() -> Vec<DirectChild> {
    let us = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (parent, group) = parent_and_group(&stat)?;
            (parent == us).then_some(DirectChild { pid, group })
        })
        .collect()
}

/// Fields 4 and 5 of `/proc/PID/stat`. The second field is a name in brackets that may hold anything.
fn parent_and_group(stat: &str) -> Option<(i32, i32)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// To the child, and to its group if it leads one: our direct child is not reaped, so both ids are its own.
fn signal(child: DirectChild, signal: Signal) {
    let Some(pid) = Pid::from_raw(child.pid) else { return };
    let _ = kill_process(pid, signal);
    if child.group == child.pid {
        let _ = kill_process_group(pid, signal);
    }
}

fn spawn(command: &Command, [stdin, stdout, stderr]: [OwnedFd; 3]) -> io::Result<ChildId> {
    let mut process = std::process::Command::new(&command.program);
    if command.env_clear {
        process.env_clear();
    }
    if let Some(cwd) = &command.cwd {
        process.current_dir(cwd);
    }
    process
        .args(&command.args)
        .envs(command.env.iter().map(|(key, value)| (key, value)))
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    die_with_us(&mut process);
    // Dropping the handle neither kills nor reaps: that is the loop's work.
    process.spawn().map(|child| ChildId(child.id()))
}

/// The belt beside the braces: should the keeper itself be killed, its direct children are too.
///
/// The one island of unsafe code in this crate. Safe code has no way to run anything between `fork` and
/// `exec`, and a trampoline program would hide from us why a program could not be started.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the island: see above")]
fn die_with_us(process: &mut std::process::Command) {
    let set = || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. `set` is one system call,
    // `prctl`, made without allocating, locking or touching memory that another thread may hold.
    unsafe { process.pre_exec(set) };
}

#[cfg(not(target_os = "linux"))]
fn die_with_us(_process: &mut std::process::Command) {}

#[cfg(target_os = "linux")]
fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Elsewhere an orphaned grandchild goes to init, and only its group can be ended.
#[cfg(not(target_os = "linux"))]
fn become_subreaper() -> io::Result<()> {
    Ok(())
}

fn pid(child: ChildId) -> Option<Pid> {
    Pid::from_raw(child.0.cast_signed())
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let code = status.exit_status().map(ExitStatus::Code);
    code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}

/// This process has no runtime, and no tests on paused time.
#[expect(clippy::disallowed_methods, reason = "a process of its own")]
fn now() -> Instant {
    Instant::now()
}

/// How often to look for new orphans while ending everything.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        assert_eq!(parent_and_group("7 (a) b) (c)) S 3 4 5 0"), Some((3, 4)));
        assert_eq!(parent_and_group("7 (sh) R 1 1"), Some((1, 1)));
        assert_eq!(parent_and_group("7 (sh"), None);
    }

    #[test]
    fn our_own_stat_is_found() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (parent, _) = parent_and_group(&stat).unwrap();
        assert_eq!(parent.cast_unsigned(), std::os::unix::process::parent_id());
    }
}
