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
pub mod last_words;
pub mod server_log;

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
};

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
    /// Variables of ours that it does not inherit.
    pub env_remove: Vec<OsString>,
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
    #[error("cannot start {}: {source}{}", program.display(), look_at(program, source))]
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

/// What to look at if a program cannot be started.
fn look_at(program: &OsStr, source: &io::Error) -> &'static str {
    let is_path = Path::new(program).components().count() > 1;
    match source.kind() {
        io::ErrorKind::NotFound if program.to_string_lossy().contains(char::is_whitespace) => {
            "; the program and each of its arguments are words of their own"
        }
        io::ErrorKind::NotFound if is_path => "; it is not there, or the interpreter that its first line names is not",
        io::ErrorKind::NotFound => "; is it installed, and on PATH?",
        io::ErrorKind::PermissionDenied => {
            "; is it a program, and executable? Scripts may need theirs named: python FILE"
        }
        _ => "",
    }
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

    /// Whether the program is there, as far as looking for it tells: whether it can be started is only known
    /// once it was.
    #[must_use]
    pub fn is_found(&self) -> bool {
        let program = Path::new(&self.program);
        if program.components().count() > 1 {
            let from = self.cwd.as_deref().unwrap_or_else(|| Path::new(""));
            return from.join(program).is_file();
        }
        let own = self.env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
        let inherited = || if self.env_clear { None } else { env::var_os("PATH") };
        let Some(path) = own.or_else(inherited) else { return true };
        env::split_paths(&path).any(|directory| directory.join(program).is_file())
    }
}

impl ChildId {
    #[cfg(test)]
    pub(crate) const fn new(pid: u32) -> Self {
        Self(pid)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_looked_for_where_it_would_be_started_from() {
        let own = env::current_exe().unwrap();
        assert!(Command::new("sh").is_found() && Command::new(&own).is_found());
        assert!(!Command::new("no-such-program-4711").is_found());
        assert!(!Command::new("/nowhere/sh").is_found());
        let mut here = Command::new(Path::new(".").join(own.file_name().unwrap()));
        here.cwd = own.parent().map(Path::to_owned);
        assert!(here.is_found());
        let mut elsewhere = Command::new("sh");
        elsewhere.env.push(("PATH".into(), "/nowhere".into()));
        assert!(!elsewhere.is_found());
    }
}
