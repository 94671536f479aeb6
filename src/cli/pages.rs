//! What the definition of the command line is turned into for others to read: completions for shells, and pages
//! of the manual. All of it comes from the one definition in `args`; nothing is written down twice.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use clap::{Command, builder::StyledStr};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{
    args,
    exit::{Failure, RUNTIME, USAGE},
    version,
};

/// `shadowcat completions SHELL`.
pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::definition(), NAME, &mut script);
    print(&script)
}

/// `shadowcat man [COMMAND…]`.
pub(crate) fn manual(of: &[String]) -> Result<ExitCode, Failure> {
    let mut page = Vec::new();
    let written = write_page(&find(of)?, &mut page);
    written.map_err(|error| Failure::new(RUNTIME, format!("cannot write the page: {error}")))?;
    print(&page)
}

fn write_page(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone()).manual(MANUAL).source(format!("{NAME} {}", version::SHORT));
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    write_as_it_is("FORMS", command.get_before_help(), page);
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    write_as_it_is("NOTES", command.get_after_help(), page);
    if command.get_version().is_some() {
        man.render_version_section(page)?;
    }
    Ok(())
}

/// A section whose lines stay as they are, unlike those that clap_mangen writes.
fn write_as_it_is(title: &str, text: Option<&StyledStr>, page: &mut Vec<u8>) {
    let Some(text) = text else { return };
    page.extend_from_slice(format!(".SH {title}\n.nf\n").as_bytes());
    for line in text.to_string().lines() {
        // A dot or a quote at its start would make it a command.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        page.extend_from_slice(format!("{guard}{line}\n").as_bytes());
    }
    page.extend_from_slice(b".fi\n");
}

/// The command with these names, one below the other.
fn find(names: &[String]) -> Result<Command, Failure> {
    let mut command = args::definition().disable_help_subcommand(true);
    // Names of pages and their usage lines are made here: `shadowcat-proxy`.
    command.build();
    for name in names {
        let Some(below) = command.find_subcommand(name) else {
            let has: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            let pages = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            return Err(Failure::new(
                USAGE,
                format!("no page for '{name}'; below '{}' are: {pages}", command.get_name()),
            ));
        };
        command = below.clone();
    }
    Ok(command)
}

/// Prints to stdout, which is no wire here.
pub(crate) fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(RUNTIME, format!("cannot write to stdout: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

const NAME: &str = "shadowcat";
const MANUAL: &str = "Shadowcat Manual";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_below_are_found_and_others_named() {
        let page = |names: &[&str]| find(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(page(&["pipe"]).unwrap().get_display_name(), Some("shadowcat-pipe"));
        assert_eq!(page(&[]).unwrap().get_name(), NAME);
        for wrong in [&["poxy"][..], &["__demo-server"], &["pipe", "x"]] {
            assert!(page(wrong).is_err(), "{wrong:?}");
        }
    }
}
