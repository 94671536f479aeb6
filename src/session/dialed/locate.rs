//! Where a reference leads that a server gave: the `endpoint` event of HTTP+SSE, the `Location` of a redirect.
//! Only to its own origin: what we send there bears the credentials for it (rules E22 and L2).

use http::{Uri, uri::PathAndQuery};

/// The URI that `reference` stands for, seen from `base` (RFC 3986, 5.2), which must be absolute.
///
/// # Errors
///
/// What is wrong with it, another origin included.
pub fn locate(base: &Uri, reference: &str) -> Result<Uri, &'static str> {
    let reference = reference.split('#').next().unwrap_or_default().trim();
    let target = if let Some(rest) = reference.strip_prefix("//") {
        let scheme = base.scheme_str().unwrap_or("http");
        format!("{scheme}://{rest}").parse().map_err(|_| UNREADABLE)?
    } else if has_scheme(reference) {
        reference.parse().map_err(|_| UNREADABLE)?
    } else {
        let path = PathAndQuery::try_from(merged(base, reference)).map_err(|_| UNREADABLE)?;
        let mut parts = base.clone().into_parts();
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).map_err(|_| UNREADABLE)?
    };
    if origin(&target).is_some() && origin(&target) == origin(base) { Ok(target) } else { Err(ELSEWHERE) }
}

fn has_scheme(reference: &str) -> bool {
    let scheme = reference.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

/// Path and query of a reference without scheme and authority.
fn merged(base: &Uri, reference: &str) -> String {
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let joined = match path {
        "" => base.path().to_owned(),
        path if path.starts_with('/') => without_dots(path),
        path => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            without_dots(&format!("{folder}/{path}"))
        }
    };
    let query = match query {
        None if path.is_empty() => base.query(),
        query => query,
    };
    match query {
        Some(query) => format!("{joined}?{query}"),
        None => joined,
    }
}

/// RFC 3986, 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Scheme, host and port; host names do not differ by case.
fn origin(uri: &Uri) -> Option<(&str, String, u16)> {
    let scheme = uri.scheme_str()?;
    let port = match (uri.port_u16(), scheme) {
        (Some(port), _) => port,
        (None, "http") => 80,
        (None, "https") => 443,
        (None, _) => return None,
    };
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

const UNREADABLE: &str = "it is no URL";
const ELSEWHERE: &str = "it leads to another origin";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_and_stay_at_home() {
        let base: Uri = "http://Host.example:80/a/sse?x=1".parse().unwrap();
        for (reference, found) in [
            ("/messages?session=1", Ok("http://Host.example:80/messages?session=1")),
            ("messages/", Ok("http://Host.example:80/a/messages/")),
            ("../b/./c?d=/../e", Ok("http://Host.example:80/b/c?d=/../e")),
            ("?y=2", Ok("http://Host.example:80/a/sse?y=2")),
            ("", Ok("http://Host.example:80/a/sse?x=1")),
            ("http://host.EXAMPLE/m#f", Ok("http://host.EXAMPLE/m")),
            ("//host.example/m", Ok("http://host.example/m")),
            ("https://host.example/m", Err(ELSEWHERE)),
            ("http://host.example:81/m", Err(ELSEWHERE)),
            ("//evil.example/m", Err(ELSEWHERE)),
            ("file:///etc/passwd", Err(UNREADABLE)),
            ("/a b", Err(UNREADABLE)),
        ] {
            let target = locate(&base, reference).map(|target| target.to_string());
            assert_eq!(target.as_deref(), found.as_ref().copied(), "{reference}");
        }
    }
}
