//! What is said of an object to whoever reads it: headers that a server keeps with it and gives back.
//!
//! Comes in: an answer, the name of a file, what whoever asked for the job wants said; goes out: names and values that every
//! service means alike (`content-type`), and `meta-NAME` for what others keep with an object. Each service has its own headers
//! for them. The type of a content is that of its name's ending, where nobody has said another.

use std::path::Path;

use bulkhaul_engine::error::Refusal;
use http::{HeaderName, HeaderValue};

use crate::objects::KEPT;
use crate::objects::client::Answer;

/// What HTTP itself has for it (RFC 9110 and 9111).
const HTTP: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    CONTENT_TYPE,
    "expires",
];
const CONTENT_TYPE: &str = "content-type";
/// Before the name of what others keep.
pub const META: &str = "meta-";
/// How a body came, which servers may take for how the content is packed.
const CHUNKED: &str = "aws-chunked";
/// How many metadata there are that S3 can't tell.
const MISSING: &str = "x-amz-missing-meta";
/// By which a service is told of a content what it calls it by, and not how to keep it.
const TAGS: [&str; 2] = ["x-amz-tagging", "x-ms-tags"];
/// In the names of metadata, on the services.
const METADATA: &str = "-meta-";
/// Types that are missing among those of others.
const MORE_TYPES: [(&str, &str); 1] = [("zst", "application/zstd")];

/// Whether HTTP itself has it.
pub fn is_of_http(name: &str) -> bool {
    HTTP.contains(&name)
}

/// Whether a header is about a content, and not about how a service keeps it.
pub fn is_of_content(name: &str) -> bool {
    is_of_http(name) || TAGS.contains(&name) || name.contains(METADATA)
}

/// Whether a name is among these, of which those that end with a hyphen are the beginnings of several.
pub fn is_among(names: &[&str], name: &str) -> bool {
    let is = |known: &&str| name == *known || known.ends_with('-') && name.starts_with(*known);
    names.iter().any(is)
}

/// Whether all signatures and servers mean the same by it: no tab, nothing but ASCII.
fn is_plain(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Refuses what can't be said of an object. `saying`: the header for it, where there is one.
pub fn check(headers: &[(String, String)], saying: impl Fn(&str) -> Option<String>) -> Result<(), Refusal> {
    for (name, value) in headers {
        let wrong = |why: &str| Err(Refusal::Usage(format!("headers: {name}: {why}")));
        let metadata = name.split_once(METADATA).map(|(_, name)| name);
        if metadata.is_some_and(|name| KEPT.contains(&name)) {
            return wrong("this is what bulkhaul itself keeps with an object");
        }
        if saying(name).is_none() || HeaderName::from_bytes(name.as_bytes()).is_err() {
            return wrong("the destination keeps no such thing with an object");
        }
        if !is_plain(value.as_bytes()) {
            return wrong("its value is not plain ASCII");
        }
    }
    Ok(())
}

/// What a server says of an object, and names of what can't be taken along. `before` the names of metadata;
/// `is_ours`: what of them has its own place.
pub fn of(answer: &Answer, before: &str, is_ours: impl Fn(&str) -> bool) -> (Vec<(String, String)>, Vec<String>) {
    let (mut said, mut untold): (Vec<(String, String)>, Vec<String>) = (Vec::new(), Vec::new());
    for name in answer.headers.keys() {
        let name = name.as_str();
        let key = match name.strip_prefix(before) {
            Some(other) if is_ours(other) => continue,
            Some(other) => format!("{META}{other}"),
            None if is_of_http(name) => name.to_owned(),
            None if name == MISSING => {
                untold.push(format!("{META}that S3 does not tell"));
                continue;
            }
            None => continue,
        };
        // Told several times it is a list (RFC 9110, 5.3).
        let values: Vec<&[u8]> = answer.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        match str::from_utf8(&values.join(&b", "[..])) {
            Ok(value) if is_plain(value.as_bytes()) && key != META => said.push((key, value.to_owned())),
            _ => untold.push(key),
        }
    }
    said.retain_mut(|(name, value)| {
        if name == "content-encoding" {
            let codings = value.split(',').map(str::trim);
            let codings: Vec<&str> = codings.filter(|coding| !coding.eq_ignore_ascii_case(CHUNKED)).collect();
            *value = codings.join(",");
            return !value.is_empty();
        }
        true
    });
    (said, untold)
}

/// What is said, and the type of the content, for a key: by its ending, where it is not said.
pub fn completed(mut said: Vec<(String, String)>, key: &str) -> Vec<(String, String)> {
    let is_said = said.iter().any(|(name, _)| name == CONTENT_TYPE);
    if let (false, Some(kind)) = (is_said, kind_of(key)) {
        said.push((CONTENT_TYPE.to_owned(), kind.to_owned()));
    }
    said
}

fn kind_of(key: &str) -> Option<&'static str> {
    let name = Path::new(key.rsplit('/').next()?);
    let ending = name.extension()?.to_str()?.to_ascii_lowercase();
    let more = MORE_TYPES.iter().find(|(known, _)| *known == ending);
    more.map(|(_, kind)| *kind)
        .or_else(|| mime_guess::from_path(name).first_raw())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    #[test]
    fn what_is_said_is_told_from_what_is_ours() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/html"),
            ("content-encoding", "AWS-chunked, gzip"),
            ("content-length", "5"),
            ("x-amz-meta-mtime", "1.5"),
            ("x-amz-meta-owner-of", "somebody"),
            ("x-amz-meta-uid", "customer-42"),
            ("x-amz-meta-tab", "a\tb"),
            ("x-amz-missing-meta", "1"),
            ("x-amz-id-2", "x"),
            ("cache-control", "no-store"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.append("cache-control", HeaderValue::from_static("private"));
        headers.insert("x-amz-meta-letter", HeaderValue::from_bytes("ä".as_bytes()).unwrap());
        let body = Bytes::new();
        let status = 200;
        let answer = Answer { status, headers, body };
        let (mut said, mut untold) = of(&answer, "x-amz-meta-", |name| name == "mtime");
        said.sort();
        untold.sort();
        let pairs = [
            ("cache-control", "no-store, private"),
            ("content-encoding", "gzip"),
            ("content-type", "text/html"),
            ("meta-owner-of", "somebody"),
            ("meta-uid", "customer-42"),
        ];
        assert_eq!(untold, ["meta-letter", "meta-tab", "meta-that S3 does not tell"]);
        assert_eq!(said, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_type_is_that_of_an_ending() {
        for (key, kind) in [
            ("a/b.html", Some("text/html")),
            ("B.JSON", Some("application/json")),
            ("a.tsv.gz", Some("application/gzip")),
            ("a.tar.ZST", Some("application/zstd")),
            ("a.html/", None),
            ("a.html/b", None),
            (".html", None),
            ("a.neverheardof", None),
        ] {
            assert_eq!(kind_of(key), kind, "{key}");
        }
        let said = vec![(CONTENT_TYPE.to_owned(), "x/y".to_owned())];
        assert_eq!(completed(said.clone(), "a.html"), said);
    }

    #[test]
    fn what_is_kept_with_no_object_is_refused() {
        let checked = |name: &str, value: &str| {
            let said = [(name.to_owned(), value.to_owned())];
            [check(&said, crate::s3::saying), check(&said, crate::azure::saying)].map(|checked| checked.is_ok())
        };
        for (name, taken) in [
            ("content-type", [true, true]),
            ("expires", [true, false]),
            ("x-amz-storage-class", [true, false]),
            ("x-amz-grant-read", [true, false]),
            ("x-amz-tagging", [true, false]),
            ("x-amz-meta-a-b", [true, false]),
            ("x-ms-access-tier", [false, true]),
            ("x-ms-meta-a", [false, true]),
            ("x-ms-meta-a-b", [false, false]),
            ("", [false, false]),
            ("host", [false, false]),
            ("authorization", [false, false]),
            ("x-amz-date", [false, false]),
            ("x-amz-mfa", [false, false]),
            ("x-amz-server-side-encryption-customer-key", [false, false]),
            ("x-amz-meta-", [false, false]),
            ("x-amz-meta-a b", [false, false]),
            ("x-amz-meta-mtime", [false, false]),
            ("x-amz-meta-bulkhaulid", [false, false]),
            ("x-ms-copy-source-authorization", [false, false]),
            ("x-ms-blob-content-md5", [false, false]),
        ] {
            assert_eq!(checked(name, "a b"), taken, "{name}");
        }
        for value in ["a\nb", "a\tb", "ä", "\u{7f}"] {
            assert_eq!(checked("content-type", value), [false; 2], "{value:?}");
        }
    }
}
