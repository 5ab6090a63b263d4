//! What a URL or a path names.
//!
//! Comes in: text as it was given, and how stores are reached; goes out: a store. What is not there yet is refused by its
//! name.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use bulkhaul_engine::error::{Refusal, Side};
use bulkhaul_engine::tree::path::{show, split};

use crate::azure::{self, Azure};
use crate::local::{Local, LocalOptions, whole_path};
use crate::memory::Memory;
use crate::objects::said;
use crate::rclone::{self, Rclone};
use crate::s3::{self, Config, S3};
use crate::session::{JOBS, Session};
use crate::sftp::{self, Sftp};
use crate::store::Store;

/// A place that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A path of this machine.
    Local(Vec<u8>),
    /// A bucket and what keys begin with.
    S3 {
        /// Whose: AWS and whoever speaks as it does, or Google.
        service: Service,
        /// The bucket.
        bucket: String,
        /// Without a slash in front.
        prefix: String,
    },
    /// A container of Azure and what names begin with.
    Azure {
        /// The container.
        container: String,
        /// Without a slash in front.
        prefix: String,
    },
    /// A path of another host.
    Sftp(sftp::Place),
    /// What rclone reaches: `REMOTE:PATH`.
    Rclone(String),
    /// Nowhere: it is gone with whoever opened it.
    Memory,
}

/// Whose buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `s3:`
    S3,
    /// `gs:`, as Google answers those who speak as to AWS (its XML interface, with HMAC keys).
    Google,
}

impl Service {
    /// As a URL begins.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
        }
    }

    /// What is known of it where nobody says.
    fn config(self, config: &Config) -> Config {
        let mut config = config.clone();
        if self == Self::Google {
            config.endpoint.get_or_insert_with(|| GOOGLE.to_owned());
            if config.region.is_empty() {
                "auto".clone_into(&mut config.region);
            }
        }
        config
    }
}

/// Where Google answers.
const GOOGLE: &str = "https://storage.googleapis.com";

/// Schemes that are known, and not served yet.
const LATER: [&str; 4] = ["abfs", "abfss", "http", "https"];
/// What is.
const SERVED: &str = "s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX, sftp://HOST/PATH, rclone:REMOTE:PATH, file:///PATH and paths";

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
            ("s3" | "gs" | "gcs", Some(below)) => {
                let below = str::from_utf8(below)
                    .map_err(|_| Refusal::Usage(format!("{}: keys are UTF-8, and this is not", show(text))))?;
                let (bucket, prefix) = below.split_once('/').unwrap_or((below, ""));
                Ok(Self::S3 {
                    service: if scheme == "s3" { Service::S3 } else { Service::Google },
                    bucket: bucket.to_owned(),
                    prefix: prefix.to_owned(),
                })
            }
            ("az", Some(below)) => {
                let below = str::from_utf8(below)
                    .map_err(|_| Refusal::Usage(format!("{}: names are UTF-8, and this is not", show(text))))?;
                let (container, prefix) = below.split_once('/').unwrap_or((below, ""));
                Ok(Self::Azure {
                    container: container.to_owned(),
                    prefix: prefix.to_owned(),
                })
            }
            ("sftp", Some(below)) => {
                let wrong = || Refusal::Usage(format!("{}: write sftp://[USER@]HOST[:PORT]/PATH", show(text)));
                sftp::Place::parse(below).map(Self::Sftp).ok_or_else(wrong)
            }
            ("rclone", _) => {
                let target = str::from_utf8(rest)
                    .map_err(|_| Refusal::Usage(format!("{}: rclone takes UTF-8, and this is not", show(text))))?;
                Ok(Self::Rclone(target.to_owned()))
            }
            ("memory", _) => Ok(Self::Memory),
            (later, _) if LATER.contains(&later) => Err(Refusal::Usage(format!(
                "{}: {later} is not there yet; what is: {SERVED}",
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

    /// The same of a URL; a path is refused.
    pub fn of_url(text: &[u8]) -> Result<Self, Refusal> {
        match Self::parse(text)? {
            Self::Local(_) => Err(Refusal::Usage("this is a path, and no URL".into())),
            place => Ok(place),
        }
    }

    /// The path, where it is one of this machine.
    pub fn directory(&self) -> Option<&[u8]> {
        match self {
            Self::Local(path) => Some(path),
            _ => None,
        }
    }

    /// What may have this place as one file, and its key there; none: it is a root, or ends with a slash.
    pub fn above(&self) -> Option<(Self, Vec<u8>)> {
        let is_key = |key: &str| !key.is_empty() && !key.ends_with('/');
        match self {
            Self::Local(path) | Self::Sftp(sftp::Place { path, .. }) => {
                let (directory, name) = split(path);
                let is_name = !path.ends_with(b"/") && !matches!(name, b"" | b"." | b"..");
                let above = match self {
                    Self::Sftp(place) => Self::Sftp(sftp::Place {
                        path: directory.to_vec(),
                        ..place.clone()
                    }),
                    _ => Self::Local(if directory.is_empty() { b"." } else { directory }.to_vec()),
                };
                is_name.then(|| (above, name.to_vec()))
            }
            Self::S3 {
                service,
                bucket,
                prefix,
            } => is_key(prefix).then(|| {
                let above = Self::S3 {
                    service: *service,
                    bucket: bucket.clone(),
                    prefix: String::new(),
                };
                (above, prefix.clone().into_bytes())
            }),
            Self::Azure { container, prefix } => is_key(prefix).then(|| {
                let above = Self::Azure {
                    container: container.clone(),
                    prefix: String::new(),
                };
                (above, prefix.clone().into_bytes())
            }),
            Self::Rclone(target) => rclone::above(target).map(|(above, key)| (Self::Rclone(above), key)),
            Self::Memory => None,
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
        if local.links && matches!(self, Self::Sftp(_) | Self::Rclone(_)) {
            let text = "links: symlinks are carried between paths and buckets, not to or from sftp: and rclone: places";
            return Err(Refusal::Usage(text.into()));
        }
        Ok(match self {
            Self::Local(path) => Arc::new(Local::new(session, path, side, local.clone())?),
            Self::S3 {
                service,
                bucket,
                prefix,
            } => Arc::new(S3::new(
                session,
                &service.config(config),
                (service.scheme(), bucket, prefix),
                side,
            )?),
            Self::Azure { container, prefix } => Arc::new(Azure::new(session, config, (container, prefix), side)?),
            Self::Sftp(place) => Arc::new(Sftp::new(session, place, side, local.clone())),
            Self::Rclone(target) => {
                let spill = local.spill_directory.as_deref();
                Arc::new(Rclone::new(session, target, side, (spill, local.clears))?)
            }
            Self::Memory => Arc::new(Memory::new(side)),
        })
    }

    /// Refuses headers that can't be kept with what is written there.
    pub fn says(&self, headers: &[(String, String)]) -> Result<(), Refusal> {
        said::check(headers, |name| match self {
            Self::S3 { .. } => s3::saying(name),
            Self::Azure { .. } => azure::saying(name),
            _ => None,
        })
    }

    /// Entries at work at once where nobody says how many.
    pub fn jobs(&self) -> usize {
        match self {
            Self::Rclone(_) => rclone::RUNS,
            _ => JOBS,
        }
    }
}

/// Which directory two places may both show, if their servers are one, whatever they are called, or fold names: as its key in
/// each. None: their paths have none in common, or both are on this machine.
pub fn common(one: &Location, other: &Location) -> Option<[Vec<u8>; 2]> {
    let (kind, mine) = whole_place(one)?;
    let (other_kind, theirs) = whole_place(other)?;
    if kind != other_kind || matches!((one, other), (Location::Local(_), Location::Local(_))) {
        return None;
    }
    let is_below = |path: &[u8], above: &[u8]| {
        path.get(..above.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(above))
    };
    if is_below(&mine, &theirs) {
        return Some([Vec::new(), mine[theirs.len()..].to_vec()]);
    }
    is_below(&theirs, &mine).then(|| [theirs[mine.len()..].to_vec(), Vec::new()])
}

/// What kind of server has a place, and its path there, with a slash at the end.
fn whole_place(place: &Location) -> Option<(&'static str, Vec<u8>)> {
    let slashed = |path: &[u8]| [path.strip_suffix(b"/").unwrap_or(path), b"/"].concat();
    Some(match place {
        Location::Local(path) => ("files", slashed(whole_path(path).as_os_str().as_bytes())),
        Location::Sftp(place) => ("files", slashed(&place.path)),
        Location::Rclone(target) => ("files", slashed(rclone::path(target).as_bytes())),
        Location::S3 {
            service,
            bucket,
            prefix,
        } => {
            let path = format!("{bucket}/{}", whole_prefix(prefix));
            (service.scheme(), path.into_bytes())
        }
        Location::Azure { container, prefix } => {
            let path = format!("{container}/{}", whole_prefix(prefix));
            ("az", path.into_bytes())
        }
        Location::Memory => return None,
    })
}

/// Refuses two places of which one is in the other, or that are one.
pub fn refuse_nested(one: (&[u8], &Location, &Config), other: (&[u8], &Location, &Config)) -> Result<(), Refusal> {
    let nested = match (one.1, other.1) {
        (
            Location::S3 {
                service,
                bucket,
                prefix,
            },
            Location::S3 {
                service: other_service,
                bucket: second,
                prefix: below,
            },
        ) => {
            let (prefix, below) = (whole_prefix(prefix), whole_prefix(below));
            let one_bucket = service == other_service && bucket == second && one.2.endpoint == other.2.endpoint;
            one_bucket && (prefix.starts_with(&below) || below.starts_with(&prefix))
        }
        (Location::Local(path), Location::Local(second)) => {
            let (path, second) = (whole_path(path), whole_path(second));
            path.starts_with(&second) || second.starts_with(&path)
        }
        (
            Location::Azure { container, prefix },
            Location::Azure {
                container: second,
                prefix: below,
            },
        ) => {
            let account = |config: &Config| config.credential.as_ref().map(|(account, ..)| account.clone());
            let (prefix, below) = (whole_prefix(prefix), whole_prefix(below));
            let one = (container, &one.2.endpoint, account(one.2)) == (second, &other.2.endpoint, account(other.2));
            one && (prefix.starts_with(&below) || below.starts_with(&prefix))
        }
        (Location::Sftp(place), Location::Sftp(second)) => {
            let one_host = (&place.user, &place.host, place.port) == (&second.user, &second.host, second.port);
            let whole = |path: &[u8]| {
                if path == b"/" {
                    path.to_vec()
                } else {
                    [path, b"/"].concat()
                }
            };
            let (path, below) = (whole(&place.path), whole(&second.path));
            one_host && (path.starts_with(&below) || below.starts_with(&path))
        }
        (Location::Rclone(target), Location::Rclone(second)) => {
            let whole = |target: &str| format!("{}/", target.trim_end_matches('/')).replace(":/", ":");
            let (target, second) = (whole(target), whole(second));
            target.starts_with(&second) || second.starts_with(&target)
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

/// A prefix with a slash at its end.
fn whole_prefix(prefix: &str) -> String {
    match prefix.trim_end_matches('/') {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_places_may_both_show_is_told_by_their_paths() {
        for (one, other, both) in [
            ("s3://b/p/sub", "s3://b/p", Some(["", "sub/"])),
            ("s3://b/p", "s3://b/p/sub/x", Some(["sub/x/", ""])),
            ("s3://b", "s3://b/p", Some(["p/", ""])),
            ("sftp://h/a", "sftp://g/A", Some(["", ""])),
            ("/a/b", "sftp://h/a", Some(["", "b/"])),
            ("rclone::local:/a", "/a/b", Some(["b/", ""])),
            ("s3://b/p2", "s3://b/p", None),
            ("s3://b/p", "s3://c/p", None),
            ("s3://b/p", "gs://b/p", None),
            ("s3://b/p", "sftp://h/b/p", None),
            ("/a", "/a/b", None),
        ] {
            let places = [one, other].map(|text| Location::parse(text.as_bytes()).unwrap());
            let found = common(&places[0], &places[1]);
            assert_eq!(
                found,
                both.map(|keys| keys.map(|key| key.as_bytes().to_vec())),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn what_may_be_one_file_is_in_something() {
        for (text, above) in [
            ("s3://b/p/a//k", Some(("s3://b", "p/a//k"))),
            ("gs://b/k", Some(("gs://b", "k"))),
            ("az://c/k", Some(("az://c", "k"))),
            ("sftp://h/a/b", Some(("sftp://h/a", "b"))),
            ("sftp://h/a", Some(("sftp://h/", "a"))),
            ("sftp://h/~/a", Some(("sftp://h/~", "a"))),
            ("rclone:x:b/p", Some(("rclone:x:b", "p"))),
            ("rclone::local:/a", Some(("rclone::local:/", "a"))),
            ("rclone:x,y='a/b':k", Some(("rclone:x,y='a/b':", "k"))),
            ("a", Some((".", "a"))),
            ("/a", Some(("/", "a"))),
            ("s3://b", None),
            ("s3://b/p/", None),
            ("sftp://h/", None),
            ("rclone:x:", None),
            ("rclone:x:p/", None),
            ("a/", None),
            ("a/..", None),
            ("/", None),
        ] {
            let above = above.map(|(place, key)| (Location::parse(place.as_bytes()).unwrap(), key.as_bytes().to_vec()));
            assert_eq!(Location::parse(text.as_bytes()).unwrap().above(), above, "{text}");
        }
    }

    #[test]
    fn places_are_what_they_say() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 {
            service: Service::S3,
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        for (text, location) in [
            ("s3://b", s3("b", "")),
            ("S3://b/a%20b/c?d#e", s3("b", "a%20b/c?d#e")),
            ("a/b", Location::Local(b"a/b".to_vec())),
            ("./s3://b", Location::Local(b"./s3://b".to_vec())),
            ("file:///a b", Location::Local(b"/a b".to_vec())),
            ("rclone::local:/a", Location::Rclone(":local:/a".into())),
            ("rclone:x:b/p", Location::Rclone("x:b/p".into())),
            ("memory:", Location::Memory),
            ("12:30", Location::Local(b"12:30".to_vec())),
        ] {
            assert_eq!(Location::parse(text.as_bytes()).unwrap(), location, "{text}");
        }
        for text in ["abfs://b", "sftp://", "sftp://u:p@h/", "ftp://h/p", "file://h/p"] {
            assert!(Location::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
