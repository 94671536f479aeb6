//! The mock server on stdin and stdout: what one read brought is answered in one write.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsFd as _,
};

use crate::{
    answer::{self, Reply},
    lane::Inbox,
};

/// Serves until the end of stdin.
pub fn serve() -> io::Result<()> {
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (mut inbox, mut out) = (Inbox::default(), Vec::new());
    while inbox.fill(&mut stdin)? > 0 {
        while let Some(line) = inbox.line() {
            append(line, &mut out);
            if out.len() > MAX_UNSENT_LEN {
                stdout.write_all(&out)?;
                out.clear();
            }
        }
        stdout.write_all(&out)?;
        out.clear();
    }
    Ok(())
}

const MAX_UNSENT_LEN: usize = 64 << 10;

fn append(line: &[u8], out: &mut Vec<u8>) {
    let mut last = Vec::new();
    match answer::answer(line, &mut last) {
        Reply::Nothing => return,
        Reply::One | Reply::Opened => {}
        Reply::Many { count, token } => {
            for index in 1..=count {
                answer::notification(&token, index, out);
                out.push(b'\n');
            }
        }
    }
    out.append(&mut last);
    out.push(b'\n');
}
