//! What `shadowcat --version` says of its build. Needs neither git nor the network.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    let tree = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let profile = profile();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    println!("cargo::rustc-env={COMMIT}={}", commit(&tree, &profile));
    println!("cargo::rustc-env=SHADOWCAT_BUILD_RUSTC={}", rustc());
    println!("cargo::rustc-env=SHADOWCAT_BUILD_TARGET={}", variable("TARGET"));
    println!("cargo::rustc-env=SHADOWCAT_BUILD_PROFILE={profile}");
}

/// The profile by its own name; cargo's variable knows only what it inherits from.
fn profile() -> String {
    // …/PROFILE/build/PACKAGE-HASH/out
    let out = PathBuf::from(variable("OUT_DIR"));
    let named = out.ancestors().nth(3).and_then(Path::file_name).and_then(|name| name.to_str());
    named.map_or_else(|| variable("PROFILE"), str::to_owned)
}

fn rustc() -> String {
    first_line(Command::new(variable("RUSTC")).arg("--version")).unwrap_or_else(unknown)
}

/// The commit: what the environment says, or a package's own note, or git.
fn commit(tree: &Path, profile: &str) -> String {
    if let Ok(told) = env::var(COMMIT) {
        return told;
    }
    if let Some(packaged) = packaged(tree) {
        return packaged;
    }
    // Everything would be built anew after each commit of whoever works on this.
    if profile == "debug" {
        return "not recorded in debug builds".to_owned();
    }
    from_git(tree).unwrap_or_else(unknown)
}

/// What `cargo package` notes.
fn packaged(tree: &Path) -> Option<String> {
    let note = fs::read_to_string(tree.join(".cargo_vcs_info.json")).ok()?;
    let (_, behind) = note.split_once("\"sha1\"")?;
    let sha1: String = behind.chars().skip_while(|c| !c.is_ascii_hexdigit()).take(SHORT).collect();
    (sha1.len() == SHORT).then_some(sha1)
}

fn from_git(tree: &Path) -> Option<String> {
    // A tree inside of somebody else's repository has none of its own.
    let git = tree.join(".git");
    let log = git.join("logs/HEAD");
    for watched in [log, tree.join("src"), tree.join("codecs"), tree.join("Cargo.lock")] {
        if git.exists() && watched.exists() {
            println!("cargo::rerun-if-changed={}", watched.display());
        }
    }
    if !git.exists() {
        return None;
    }
    let git = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(tree);
        git
    };
    let commit = first_line(git().args(["rev-parse", &format!("--short={SHORT}"), "HEAD"]))?;
    let is_changed = first_line(git().args(["status", "--porcelain", "--untracked-files=no"])).is_some();
    Some(if is_changed { format!("{commit}, changed since") } else { commit })
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| unknown())
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The environment's word on the commit, and where the program finds it. For builds from a tree without `.git`.
const COMMIT: &str = "SHADOWCAT_BUILD_COMMIT";
/// Digits of a commit that are shown.
const SHORT: usize = 12;
