//! Child processes: how they are started, told to end, reaped, and never left behind.
//!
//! A child is started by the *keeper*, a small process of our own that holds nothing but a socket to us:
//! when that socket ends, however we ended, it ends everything that was started under it. See
//! [`keeper`] for the how and the limits of it. The [`ladder`] says when a child is asked, told and forced
//! to end.
//!
//! What the bytes on a child's pipes mean is not known here.

#[cfg(unix)]
pub mod keeper;
pub mod ladder;
pub mod server_log;

use std::{ffi::OsString, fmt, io, path::PathBuf};

/// A server to start: its program, arguments and surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// The program, looked up in `PATH` if it is a bare name. Never comes from the network.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables to set, over the inherited ones.
    pub env: Vec<(OsString, OsString)>,
    /// Whether to start from an empty environment instead of ours.
    pub env_clear: bool,
    /// Where to start it; ours if `None`.
    pub cwd: Option<PathBuf>,
}

/// Names a child to the keeper that started it: its process id, which is also its process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChildId(u32);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The program or the directory is not there, or may not be used.
    #[error("cannot start {}: {source}", program.display())]
    Program {
        /// What was to be started.
        program: OsString,
        /// What the system says.
        source: io::Error,
    },
    /// The directory to start in cannot be entered.
    #[error("cannot start in directory {}: {source}", cwd.display())]
    Directory {
        /// The directory.
        cwd: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The keeper did not do its part.
    #[error("cannot start a child: {0}")]
    Keeper(#[from] io::Error),
}

impl Command {
    /// A command without arguments, in our own surroundings.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with_args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

impl ChildId {
    /// The process id.
    #[must_use]
    pub const fn pid(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl ExitStatus {
    /// Whether the child ended as one that has nothing to complain of.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "status {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
