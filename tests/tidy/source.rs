//! Rust source as the rules look at it: code without comments and literals, what it names, its functions.
//! Not a parser; it knows as much Rust as the rules need.

#![expect(clippy::string_slice, reason = "every index comes from `find` or from a character's length")]

/// A text file of the tree.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// `text` with comments and the insides of literals blanked; same lines.
    pub(crate) code: String,
}

/// A path of module names that code mentions, as `tokio::select` or `crate::line::LineDecoder`.
pub(crate) struct Mention {
    pub(crate) path: String,
    pub(crate) line: usize,
}

/// A function and how many lines of its body hold code.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) len: usize,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_only(text) } else { String::new() };
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// Whether the file is `place`, or lies in it: `src/link` has `src/link.rs` and `src/link/pipe.rs`.
    pub(crate) fn is_in(&self, place: &str) -> bool {
        self.path.strip_prefix(place).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }

    /// Every path with `::` in the code, `use` trees taken apart, `super` and `self` resolved.
    pub(crate) fn mentions(&self) -> Vec<Mention> {
        let mut mentions = Vec::new();
        let mut rest = 0;
        while let Some(found) = self.code[rest..].find("::") {
            let at = rest + found;
            let start = self.code[..at].rfind(|c| !is_ident(c)).map_or(0, |before| before + 1);
            // What stands before `::` at the head of a path; inside a path it was taken with its head.
            let end = self.code[start..].find(';').map_or(self.code.len(), |len| start + len);
            let (paths, len) = tree(&self.code[start..end]);
            let line = self.code[..start].matches('\n').count() + 1;
            mentions.extend(paths.into_iter().map(|path| Mention { path: self.resolved(&path), line }));
            rest = (start + len).max(at + 2);
        }
        mentions
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let starts = self.code.match_indices("fn ").map(|(at, _)| at);
        starts.filter(|&at| !self.code[..at].ends_with(is_ident)).filter_map(|at| self.function(at)).collect()
    }

    fn function(&self, at: usize) -> Option<Function> {
        let name: String = self.code[at + 3..].chars().take_while(|&c| is_ident(c)).collect();
        let (mut depth, mut body) = (0_usize, None);
        for (index, c) in self.code[at..].char_indices() {
            match c {
                // A declaration without a body.
                ';' if depth == 0 => return None,
                '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.checked_sub(1)?,
                '{' => {
                    body.get_or_insert((at + index, depth));
                    depth += 1;
                }
                '}' => {
                    depth = depth.checked_sub(1)?;
                    if let Some((start, outside)) = body
                        && outside == depth
                    {
                        let inside = self.code[start + 1..at + index].lines();
                        let len = inside.filter(|line| !line.trim().is_empty()).count();
                        let line = self.code[..at].matches('\n').count() + 1;
                        return (!name.is_empty()).then_some(Function { name, line, len });
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// `super::x` in `src/link/pipe.rs` is `crate::link::x`. An inline module is taken for its file.
    fn resolved(&self, path: &str) -> String {
        let inside = self.path.split_once("src/").map_or("", |(_, inside)| inside).trim_end_matches(".rs");
        let mut module: Vec<&str> = inside.split('/').filter(|name| !matches!(*name, "lib" | "main")).collect();
        let mut names = path.split("::").peekable();
        if !matches!(names.peek(), Some(&("super" | "self"))) {
            return path.to_owned();
        }
        while let Some(&name @ ("super" | "self")) = names.peek() {
            if name == "super" {
                module.pop();
            }
            names.next();
        }
        ["crate"].into_iter().chain(module).chain(names).collect::<Vec<_>>().join("::")
    }
}

/// The paths of a use tree, or of a path in an expression, at the start of `code`; and where it ends.
fn tree(code: &str) -> (Vec<String>, usize) {
    let mut head = String::new();
    let mut at = 0;
    loop {
        let name: String = code[at..].chars().take_while(|&c| is_ident(c)).collect();
        head.push_str(&name);
        at += name.len();
        if !code[at..].starts_with("::") {
            return (vec![head], at);
        }
        at += 2;
        if code[at..].starts_with('{') {
            let (branches, len) = branches(&code[at + 1..]);
            return (branches.iter().map(|branch| format!("{head}::{branch}")).collect(), at + 1 + len);
        }
        if !code[at..].starts_with(is_ident) {
            return (vec![head], at);
        }
        head.push_str("::");
    }
}

fn branches(code: &str) -> (Vec<String>, usize) {
    let (mut paths, mut at) = (Vec::new(), 0);
    while let Some(c) = code[at..].chars().next() {
        if c == '}' {
            return (paths, at + 1);
        }
        if is_ident(c) {
            let (found, len) = tree(&code[at..]);
            paths.extend(found);
            at += len;
        } else {
            at += c.len_utf8();
        }
    }
    (paths, at)
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `text` with comments and the insides of string and character literals replaced by blanks.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_ident = code.ends_with(is_ident);
        let len = comment(rest).or_else(|| literal(rest, after_ident)).unwrap_or(0);
        if len > 0 {
            code.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[len..];
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while rest.starts_with("/*") && at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

fn literal(rest: &str, after_ident: bool) -> Option<usize> {
    let prefix = rest.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    if prefix > 2 || (after_ident && prefix > 0) {
        return None;
    }
    let raw = rest[..prefix].ends_with('r');
    let body = &rest[prefix..];
    if raw {
        let hashes = body.find(|c| c != '#')?;
        let end = format!("\"{}", &body[..hashes]);
        let inside = body[hashes..].strip_prefix('"')?;
        return Some(prefix + hashes + 1 + inside.find(&end)? + end.len());
    }
    if body.starts_with('"') {
        return Some(prefix + quoted(body, '"')?);
    }
    // A lifetime has no closing quote.
    let is_char = body.starts_with("'\\") || body.starts_with('\'') && body.chars().nth(2) == Some('\'');
    if is_char { Some(prefix + quoted(body, '\'')?) } else { None }
}

fn quoted(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a(\"x // {\", 'y', '\\'', b\"z\\\"\", r#\"\"q\"#, &'static str) // {\n/* { /* } */ */ b";
    let code = code_only(text);
    assert_eq!(code.split_whitespace().collect::<String>(), "a(,,,,,&'staticstr)b");
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn use_trees_are_taken_apart_and_resolved() {
    let file =
        Source::new("src/link/pipe.rs", "use super::{a::B, c};\nuse self::d;\nfn f() { std::mem::take(&mut x::Y) }");
    let mentions: Vec<_> = file.mentions().into_iter().map(|mention| (mention.path, mention.line)).collect();
    let expected = [
        ("crate::link::a::B", 1),
        ("crate::link::c", 1),
        ("crate::link::pipe::d", 2),
        ("std::mem::take", 3),
        ("x::Y", 3),
    ];
    assert_eq!(mentions, expected.map(|(path, line)| (path.to_owned(), line)));
}

#[test]
fn functions_are_measured_by_lines_of_code() {
    let text =
        "trait T { fn none(&self); }\nfn two<F: Fn([u8; 2])>(f: F) -> u8 {\n    // why\n\n    f([1; 2]);\n    1\n}\n";
    let functions = Source::new("src/a.rs", text).functions();
    let found: Vec<_> =
        functions.iter().map(|function| (function.name.as_str(), function.line, function.len)).collect();
    assert_eq!(found, [("two", 2, 2)]);
}
