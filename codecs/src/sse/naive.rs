//! The whole-buffer decoder a reader of the specification would write: the oracle of tests and fuzzing.

/// What a decoder said, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Event { at: u64, event: Vec<u8>, data: Vec<u8>, id: Option<Vec<u8>> },
    TooLarge { at: u64, limit: usize },
}

/// What a decoder knows at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) said: Vec<Said>,
    pub(crate) last_id: Option<Vec<u8>>,
    pub(crate) retry: Option<u64>,
}

#[derive(Default)]
struct Event {
    at: Option<u64>,
    refused: bool,
    data: Option<Vec<u8>>,
    event: Vec<u8>,
}

/// Decodes `bytes` with a limit on data and one on type and id.
pub(crate) fn naive(bytes: &[u8], max_event_len: usize, max_field_len: usize) -> Heard {
    let mut heard = Heard { said: Vec::new(), last_id: None, retry: None };
    let mut open = Event::default();
    let mut id = None;
    for (at, line, ended) in lines(bytes) {
        if line.is_empty() && ended {
            if let Some(at) = open.at {
                heard.last_id.clone_from(&id);
                if let Some(data) = open.data {
                    let event = if open.event.is_empty() { MESSAGE.to_owned() } else { open.event };
                    heard.said.push(Said::Event { at, event, data, id: id.clone() });
                }
            }
            open = Event::default();
            continue;
        }
        let mut halves = line.splitn(2, |&byte| byte == b':');
        let (name, value) = match (halves.next(), halves.next()) {
            (Some(name), Some(value)) => (name, value),
            (Some(name), None) if ended => (name, &b""[..]),
            // The end of a name that has no end may still come.
            _ => continue,
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let joined_len = open.data.as_ref().map_or(0, |data| data.len() + 1) + value.len();
        let too_long = if name == b"data" { joined_len > max_event_len } else { value.len() > max_field_len };
        match name {
            b"data" | b"event" | b"id" if too_long && open.refused => {}
            b"data" | b"event" | b"id" if too_long => {
                let limit = if name == b"data" { max_event_len } else { max_field_len };
                let at = *open.at.get_or_insert(at);
                heard.said.push(Said::TooLarge { at, limit });
                open = Event { at: Some(at), refused: true, ..Event::default() };
            }
            _ if !ended => {}
            b"data" | b"event" if open.refused => {}
            b"data" => {
                open.at.get_or_insert(at);
                match &mut open.data {
                    None => open.data = Some(value.to_owned()),
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                }
            }
            b"event" => {
                open.at.get_or_insert(at);
                open.event = value.to_owned();
            }
            b"id" if !value.contains(&0) => {
                open.at.get_or_insert(at);
                id = Some(value.to_owned());
            }
            b"retry" if !too_long && !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let digits = String::from_utf8_lossy(value);
                heard.retry = Some(digits.parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }
    heard
}

/// Offset, bytes, and whether the line has an end, of each line.
fn lines(bytes: &[u8]) -> Vec<(u64, &[u8], bool)> {
    let mut rest = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let at = (bytes.len() - rest.len()) as u64;
        let len = rest.iter().position(|&byte| byte == b'\r' || byte == b'\n');
        let (line, behind) = rest.split_at(len.unwrap_or(rest.len()));
        lines.push((at, line, len.is_some()));
        rest = behind.strip_prefix(b"\r\n").or_else(|| behind.get(1..)).unwrap_or_default();
    }
    lines
}

const MESSAGE: &[u8] = b"message";
