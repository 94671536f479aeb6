//! One member of a JSON object, found without reading what is not asked for.
//!
//! Trusts that the text is JSON: what is not gives `None` or nonsense, never a panic.

/// The raw value of `key` in `object`.
pub fn member<'a>(object: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut at = skip_space(object, 0);
    if object.get(at) != Some(&b'{') {
        return None;
    }
    at += 1;
    loop {
        let name_at = skip_space(object, at);
        let name_end = skip_string(object, name_at)?;
        let colon = skip_space(object, name_end);
        if object.get(colon) != Some(&b':') {
            return None;
        }
        let value_at = skip_space(object, colon + 1);
        let value_end = skip_value(object, value_at)?;
        if object.get(name_at + 1..name_end - 1)? == key.as_bytes() {
            return object.get(value_at..value_end);
        }
        at = skip_space(object, value_end);
        if object.get(at) != Some(&b',') {
            return None;
        }
        at += 1;
    }
}

/// What is between the quotes of a raw string.
pub fn unquoted(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn skip_space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// The offset behind the string that begins at `at`.
fn skip_string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn skip_value(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => skip_string(text, at),
        b'{' | b'[' => skip_nested(text, at),
        _ => Some(at + text[at..].iter().take_while(|byte| !b",}] \t\r\n".contains(byte)).count()),
    }
}

fn skip_nested(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match text.get(at)? {
            b'"' => at = skip_string(text, at)? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_wherever_they_stand() {
        let text = br#" {"a" : {"id":[1,"}"]}, "t":"x\"y", "id" : 17 , "n":null}"#;
        assert_eq!(member(text, "id"), Some(&b"17"[..]));
        assert_eq!(member(text, "a").and_then(|inner| member(inner, "id")), Some(&br#"[1,"}"]"#[..]));
        assert_eq!(member(text, "t").and_then(unquoted), Some(&br#"x\"y"#[..]));
        assert_eq!(member(text, "n"), Some(&b"null"[..]));
        assert_eq!(member(text, "x"), None);
        for end in 0..text.len() {
            member(&text[..end], "n");
        }
    }
}
