//! What a URL or a path names.
//!
//! Comes in: text as it was given, and how stores are reached; goes out: a store. What is not there yet is refused by its
//! name.

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::Arc;

use bulkhaul_engine::error::{Refusal, Side};
use bulkhaul_engine::tree::path::show;

use crate::local::{Local, LocalOptions};
use crate::s3::{Config, S3};
use crate::session::Session;
use crate::store::Store;

/// A place that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A path of this machine.
    Local(Vec<u8>),
    /// A bucket and what keys begin with.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without a slash in front.
        prefix: String,
    },
}

/// Schemes that are known, and not served yet.
const LATER: [&str; 10] = [
    "az", "abfs", "abfss", "gs", "gcs", "sftp", "rclone", "memory", "http", "https",
];

impl Location {
    /// Reads a URL (`s3://BUCKET/PREFIX`, `file:///PATH`) or a path. Of a URL nothing is decoded: keys are as they stand.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let is_scheme = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'.' | b'-');
        let end = text.iter().position(|byte| *byte == b':');
        let scheme = end
            .map(|end| &text[..end])
            .filter(|scheme| scheme.len() > 1 && scheme[0].is_ascii_alphabetic() && scheme.iter().all(is_scheme));
        let Some(scheme) = scheme else {
            return Ok(Self::Local(text.to_vec()));
        };
        let rest = &text[scheme.len() + 1..];
        let scheme = String::from_utf8_lossy(scheme).to_ascii_lowercase();
        match (scheme.as_str(), rest.strip_prefix(b"//")) {
            ("file", below) => {
                let path = below.unwrap_or(rest);
                if !path.starts_with(b"/") {
                    return Err(Refusal::Usage(format!("{}: write file:///PATH", show(text))));
                }
                Ok(Self::Local(path.to_vec()))
            }
            ("s3", Some(below)) => {
                let below = str::from_utf8(below)
                    .map_err(|_| Refusal::Usage(format!("{}: keys of S3 are UTF-8, and this is not", show(text))))?;
                let (bucket, prefix) = below.split_once('/').unwrap_or((below, ""));
                Ok(Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.to_owned(),
                })
            }
            (later, _) if LATER.contains(&later) => Err(Refusal::Usage(format!(
                "{}: {later} is not there yet; what is: s3://BUCKET/PREFIX, file:///PATH and paths",
                show(text)
            ))),
            (_, Some(_)) => Err(Refusal::Usage(format!(
                "{}: nothing is known of {scheme}://",
                show(text)
            ))),
            // A path with a colon.
            (_, None) => Ok(Self::Local(text.to_vec())),
        }
    }

    /// The store at this place.
    pub fn open(
        &self,
        session: &Arc<Session>,
        side: Side,
        config: &Config,
        local: &LocalOptions,
    ) -> Result<Arc<dyn Store>, Refusal> {
        Ok(match self {
            Self::Local(path) => Arc::new(Local::new(session, path, side, local.clone())?),
            Self::S3 { bucket, prefix } => Arc::new(S3::new(session, config, bucket, prefix, side)?),
        })
    }
}

/// Refuses two places of which one is in the other, or that are one.
pub fn refuse_nested(one: (&[u8], &Location, &Config), other: (&[u8], &Location, &Config)) -> Result<(), Refusal> {
    let nested = match (one.1, other.1) {
        (
            Location::S3 { bucket, prefix },
            Location::S3 {
                bucket: second,
                prefix: below,
            },
        ) => {
            let whole = |prefix: &str| match prefix.trim_end_matches('/') {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            };
            let (prefix, below) = (whole(prefix), whole(below));
            let one_bucket = bucket == second && one.2.endpoint == other.2.endpoint;
            one_bucket && (prefix.starts_with(&below) || below.starts_with(&prefix))
        }
        (Location::Local(path), Location::Local(second)) => {
            let (path, second) = (whole_path(path), whole_path(second));
            Path::new(std::ffi::OsStr::from_bytes(&path)).starts_with(std::ffi::OsStr::from_bytes(&second))
                || Path::new(std::ffi::OsStr::from_bytes(&second)).starts_with(std::ffi::OsStr::from_bytes(&path))
        }
        _ => false,
    };
    if nested {
        return Err(Refusal::Safety(format!(
            "{} and {} are one place, or one is in the other",
            show(one.0),
            show(other.0)
        )));
    }
    Ok(())
}

/// A path without symlinks, as far as it is there.
fn whole_path(path: &[u8]) -> Vec<u8> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return real.join(rest).into_os_string().into_vec();
        }
    }
    path.into_os_string().into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_what_they_say() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 {
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        for (text, location) in [
            ("s3://b", s3("b", "")),
            ("S3://b/a%20b/c?d#e", s3("b", "a%20b/c?d#e")),
            ("a/b", Location::Local(b"a/b".to_vec())),
            ("./s3://b", Location::Local(b"./s3://b".to_vec())),
            ("file:///a b", Location::Local(b"/a b".to_vec())),
            ("12:30", Location::Local(b"12:30".to_vec())),
        ] {
            assert_eq!(Location::parse(text.as_bytes()).unwrap(), location, "{text}");
        }
        for text in [
            "gs://b/c",
            "az://b",
            "sftp://h/p",
            "rclone:r:p",
            "ftp://h/p",
            "file://h/p",
        ] {
            assert!(Location::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
