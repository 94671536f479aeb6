//! Which sizes fail, and at whom: proxies have limits on bodies that nobody thinks of until a message is long.

use std::time::Duration;

use super::{asker::Asker, finding::Finding};

/// Sends messages of growing size up to `max` bytes until one fails.
pub(super) async fn check(asker: &mut Asker, max: u64) -> Finding {
    let sizes: Vec<usize> =
        SIZES.into_iter().filter(|size| u64::try_from(*size).is_ok_and(|size| size <= max)).collect();
    if sizes.is_empty() {
        return Finding::skipped(NAME, "not to be tried (--max-size)");
    }
    let mut passed = 0;
    for size in sizes {
        let request = asker.sized(size);
        let failed = match asker.ask(request, PATIENCE).await {
            Ok(answer) if answer.is_answered() => None,
            Ok(answer) => Some((answer.told(), answer.whose(), answer.is_html())),
            Err(what) => Some((what, "the server or something before it".to_owned(), false)),
        };
        if let Some((what, whose, is_before)) = failed {
            let seen = format!("a limit {}, of {whose}: {what}", between(passed, size));
            // A limit of the server's own may be meant; one before it cuts off what the server would take.
            let is_problem = is_before || size <= COMMON;
            let found = if is_problem { Finding::problem(NAME, seen) } else { Finding::warning(NAME, seen) };
            return found.advise(RAISE);
        }
        passed = size;
    }
    Finding::ok(NAME, format!("messages of {} pass", named(passed)))
}

fn between(passed: usize, failed: usize) -> String {
    match passed {
        0 => format!("below {}", named(failed)),
        passed => format!("between {} and {}", named(passed), named(failed)),
    }
}

fn named(size: usize) -> String {
    if size < 1 << 20 { format!("{} KiB", size >> 10) } else { format!("{} MiB", size >> 20) }
}

const NAME: &str = "sizes";
const RAISE: &str = "raise it to the longest message you expect; nginx: client_max_body_size (1 MiB by default); \
                     shadowcat: --max-frame-len; images and files travel as base64, a third longer";
const SIZES: [usize; 4] = [64 << 10, 1 << 20, 4 << 20, 16 << 20];

/// Messages of this size are common: an image, a page.
const COMMON: usize = 1 << 20;

/// Long messages take their time on slow lines.
const PATIENCE: Duration = Duration::from_secs(60);
