//! The tree that is measured and the machine that measures: for the record, and to build what takes part.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The top of shadowcat's tree.
pub fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map_or_else(PathBuf::new, Path::to_path_buf)
}

/// What is built and installed for this package.
pub fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target")
}

/// Builds `arguments` with cargo in `folder`; its output is the user's to see.
pub fn build(folder: &Path, arguments: &[&str]) -> io::Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).current_dir(folder).arg("build").args(arguments).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("cargo build {}: {status}", arguments.join(" "))))
    }
}

/// Where cargo puts what it builds in `folder`.
pub fn target_of(folder: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| folder.join("target"), |given| folder.join(given))
}

/// The first line that a command says, on either output.
pub fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(tree()).stdin(Stdio::null()).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

/// What stands behind `name` in what a program says when it is asked for `argument`.
pub fn line_of(program: &Path, argument: &str, name: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

/// Today, as `2026-01-31`.
pub fn date() -> String {
    first_line("date", &["+%Y-%m-%d %H:%M %Z"]).unwrap_or_default()
}

/// The commit, and whether the tree differs from it.
pub fn commit() -> String {
    let commit = first_line("git", &["rev-parse", "--short=12", "HEAD"]).filter(|commit| !commit.contains(' '));
    let commit = commit.unwrap_or_else(|| "unknown: there is no git, or this is not its tree".to_owned());
    let changed = first_line("git", &["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    if changed.is_empty() { commit } else { format!("{commit}, changed") }
}

/// Processor, cores and kernel.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let kernel = first_line("uname", &["-sr"]).unwrap_or_default();
    format!("{model}, {} cores, {kernel}", crate::process::cpus().len())
}

/// How many others wait for the processor: the load of the last minute.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
