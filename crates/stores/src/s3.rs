//! S3: one prefix of one bucket, on AWS or a server that speaks as it does.
//!
//! Comes in: [`Config`] and a prefix; goes out: a [`Store`]. What a server checks of an upload is asked before the first one
//! (`S3::checks`): where it refuses a wrong CRC-64/NVME, bodies go with that, else signed by their SHA-256; a server that
//! checks neither is said to, and what it has is to be read back. What becomes of a multipart upload is asked afterwards, by
//! size and a token of our own, also where the answer to its completion was lost. A name that the way to the server would
//! change is a failure.

mod client;
mod content;
mod listing;
mod upload;
mod xml;

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhaul_engine::error::{Cause, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_engine::{Algorithm, Kind};
use bulkhaul_formats::digest::Digest;
use bulkhaul_sys::Time;
use bytes::Bytes;
use chrono::DateTime;
use http::Method;
use md5::{Digest as _, Md5};

pub use self::client::Config;
use self::client::{Answer, CRC_HEADER, Client, Fate, Request, Signing, Wrong, crc_of, fault};
use self::content::Content;
use self::listing::{Pages, Turned};
use self::upload::Upload;
use crate::session::Session;
use crate::store::{Abilities, Entry, Facts, Gone, Listing, Origin, Reading, Store, Told, Writing};

/// Bytes of a key (S3 user guide, object key names).
const MOST_KEY_BYTES: usize = 1024;
/// Parts of an upload.
const MOST_PARTS: u64 = 10_000;
/// Bytes that one request copies within a server.
const MOST_COPY_BYTES: u64 = 5 << 30;
/// Keys of one request that deletes: S3 takes 1000, and some servers then need longer than anybody waits.
const DELETED_AT_ONCE: usize = 250;

/// What a server checks of what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// A CRC-64/NVME.
    Crc,
    /// The SHA-256 of the signature.
    Hash,
    /// Nothing.
    Nothing,
}

/// A prefix of a bucket.
pub struct S3 {
    session: Arc<Session>,
    client: Arc<Client>,
    scheme: &'static str,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    side: Side,
    checks: Mutex<Option<Checks>>,
}

/// Why the way to a server would change a key, or the server would not take it.
fn unfit(key: &str) -> Option<&'static str> {
    if key.len() > MOST_KEY_BYTES {
        return Some("S3 has no key longer than 1024 bytes");
    }
    let folded = key.split('/').any(|part| matches!(part, "." | ".."));
    folded.then_some("a URL has no . or .. between slashes")
}

impl S3 {
    /// A store on this side of a job. Refuses what can be none; asks nothing yet.
    pub fn new(
        session: &Arc<Session>,
        config: &Config,
        (scheme, bucket, prefix): (&'static str, &str, &str),
        side: Side,
    ) -> Result<Self, Refusal> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return Err(Refusal::Usage(format!(
                "{scheme}://{bucket}: this is no name of a bucket"
            )));
        }
        let mut prefix = prefix.to_owned();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        if let Some(why) = unfit(&prefix) {
            return Err(Refusal::Usage(format!("{scheme}://{bucket}/{prefix}: {why}")));
        }
        Ok(Self {
            session: Arc::clone(session),
            client: Arc::new(Client::new(session, config, bucket)?),
            scheme,
            bucket: bucket.to_owned(),
            prefix,
            side,
            checks: Mutex::new(None),
        })
    }

    /// The whole key, if it can be had.
    fn key(&self, operation: Operation, key: &[u8]) -> Result<String, Fault> {
        let cannot = |why: &str| Fault {
            operation,
            side: self.side,
            cause: Cause::Answered("name", format!("{why}, so it is neither copied nor taken for absent")),
        };
        let key = str::from_utf8(key).map_err(|_| cannot("keys of S3 are UTF-8, and this name is not"))?;
        let key = format!("{}{key}", self.prefix);
        match unfit(&key) {
            Some(why) => Err(cannot(why)),
            None => Ok(key),
        }
    }

    fn ask(&self, operation: Operation, request: &Request) -> Result<Answer, Stopped> {
        let answer = self.client.ask(request)?;
        Ok(answer.map_err(|wrong| fault(operation, self.side, &wrong))?)
    }

    /// What the server checks: asked once, by an object that is there for a moment.
    fn checks(&self) -> Result<Checks, Stopped> {
        let mut known = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(checks) = *known {
            return Ok(checks);
        }
        let key = format!("{}.bulkhaul-probe-{}", self.prefix, upload::token());
        let put = |headers, digest, signing| Request {
            method: Method::PUT,
            key: key.clone(),
            body: Bytes::from_static(b"What does this server check?"),
            headers,
            digest,
            signing,
            ..Request::default()
        };
        let wrong_crc = vec![(CRC_HEADER, client::crc_text(1))];
        let mut left = false;
        let checks = if self.refuses(&put(wrong_crc, None, Signing::Crc), &mut left)?
            && !self.refuses(&put(Vec::new(), None, Signing::Crc), &mut left)?
        {
            Checks::Crc
        } else if self.refuses(&put(Vec::new(), Some([1; 32]), Signing::Hashed), &mut left)? {
            Checks::Hash
        } else {
            Checks::Nothing
        };
        if left {
            let delete = Request {
                method: Method::DELETE,
                key,
                ..Request::default()
            };
            self.ask(Operation::Remove, &delete)?;
        }
        *known = Some(checks);
        Ok(checks)
    }

    /// Whether the server refuses a request for what it is; `left`: it has not.
    fn refuses(&self, request: &Request, left: &mut bool) -> Result<bool, Stopped> {
        let retry = self.session.options.retry.retries;
        for again in 0.. {
            let Err(wrong) = self.session.wait(self.client.once(request))? else {
                *left = true;
                return Ok(false);
            };
            match wrong.fate {
                Fate::Transient if again < retry => {}
                Fate::Damaged | Fate::Unable => return Ok(true),
                Fate::Other if wrong.status == 400 => return Ok(true),
                _ => return Err(fault(Operation::Create, self.side, &wrong).into()),
            }
        }
        Ok(true)
    }

    fn delete_one(&self, key: &str) -> Result<Result<Gone, Fault>, Stopped> {
        let request = Request {
            method: Method::DELETE,
            key: key.to_owned(),
            ..Request::default()
        };
        Ok(match self.client.ask(&request)? {
            Ok(_) => Ok(Gone::Removed),
            Err(Wrong { fate: Fate::Absent, .. }) => Ok(Gone::Vanished),
            Err(wrong) => Err(fault(Operation::Remove, self.side, &wrong)),
        })
    }

    /// Removes keys that XML carries. Answers false where the server can't remove many at once.
    fn delete_batch(&self, batch: &[(String, &[u8])], told: Told<'_>) -> Result<bool, Stopped> {
        let keys: Vec<&str> = batch.iter().map(|(key, _)| key.as_str()).collect();
        let body = xml::delete(&keys);
        let request = Request {
            method: Method::POST,
            query: vec![("delete", String::new())],
            headers: vec![
                ("content-md5", BASE64_STANDARD.encode(Md5::digest(body.as_bytes()))),
                ("content-type", "application/xml".into()),
            ],
            body: body.into(),
            ..Request::default()
        };
        let answer = match self.client.ask(&request)? {
            Err(Wrong { fate: Fate::Unable, .. }) => return Ok(false),
            Ok(answer) => xml::deleted(&answer.body).ok_or_else(|| Wrong {
                fate: Fate::Other,
                status: answer.status,
                code: "MalformedXML".into(),
                message: "the server does not say what it has removed".into(),
            }),
            Err(wrong) => Err(wrong),
        };
        let (gone, stay) = match answer {
            Ok(answer) => answer,
            Err(wrong) => {
                for (_, key) in batch {
                    told(key, Err(fault(Operation::Remove, self.side, &wrong)));
                }
                return Ok(true);
            }
        };
        for (whole, key) in batch {
            let failed = stay.iter().find(|(name, _)| name == whole);
            told(
                key,
                match failed {
                    Some((_, spoken)) if spoken.code == "NoSuchKey" => Ok(Gone::Vanished),
                    Some((_, spoken)) => {
                        let wrong = Wrong {
                            fate: if spoken.code == "AccessDenied" {
                                Fate::Denied
                            } else {
                                Fate::Other
                            },
                            status: 200,
                            code: spoken.code.clone(),
                            message: spoken.message.clone(),
                        };
                        Err(fault(Operation::Remove, self.side, &wrong))
                    }
                    None if gone.contains(whole) => Ok(Gone::Removed),
                    None => Err(Fault {
                        operation: Operation::Remove,
                        side: self.side,
                        cause: Cause::Answered("server", "the server does not say what became of it".into()),
                    }),
                },
            );
        }
        Ok(true)
    }
}

/// The question for an object without its content.
fn head(key: &str) -> Request {
    Request {
        method: Method::HEAD,
        key: key.to_owned(),
        headers: vec![("x-amz-checksum-mode", "ENABLED".into())],
        ..Request::default()
    }
}

/// What a server says of an object of this size.
fn entry(key: &[u8], answer: &Answer, size: u64) -> Entry {
    let written = answer
        .header("last-modified")
        .and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    Entry {
        key: key.to_vec(),
        kind: if key.ends_with(b"/") && size == 0 {
            Kind::Directory
        } else {
            Kind::File
        },
        size,
        written: Time {
            sec: written.map_or(0, |time| time.timestamp()),
            nsec: 0,
        },
        tag: answer.header("etag").map(xml::bare).unwrap_or_default(),
        facts: Some(facts_of(answer)),
        failed: false,
    }
}

/// The bytes that an answer to a question without content says that there are.
fn length(answer: &Answer) -> Option<u64> {
    answer.header("content-length")?.parse().ok()
}

/// What the metadata of an object say, as rclone and s3fs write them too.
fn facts_of(answer: &Answer) -> Facts {
    let text = |name: &str| answer.header(&format!("x-amz-meta-{name}")).map(str::trim);
    let number = |name| text(name)?.parse().ok();
    let composite = answer.header("x-amz-checksum-type") == Some("COMPOSITE");
    Facts {
        mtime: text("mtime").and_then(time_of),
        mode: text("mode").and_then(mode_of),
        uid: number("uid"),
        gid: number("gid"),
        blake3: text("bulkhaulblake3").and_then(digest_of),
        crc64: answer.header(CRC_HEADER).filter(|_| !composite).and_then(crc_of),
        token: text("bulkhaulid").map(str::to_owned),
    }
}

/// Seconds since 1970 with a fraction, as rclone writes them; s3fs writes none.
fn time_of(text: &str) -> Option<Time> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nsec: u32 = format!("{fraction:0<9}").parse().ok()?;
    let sec: i64 = seconds.parse().ok()?;
    // Before 1970 the fraction counts down.
    Some(match (seconds.starts_with('-'), nsec) {
        (true, 1..) => Time {
            sec: sec - 1,
            nsec: 1_000_000_000 - nsec,
        },
        _ => Time { sec, nsec },
    })
}

/// The same written.
fn time_text(time: Time) -> String {
    match (time.sec, time.nsec) {
        (..0, 1..) => {
            let sign = if time.sec == -1 { "-" } else { "" };
            format!("{sign}{}.{:09}", time.sec + 1, 1_000_000_000 - time.nsec)
        }
        (sec, nsec) => format!("{sec}.{nsec:09}"),
    }
}

/// Permission bits: octal with the type in front, as rclone writes them, or decimal, as s3fs does.
fn mode_of(text: &str) -> Option<u32> {
    let octal = text.len() == 6 && (text.starts_with("100") || text.starts_with("120") || text.starts_with("040"));
    let bits = match u32::from_str_radix(text, 8) {
        Ok(bits) if octal => bits,
        _ => text.parse().ok()?,
    };
    Some(bits & 0o7777)
}

fn digest_of(hex: &str) -> Option<Digest> {
    let pairs = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    Digest::new(Algorithm::Blake3, &pairs.collect::<Option<Vec<u8>>>()?)
}

/// Headers that keep facts with an object. Names of our own have no underscore: proxies drop such headers without a word; nor a
/// hyphen, which other stores do not take.
fn metadata(facts: &Facts, token: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-amz-meta-bulkhaulid", token.to_owned())];
    headers.extend(facts.mtime.map(|mtime| ("x-amz-meta-mtime", time_text(mtime))));
    headers.extend(facts.mode.map(|mode| ("x-amz-meta-mode", format!("100{mode:03o}"))));
    headers.extend(facts.uid.map(|uid| ("x-amz-meta-uid", uid.to_string())));
    headers.extend(facts.gid.map(|gid| ("x-amz-meta-gid", gid.to_string())));
    headers.extend(
        facts
            .blake3
            .as_ref()
            .map(|digest| ("x-amz-meta-bulkhaulblake3", digest.to_string())),
    );
    headers
}

impl Store for S3 {
    fn abilities(&self) -> Abilities {
        let checks = *self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        Abilities {
            directories: false,
            walks: false,
            retries: true,
            lists_mtime: false,
            verifies: checks.is_some_and(|checks| checks != Checks::Nothing),
        }
    }

    fn path(&self, key: &[u8]) -> Vec<u8> {
        [
            format!("{}://{}/{}", self.scheme, self.bucket, self.prefix).as_bytes(),
            key,
        ]
        .concat()
    }

    fn list<'s>(&'s self, _desk: &'s Desk) -> Result<Box<dyn Listing + 's>, Refusal> {
        let mut pages = Pages::new(&self.session, &self.client, &self.prefix, self.side, false);
        // What is wrong with all of it is known before anything is begun.
        match pages.turn() {
            Ok(_) | Err(Turned::Stopped) => Ok(Box::new(pages)),
            Err(Turned::Wrong(wrong)) => {
                let text = format!("{}: {wrong}", String::from_utf8_lossy(&self.path(b"")));
                Err(match self.side {
                    Side::Source => Refusal::NoSource(text),
                    Side::Destination(_) => Refusal::NoDestination(text),
                })
            }
        }
    }

    fn directory(&self, key: &[u8]) -> Result<Vec<Entry>, Stopped> {
        let whole = self.key(Operation::List, key)?;
        let mut pages = Pages::new(&self.session, &self.client, &whole, self.side, true);
        let mut entries = Vec::new();
        while let Some(entry) = pages.next()? {
            entries.push(Entry {
                key: [key, &entry.key].concat(),
                ..entry
            });
        }
        Ok(entries)
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Stopped> {
        let whole = self.key(Operation::Stat, key)?;
        match self.client.ask(&head(&whole))? {
            Ok(answer) => match length(&answer) {
                Some(size) => Ok(Some(entry(key, &answer, size))),
                None => Err(Fault {
                    operation: Operation::Stat,
                    side: self.side,
                    cause: Cause::Answered("server", "the server does not say how long it is".into()),
                }
                .into()),
            },
            Err(Wrong { fate: Fate::Absent, .. }) => Ok(None),
            Err(wrong) => Err(fault(Operation::Stat, self.side, &wrong).into()),
        }
    }

    fn read<'s>(&'s self, entry: &Entry) -> Result<Box<dyn Reading + 's>, Stopped> {
        let key = self.key(Operation::Read, &entry.key)?;
        Ok(Box::new(Content::open(
            &self.session,
            &self.client,
            self.side,
            key,
            entry,
        )?))
    }

    fn part_bytes(&self, size: u64) -> u64 {
        let least = size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20);
        self.session.options.part.max(least)
    }

    fn write<'s>(
        &'s self,
        key: &[u8],
        size: Option<u64>,
        facts: &Facts,
        _replaces: bool,
    ) -> Result<Box<dyn Writing + 's>, Stopped> {
        let whole = self.key(Operation::Create, key)?;
        let signing = match self.checks()? {
            Checks::Crc => Signing::Crc,
            Checks::Hash | Checks::Nothing => Signing::Hashed,
        };
        let upload = Upload::begin(&self.session, &self.client, self.side, whole, key, facts, signing);
        if size.is_none_or(|size| size > self.part_bytes(size)) {
            return Ok(Box::new(upload.in_parts(size)?));
        }
        Ok(Box::new(upload))
    }

    fn origin(&self, key: &[u8]) -> Option<Origin> {
        let whole = self.key(Operation::Read, key).ok()?;
        Some(Origin {
            service: self.client.service(),
            object: self.client.source(&whole),
        })
    }

    fn copy(&self, origin: &Origin, entry: &Entry, key: &[u8]) -> Result<Option<Entry>, Stopped> {
        if origin.service != self.client.service() || entry.size > MOST_COPY_BYTES {
            return Ok(None);
        }
        let whole = self.key(Operation::Create, key)?;
        let mut headers = vec![("x-amz-copy-source", origin.object.clone())];
        if !entry.tag.is_empty() {
            let tag = String::from_utf8_lossy(&entry.tag);
            headers.push(("x-amz-copy-source-if-match", format!("\"{tag}\"")));
        }
        let request = Request {
            method: Method::PUT,
            key: whole.clone(),
            headers,
            ..Request::default()
        };
        match self.client.ask(&request)? {
            Ok(_) => {}
            // The server, or whoever asks, can't do it within it.
            Err(Wrong {
                fate: Fate::Unable | Fate::Denied,
                ..
            }) => return Ok(None),
            Err(Wrong {
                fate: Fate::Changed, ..
            }) => return Err(Fault::changed(Operation::Read).into()),
            Err(wrong) => return Err(fault(Operation::Create, self.side, &wrong).into()),
        }
        let there = self.stat(key)?;
        match there {
            Some(there) if there.size == entry.size => Ok(Some(there)),
            _ => Err(Fault {
                operation: Operation::Verify,
                side: self.side,
                cause: Cause::Answered(
                    "damaged",
                    "the server says that it has copied it, and has something else".into(),
                ),
            }
            .into()),
        }
    }

    fn delete(&self, keys: &[Vec<u8>], told: Told<'_>) -> Result<(), Stopped> {
        let mut many: Vec<(String, &[u8])> = Vec::new();
        for key in keys {
            match self.key(Operation::Remove, key) {
                Err(fault) => told(key, Err(fault)),
                Ok(whole) if xml::carries(&whole) => many.push((whole, key)),
                Ok(whole) => told(key, self.delete_one(&whole)?),
            }
        }
        for batch in many.chunks(DELETED_AT_ONCE) {
            let at_once = batch.len() > 1 && self.delete_batch(batch, told)?;
            if at_once {
                continue;
            }
            for (whole, key) in batch {
                told(key, self.delete_one(whole)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_those_of_others_too() {
        for (text, sec, nsec) in [
            ("981173106.123456789", 981_173_106, 123_456_789),
            ("981173106", 981_173_106, 0),
            ("5.5", 5, 500_000_000),
            ("-0.250000000", -1, 750_000_000),
            ("-2.000000000", -2, 0),
        ] {
            let time = Time { sec, nsec };
            assert_eq!(time_of(text), Some(time), "{text}");
            assert_eq!(time_of(&time_text(time)), Some(time), "{text}");
        }
        assert_eq!([time_of("x"), time_of("1.x"), time_of("1.0123456789")], [None; 3]);
        let modes = ["100640", "120777", "33188", "420", "x"].map(mode_of);
        assert_eq!(modes, [Some(0o640), Some(0o777), Some(0o644), Some(0o644), None]);
    }

    #[test]
    fn names_that_would_change_are_failures() {
        for key in ["a/./b", "..", "a/..", &"x".repeat(1025)] {
            assert!(unfit(key).is_some(), "{key}");
        }
        for key in ["a//b", "/a", " n ", "...", "a/.b", "ü\n", &"x".repeat(1024)] {
            assert_eq!(unfit(key), None, "{key}");
        }
    }
}
