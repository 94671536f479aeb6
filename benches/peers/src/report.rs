//! Tables and charts from the raw data. Measures nothing.

mod beside;
mod chart;
mod data;
mod tables;
mod targets;

use std::{fmt::Write as _, fs, io, path::Path};

use crate::{contestant::Kind, record};
use data::Data;

/// Writes `DIR.md` and the charts in `DIR`, from the raw data there.
pub fn render(folder: &Path) -> io::Result<()> {
    let data = Data::new(record::read(folder)?);
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let page = folder.with_extension("md");
    fs::write(&page, markdown(&data, &name))?;
    let others = [chart::starts(&data), chart::sessions(&data)];
    for (file, text) in chart::calls(&data).into_iter().chain(others.into_iter().flatten()) {
        fs::write(folder.join(file), text)?;
    }
    println!("{}", page.display());
    Ok(())
}

/// An error that names what did not come through shadowcat as it was sent, if anything did not.
pub fn complain(folder: &Path) -> io::Result<()> {
    let records = record::read(folder)?;
    let ours = || records.iter().filter(|record| record.contestant == Kind::Shadowcat.name());
    // A real server spells its answers in its own way.
    let wrong = ours().filter(|record| !record.kind.starts_with("real-")).find(|record| {
        let spelled = record.altered + record.wrong + record.errors + record.lost + record.disordered + record.late;
        spelled > 0
    });
    match wrong {
        Some(record) => Err(io::Error::other(format!("not as it was sent: {}", serde_json::to_string(record)?))),
        None if ours().all(|record| record.elapsed_us == 0.0 && record.pss_kib == 0) => {
            Err(io::Error::other("nothing came through shadowcat"))
        }
        None => Ok(()),
    }
}

const HEAD: &str = "\
# Shadowcat beside its peers

```
cargo run --release --manifest-path benches/peers/Cargo.toml -- --peers
```

Whole processes on real pipes and loopback sockets, all in turns in one run; every answer compared byte by byte with what the
server sent. The server and the client are the benchmark's own, and fast. `benches/peers/README.md` says what each column is and
what was decided beforehand. Written by the benchmark from `peers/raw.jsonl`; read ratios, not figures.

## Beside the others

";

const REAL: &str = "\n## A real server\n\nCalls of 100 B on stdio, one at a time, to a server of the official SDK. `altered` is its own spelling, with and without us.\n\n";

fn markdown(data: &Data, folder: &str) -> String {
    let mut out = HEAD.to_owned();
    beside::table(data, &mut out);
    out.push_str("\n## The run\n\n");
    for record in data.of_kind("meta") {
        record.text.lines().for_each(|line| _ = writeln!(out, "- {line}"));
    }
    for record in data.of_kind("end") {
        _ = writeln!(out, "- it took {}", record.text);
    }
    let versions =
        data.of_kind("contestant").map(|record| format!("{}: {}", record.contestant, data::short(&record.text)));
    _ = writeln!(out, "- {}", versions.collect::<Vec<_>>().join(" · "));
    for record in data.of_kind("skipped") {
        _ = writeln!(out, "- {} is missing: {}", record.contestant, record.text);
    }
    let (dropped, all) = data.dropped;
    _ = writeln!(
        out,
        "- {dropped} of {all} rounds of single calls are left out: in them the server itself was disturbed"
    );
    out.push_str("\n## Against the targets\n\n");
    targets::table(data, &mut out);
    out.push_str("\n## Calls\n\nOne at a time for the times; many in flight (32; 16 of 64 KiB, 4 of 1 MiB) for calls/s. Medians over the rounds; p99.9 is of all\ncalls together. CPU is of the proxy's processes alone: with one call at a time, and with many in flight.\n");
    for (file, _) in chart::calls(data) {
        shown(&file, folder, &mut out);
    }
    for place in data.places() {
        tables::calls(data, place, &mut out);
    }
    out.push_str(
        "\n## Notifications\n\nA call that is answered by 500 progress notifications first, again and again.\n\n",
    );
    tables::notifications(data, &mut out);
    out.push_str("\n## Start\n\nFrom before it is executed until the answer to `initialize` is here, and what is resident then. `direct` is the server alone.\n\n");
    tables::starts(data, &mut out);
    if let Some((file, _)) = chart::starts(data) {
        shown(&file, folder, &mut out);
    }
    out.push_str("\n## Idle sessions\n\nEach with its listening stream and one more kept connection. The servers behind the proxies are not counted.\n\n");
    tables::sessions(data, &mut out);
    if let Some((file, _)) = chart::sessions(data) {
        shown(&file, folder, &mut out);
    }
    out.push_str(REAL);
    tables::real(data, &mut out);
    out.push_str("\n## One message of 64 MiB\n\n");
    tables::big(data, &mut out);
    ends(data, &mut out);
    out
}

fn shown(file: &str, folder: &str, out: &mut String) {
    _ = writeln!(out, "\n![{file}]({folder}/{file})");
}

/// What was left behind, and the commands.
fn ends(data: &Data, out: &mut String) {
    let left: Vec<_> = data.of_kind("left").collect();
    if !left.is_empty() {
        out.push_str("\n## Left behind\n\nProcesses that were still there 2 s after their proxy was ended with SIGTERM, or at the end of its input.\n\n");
        let mut lines: Vec<_> = left
            .iter()
            .map(|record| format!("- {} on {}: {}\n", record.contestant, record.link, record.processes))
            .collect();
        lines.sort();
        lines.dedup();
        out.extend(lines);
    }
    out.push_str("\n## Commands\n\n```\n");
    for record in
        data.of_kind("start").filter(|record| record.round == 1 && record.errors == 0 && !record.text.is_empty())
    {
        _ = writeln!(out, "{}, {}: {}", record.link, record.contestant, record.text);
    }
    out.push_str("```\n");
}
