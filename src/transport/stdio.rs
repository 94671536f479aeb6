//! Our own stdin and stdout, taken over once for the whole process.
//!
//! tokio's own are a helper thread and a copy, and cannot be cancelled. What they are decides the way:
//!
//! - **Pipes** are reopened through `/proc/self/fd`: a description of our own that we may put into
//!   non-blocking mode. `/dev/null` then replaces the inherited descriptor, or a reader would see no end
//!   of stream while the original stays open.
//! - **Sockets**, what Node gives its children, cannot be reopened: [`super::socket`].
//! - **Everything else** (files, terminals, no `/proc`, pipes that may not be reopened): the helper thread,
//!   which ends with the process.
//!
//! Which way was taken is in the debug log.

use std::{fmt, io};

use super::{Reader, Writer};

/// How one of our standard streams is being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// A pipe, reopened and non-blocking.
    Pipe,
    /// A shared socket, used without changing its flags.
    Socket,
    /// A helper thread with blocking calls.
    Thread,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Thread => "thread",
        })
    }
}

/// Takes over stdin and stdout. What else in this process writes to stdout goes nowhere from now on, which
/// is right: stdout is the wire.
///
/// # Errors
///
/// If the runtime cannot watch them.
pub fn take() -> io::Result<(Reader, Writer)> {
    let (reader, input) = take_stdin()?;
    let (writer, output) = take_stdout()?;
    tracing::debug!(stdin = %input, stdout = %output, "took over our own stdio");
    Ok((reader.widening(), writer.widening()))
}

#[expect(clippy::disallowed_methods, reason = "the fallback this file is there to choose")]
fn helper_stdin() -> (Reader, Way) {
    (Reader::Stdin(tokio::io::stdin()), Way::Thread)
}

#[expect(clippy::disallowed_methods, reason = "the fallback this file is there to choose")]
fn helper_stdout() -> (Writer, Way) {
    (Writer::Stdout(tokio::io::stdout()), Way::Thread)
}

#[cfg(not(unix))]
fn take_stdin() -> io::Result<(Reader, Way)> {
    Ok(helper_stdin())
}

#[cfg(not(unix))]
fn take_stdout() -> io::Result<(Writer, Way)> {
    Ok(helper_stdout())
}

#[cfg(unix)]
use unix::{take_stdin, take_stdout};

#[cfg(unix)]
mod unix {
    use std::{
        fs::File,
        io,
        os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    };

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::{FileType, Mode, OFlags, fstat, open},
    };

    use super::{Reader, Way, Writer, helper_stdin, helper_stdout};
    use crate::transport::{PipeWriter, socket::SharedSocket};

    pub(super) fn take_stdin() -> io::Result<(Reader, Way)> {
        let stdin = io::stdin();
        let taken = match file_type(stdin.as_fd()) {
            Some(FileType::Fifo) => reopened(stdin.as_fd(), OFlags::RDONLY)
                .filter(|_| !is_deserted(stdin.as_fd()))
                .map(|fd| Ok::<_, io::Error>((Reader::pipe(fd)?, Way::Pipe))),
            Some(FileType::Socket) => {
                let fd = stdin.as_fd().try_clone_to_owned()?;
                Some(SharedSocket::reading(fd).map(|socket| (Reader::Socket(socket), Way::Socket)))
            }
            _ => None,
        };
        let Some(taken) = taken else { return Ok(helper_stdin()) };
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        taken
    }

    pub(super) fn take_stdout() -> io::Result<(Writer, Way)> {
        let stdout = io::stdout();
        let taken = match file_type(stdout.as_fd()) {
            Some(FileType::Fifo) => reopened(stdout.as_fd(), OFlags::WRONLY)
                .map(|fd| Ok::<_, io::Error>((Writer::Pipe(PipeWriter::new(fd)?), Way::Pipe))),
            Some(FileType::Socket) => {
                let fd = stdout.as_fd().try_clone_to_owned()?;
                Some(SharedSocket::writing(fd).map(|socket| (Writer::Socket(socket), Way::Socket)))
            }
            _ => None,
        };
        let Some(taken) = taken else { return Ok(helper_stdout()) };
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        taken
    }

    fn file_type(fd: BorrowedFd<'_>) -> Option<FileType> {
        fstat(fd).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
    }

    /// Whether every writer of a pipe is gone. A named pipe that is opened after that tells its new reader
    /// of no end, because it never had a writer while that one was there; so it must be read as it is.
    fn is_deserted(fd: BorrowedFd<'_>) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && fds.iter().any(|fd| fd.revents().contains(PollFlags::HUP))
    }

    /// A description of our own for the same pipe. `None` where the system has no such thing, or forbids
    /// it; a writer whose reader is gone already (`ENXIO`) also takes the helper thread, which will hear
    /// of it at the first write.
    fn reopened(fd: BorrowedFd<'_>, access: OFlags) -> Option<OwnedFd> {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        open(path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()
    }
}
