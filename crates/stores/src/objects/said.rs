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
/// Beginnings of names by which services are told more of an object: its class, its encryption, who may read it.
const SERVICES: [&str; 3] = ["x-amz-", "x-ms-", "x-goog-"];
/// Beginnings of those that say how a request goes, or carry secrets, which nobody may put on a command line.
const REQUESTS: [&str; 17] = [
    "x-amz-checksum-",
    "x-amz-content-sha256",
    "x-amz-copy-source",
    "x-amz-date",
    "x-amz-decoded-",
    "x-amz-meta-bulkhaul",
    "x-amz-metadata-directive",
    "x-amz-sdk-checksum-",
    "x-amz-security-token",
    "x-amz-server-side-encryption-customer-",
    "x-goog-encryption-key",
    "x-ms-blob-type",
    "x-ms-content-crc64",
    "x-ms-date",
    "x-ms-encryption-key",
    "x-ms-meta-bulkhaul",
    "x-ms-version",
];

/// Whether HTTP itself has it.
pub fn is_of_http(name: &str) -> bool {
    HTTP.contains(&name)
}

/// Refuses what can't be said of an object.
pub fn check(headers: &[(String, String)]) -> Result<(), Refusal> {
    for (name, value) in headers {
        let wrong = |why: &str| Err(Refusal::Usage(format!("headers: {name}: {why}")));
        let begins = |with: &&str| name.starts_with(*with);
        let is_known = is_of_http(name) || SERVICES.iter().any(begins);
        if !is_known || HeaderName::from_bytes(name.as_bytes()).is_err() {
            return wrong(
                "nothing that is kept with an object: content-type, cache-control, x-amz-storage-class and the like are",
            );
        }
        if REQUESTS.iter().any(begins) {
            return wrong("this says how a request goes, not what is kept with an object");
        }
        if HeaderValue::from_str(value).is_err() {
            return wrong("it has a value that no header has");
        }
    }
    Ok(())
}

/// What a server says of an object. `metadata`: before the names of what is kept with it.
pub fn of(answer: &Answer, metadata: &str) -> Vec<(String, String)> {
    let mut said = Vec::new();
    for (name, value) in &answer.headers {
        let (name, Ok(value)) = (name.as_str(), value.to_str()) else {
            continue;
        };
        let other = name.strip_prefix(metadata).filter(|name| !KEPT.contains(name));
        if let Some(other) = other {
            said.push((format!("{META}{other}"), value.to_owned()));
        } else if name == "content-encoding" {
            let codings: Vec<&str> = value
                .split(',')
                .map(str::trim)
                .filter(|coding| *coding != CHUNKED)
                .collect();
            if !codings.is_empty() {
                said.push((name.to_owned(), codings.join(",")));
            }
        } else if is_of_http(name) {
            said.push((name.to_owned(), value.to_owned()));
        }
    }
    said
}

/// The same, and the type of the content, for a key: by its ending, where it is not said.
pub fn completed(mut said: Vec<(String, String)>, key: &str) -> Vec<(String, String)> {
    let is_said = said.iter().any(|(name, _)| name == CONTENT_TYPE);
    if let (false, Some(kind)) = (is_said, kind_of(key)) {
        said.push((CONTENT_TYPE.to_owned(), kind.to_owned()));
    }
    said
}

fn kind_of(key: &str) -> Option<&'static str> {
    let name = key.rsplit('/').next()?;
    mime_guess::from_path(Path::new(name)).first_raw()
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
            ("content-encoding", "aws-chunked, gzip"),
            ("content-length", "5"),
            ("x-amz-meta-mtime", "1.5"),
            ("x-amz-meta-owner-of", "somebody"),
            ("x-amz-id-2", "x"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let body = Bytes::new();
        let status = 200;
        let mut said = of(&Answer { status, headers, body }, "x-amz-meta-");
        said.sort();
        let pairs = [
            ("content-encoding", "gzip"),
            ("content-type", "text/html"),
            ("meta-owner-of", "somebody"),
        ];
        assert_eq!(said, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_type_is_that_of_an_ending() {
        for (key, kind) in [
            ("a/b.html", Some("text/html")),
            ("B.JSON", Some("application/json")),
            ("a.tsv.gz", Some("application/gzip")),
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
    fn what_says_how_a_request_goes_is_refused() {
        let checked = |name: &str, value: &str| check(&[(name.to_owned(), value.to_owned())]).is_ok();
        for name in [
            "content-type",
            "expires",
            "x-amz-storage-class",
            "x-amz-acl",
            "x-ms-access-tier",
            "x-amz-meta-a",
        ] {
            assert!(checked(name, "x"), "{name}");
        }
        for name in [
            "",
            "host",
            "authorization",
            "x-amz-date",
            "x-amz-checksum-crc32",
            "x-amz-a b",
            "x-amz-meta-bulkhaulid",
        ] {
            assert!(!checked(name, "x"), "{name}");
        }
        assert!(!checked("content-type", "a\nb"));
    }
}
