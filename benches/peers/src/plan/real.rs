//! A real server, of the official SDK for Node or Python, on stdio: directly, and through shadowcat.

use std::{io, path::Path, time::Duration};

use super::{Place, Run};
use crate::{
    contestant::{Kind, Link, Site, running::Running},
    load, machine, process,
    record::Record,
};

/// Longer than other turns: such a server answers some thousand calls in a second.
const TURN: u32 = 3;

impl Run<'_> {
    /// Calls of 100 B, one at a time, in turns; for each of the servers that `setup` has installed.
    pub fn real(&mut self, place: &Place) -> io::Result<()> {
        for (name, words) in servers() {
            if !Path::new(&words[0]).exists() && words[0] != "node" {
                println!("        skipped: the {name} server is not here; benches/peers/setup installs it");
                continue;
            }
            let site = Site { server_words: Some(words), folder: place.site.folder.clone(), ..place.site };
            let mut turns = Vec::new();
            for kind in [Kind::Direct, Kind::Shadowcat] {
                match Running::start(kind, Link::Pipe, &site, place.proxy) {
                    Ok(running) => turns.push(running),
                    Err(error) => println!("        {name} through {} does not start: {error}", kind.name()),
                }
            }
            let done = self.real_turns(place, name, &mut turns);
            for running in turns {
                self.end(place, running)?;
            }
            done?;
        }
        Ok(())
    }

    fn real_turns(&mut self, place: &Place, name: &str, turns: &mut [Running]) -> io::Result<()> {
        process::pin_self(place.ends)?;
        // It warms up for long: the first round is not counted.
        for round in 0..=self.options.rounds {
            for running in &mut *turns {
                let outcome = load::calls(&mut running.client, 100, 1, self.options.time * TURN);
                let record = Record { size: 100, round, ..place.record(name, running.kind) };
                if round > 0 {
                    self.journal.write(&record.with_outcome(outcome, Duration::ZERO))?;
                }
            }
        }
        Ok(())
    }
}

/// The kind of their records, and how they are started.
fn servers() -> [(&'static str, Vec<String>); 2] {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("real");
    let peers = machine::target().join("peers");
    let text = |path: std::path::PathBuf| path.display().to_string();
    let node = vec!["node".to_owned(), text(here.join("server.mjs")), text(peers.join("node"))];
    let python = vec![text(peers.join("python/bin/python")), text(here.join("server.py"))];
    [("real-node", node), ("real-python", python)]
}
