//! S3: one prefix of one bucket, on AWS or a server that speaks as it does.
//!
//! Comes in: [`Config`] and a prefix; goes out: a [`Store`]. What a server checks of an upload is asked before the first one
//! (`S3::checks`): where it refuses a wrong CRC-64/NVME, bodies go with that, else signed by their SHA-256; a server that
//! checks neither is said to, and what it has is to be read back. What becomes of a multipart upload is asked afterwards, by
//! size and a token of our own, also where the answer to its completion was lost. A name that the way to the server would
//! change is a failure.

mod upload;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhaul_engine::error::{Cause, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_formats::digest::{Algorithm, Digest};
use bulkhaul_sys::Time;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use http::Method;
use md5::{Digest as _, Md5};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use percent_encoding::utf8_percent_encode;

use self::upload::Parts;
use crate::objects::client::{
    Answer, Built, CRC_HEADER, Client, Dialect, Fate, Headers, PATH, Request, Signing, Way, Wrong, crc_of, crc_text,
    endpoint_of, fault, put_header,
};
use crate::objects::content::{self, Content};
use crate::objects::listing::Pages;
use crate::objects::said::{META, is_among, is_of_http};
use crate::objects::upload::Upload;
use crate::objects::xml::{self, Page};
use crate::objects::{PROBE, entry, facts_from, metadata, probe_stays, time_text};
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

/// Where a server is, and who asks it.
#[derive(Clone, Default)]
pub struct Config {
    /// `scheme://host[:port]`; none: that of AWS.
    pub endpoint: Option<String>,
    /// Region of the signature. Empty: `us-east-1`.
    pub region: String,
    /// Key, secret and session token; none: requests are not signed.
    pub credential: Option<(String, String, Option<String>)>,
    /// The bucket is in the path, not in the name of the host; none: so where an endpoint is given.
    pub path_style: Option<bool>,
    /// The way there.
    pub way: Way,
    /// What is said of each object that is written there: names of headers, in small letters, and values.
    pub headers: Headers,
}

/// How S3 is spoken to.
struct Amazon {
    credential: Option<AwsCredential>,
    region: String,
    bucket: String,
    /// The endpoint, to tell services apart.
    service: String,
    /// The server unpacks what is kept packed (`Content-Encoding: gzip`) for whoever does not say that it takes that: other
    /// bytes than a listing tells of.
    unpacks: bool,
    /// Its listings have keys as they are, not encoded, as far as one was seen.
    lists_plainly: AtomicBool,
}

impl Amazon {
    /// The service and who asks it: within one, objects can be copied.
    fn service(&self) -> String {
        let key = self.credential.as_ref().map_or("", |credential| &credential.key_id);
        format!("{key}@{}", self.service)
    }

    /// A key as `x-amz-copy-source` names it.
    fn source(&self, key: &str) -> String {
        format!("/{}/{}", self.bucket, utf8_percent_encode(key, PATH))
    }
}

impl Dialect for Amazon {
    fn sign(&self, request: &Request, built: &mut Built) -> Result<(), String> {
        let has_crc = request.headers.iter().any(|(name, _)| *name == CRC_HEADER);
        if request.signing == Signing::Crc && !has_crc {
            let crc = crc_text(checksum(CrcAlgorithm::Crc64Nvme, &request.body));
            put_header(built, CRC_HEADER, &crc)?;
        }
        if let Some(credential) = &self.credential {
            let authorizer = AwsAuthorizer::new(credential, "s3", &self.region)
                .with_sign_payload(request.signing == Signing::Hashed);
            let digest = request.digest.as_ref().map(|digest| &digest[..]);
            let signed = authorizer.try_authorize(built, digest);
            signed.map_err(|error| error.to_string())?;
        }
        if self.unpacks {
            // Not signed: what stands before the server rewrites it.
            put_header(built, "accept-encoding", "gzip")?;
        }
        Ok(())
    }

    fn asking(&self) -> Vec<(&'static str, String)> {
        vec![("x-amz-checksum-mode", "ENABLED".into())]
    }

    fn ask_page(&self, prefix: &str, shallow: bool, token: Option<String>) -> Request {
        let mut query = Vec::new();
        query.extend(shallow.then(|| ("delimiter", "/".to_owned())));
        query.extend([
            ("encoding-type", "url".to_owned()),
            ("list-type", "2".to_owned()),
            ("prefix", prefix.to_owned()),
        ]);
        query.extend(token.map(|token| ("continuation-token", token)));
        Request {
            query,
            ..Request::default()
        }
    }

    fn page(&self, body: &[u8]) -> Option<Page> {
        let page = xml::page(body)?;
        self.lists_plainly.store(!page.encoded, Ordering::Relaxed);
        Some(page)
    }

    fn entry(&self, key: &[u8], answer: &Answer, size: u64) -> Entry {
        let composite = answer.header("x-amz-checksum-type") == Some("COMPOSITE");
        let facts = Facts {
            crc64: answer.header(CRC_HEADER).filter(|_| !composite).and_then(crc_of),
            md5: md5_of(answer),
            ..facts_from(answer, METADATA)
        };
        entry(key, answer, size, facts)
    }

    fn keeping(&self, facts: &Facts, token: &str) -> Headers {
        metadata(METADATA, facts, token, time_text)
    }

    fn saying(&self, name: &str) -> Option<String> {
        saying(name)
    }

    fn remark(&self, code: &str, answer: &Answer) -> Option<String> {
        let region = answer.header("x-amz-bucket-region");
        match region.filter(|region| *region != self.region) {
            Some(region) => Some(format!("the bucket is in {region}")),
            None => (code == "NoSuchBucket").then(|| self.bucket.clone()),
        }
    }
}

/// The MD5 that a tag is where the object came in one piece, and no key of a user's seals it (AWS, `ETag` of objects).
fn md5_of(answer: &Answer) -> Option<Digest> {
    let sealed = answer.header("x-amz-server-side-encryption");
    let tag = answer
        .header("etag")
        .filter(|_| sealed.is_none_or(|how| how == "AES256"))?;
    Digest::from_hex(Algorithm::Md5, &xml::bare(tag))
}

/// The header by which something is said of an object; none: it can't be said here.
pub fn saying(name: &str) -> Option<String> {
    if let Some(other) = name.strip_prefix(META) {
        return Some(format!("{METADATA}{other}"));
    }
    let is_metadata = name.strip_prefix(METADATA).is_some_and(|name| !name.is_empty());
    (is_metadata || is_of_http(name) || is_among(&TOLD, name)).then(|| name.to_owned())
}

/// Before the names of what is kept with an object.
const METADATA: &str = "x-amz-meta-";
/// What else S3 is told of an object. None of it is a secret, or says how a request goes.
const TOLD: [&str; 10] = [
    "x-amz-acl",
    "x-amz-grant-",
    "x-amz-object-lock-",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
];

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
    amazon: Arc<Amazon>,
    scheme: &'static str,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    side: Side,
    /// And whether what asked for it stays.
    checks: Mutex<Option<(Checks, bool)>>,
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
        let region = if config.region.is_empty() {
            "us-east-1"
        } else {
            &config.region
        };
        let aws = format!("https://s3.{region}.amazonaws.com");
        let endpoint = config.endpoint.as_deref().unwrap_or(&aws).trim_end_matches('/');
        let (protocol, host) = endpoint_of(endpoint)?;
        let path_style = config
            .path_style
            .unwrap_or(config.endpoint.is_some() || bucket.contains('.'));
        let base = if path_style {
            format!("{endpoint}/{bucket}/")
        } else {
            format!("{protocol}://{bucket}.{host}/")
        };
        let amazon = Arc::new(Amazon {
            credential: config.credential.as_ref().map(|(key, secret, token)| AwsCredential {
                key_id: key.clone(),
                secret_key: secret.clone(),
                token: token.clone(),
            }),
            region: region.to_owned(),
            bucket: bucket.to_owned(),
            service: endpoint.to_owned(),
            unpacks: scheme == "gs",
            lists_plainly: AtomicBool::new(false),
        });
        let dialect: Arc<dyn Dialect> = Arc::clone(&amazon) as Arc<dyn Dialect>;
        let client = Client::new(session, base, (&config.way, &config.headers), dialect)?;
        Ok(Self {
            session: Arc::clone(session),
            client: Arc::new(client),
            amazon,
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
        if let Some(why) = unfit(&key) {
            return Err(cannot(why));
        }
        if operation == Operation::Create && self.amazon.lists_plainly.load(Ordering::Relaxed) && !xml::has_form(&key) {
            return Err(cannot(
                "this server would list it by another name: XML has no such character",
            ));
        }
        Ok(key)
    }

    fn ask(&self, operation: Operation, request: &Request) -> Result<Answer, Stopped> {
        let answer = self.client.ask(request)?;
        Ok(answer.map_err(|wrong| fault(operation, self.side, &wrong))?)
    }

    /// What the server checks: asked once, by an object that is there for a moment.
    fn checks(&self) -> Result<Checks, Stopped> {
        let mut known = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((checks, _)) = *known {
            return Ok(checks);
        }
        let key = format!("{}{PROBE}", self.prefix);
        let put = |headers, digest, signing| Request {
            method: Method::PUT,
            key: key.clone(),
            body: Bytes::from_static(b"What does this server check?"),
            headers,
            kept: self.client.asked(false).to_vec(),
            digest,
            signing,
            ..Request::default()
        };
        let wrong_crc = vec![(CRC_HEADER, crc_text(1))];
        let mut left = false;
        let checks = match self.refusal(&put(wrong_crc, None, Signing::Crc), &mut left)? {
            // It is the sum that it refuses: nothing was there, and nobody need be allowed to remove it.
            Some(wrong) if wrong.fate == Fate::Damaged && wrong.code != "XAmzContentSHA256Mismatch" => Checks::Crc,
            // It may refuse any sum of this kind.
            Some(_) if self.refusal(&put(Vec::new(), None, Signing::Crc), &mut left)?.is_none() => Checks::Crc,
            _ => match self.refusal(&put(Vec::new(), Some([1; 32]), Signing::Hashed), &mut left)? {
                Some(_) => Checks::Hash,
                None => Checks::Nothing,
            },
        };
        let stays = left && probe_stays(self.delete_one(&key)?)?;
        *known = Some((checks, stays));
        Ok(checks)
    }

    /// Why the server refuses a request for what it is; none: it has taken it, and `left` is set.
    fn refusal(&self, request: &Request, left: &mut bool) -> Result<Option<Wrong>, Stopped> {
        let retry = self.session.options.retry.retries;
        for again in 0.. {
            let Err(wrong) = self.session.wait(self.client.once(request))? else {
                break;
            };
            match wrong.fate {
                Fate::Transient if again < retry => {}
                Fate::Damaged | Fate::Unable => return Ok(Some(wrong)),
                Fate::Other if wrong.status == 400 => return Ok(Some(wrong)),
                _ => return Err(fault(Operation::Create, self.side, &wrong).into()),
            }
        }
        *left = true;
        Ok(None)
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

    /// Gives an upload up; one that is not there any more is no error.
    fn give_up(&self, key: &str, id: &str) -> Result<(), Stopped> {
        let request = Request {
            method: Method::DELETE,
            key: key.to_owned(),
            query: vec![("uploadId", id.to_owned())],
            ..Request::default()
        };
        match self.client.ask(&request)? {
            Ok(_)
            | Err(Wrong {
                fate: Fate::NoUpload | Fate::Absent,
                ..
            }) => Ok(()),
            Err(wrong) => Err(fault(Operation::Remove, self.side, &wrong).into()),
        }
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

impl Store for S3 {
    fn abilities(&self) -> Abilities {
        let known = *self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        Abilities {
            directories: false,
            walks: false,
            retries: true,
            lists_mtime: false,
            verifies: known.is_some_and(|(checks, _)| checks != Checks::Nothing),
            probe_stays: known.is_some_and(|(_, stays)| stays),
        }
    }

    fn path(&self, key: &[u8]) -> Vec<u8> {
        [
            format!("{}://{}/{}", self.scheme, self.bucket, self.prefix).as_bytes(),
            key,
        ]
        .concat()
    }

    fn identity(&self) -> Vec<u8> {
        self.client.url(&self.prefix).into_bytes()
    }

    fn admit(&self, key: &[u8], _size: Option<u64>) -> Result<(), Fault> {
        self.key(Operation::Create, key).map(drop)
    }

    fn list<'s>(&'s self, _desk: &'s Desk) -> Result<Box<dyn Listing + 's>, Refusal> {
        let pages = Pages::new(&self.session, &self.client, &self.prefix, self.side, false);
        Ok(Box::new(pages.begun(&self.path(b""))?))
    }

    fn directory(&self, key: &[u8]) -> Result<Vec<Entry>, Stopped> {
        let whole = self.key(Operation::List, key)?;
        Pages::new(&self.session, &self.client, &whole, self.side, true).below(key)
    }

    fn stat(&self, key: &[u8]) -> Result<Option<Entry>, Stopped> {
        let whole = self.key(Operation::Stat, key)?;
        self.client.stat(&whole, key, self.side)
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

    fn range(&self, entry: &Entry, from: u64, bytes: u64) -> Result<Bytes, Stopped> {
        let bytes = bytes.min(entry.size.saturating_sub(from));
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let request = content::range(&self.key(Operation::Read, &entry.key)?, entry, from, bytes);
        let answer = self.ask(Operation::Read, &request)?;
        let part = content::ranged(&answer, entry, from, bytes);
        Ok(part.map_err(|wrong| fault(Operation::Read, self.side, &wrong))?)
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
        let names = (whole, key);
        let upload = Upload::begin(&self.session, &self.client, self.side, names, facts, signing);
        if size.is_none_or(|size| size > self.part_bytes(size)) {
            let part = size.map_or(self.session.options.part, |size| self.part_bytes(size));
            return Ok(Box::new(Parts::begin(upload, size, part)?));
        }
        Ok(Box::new(upload))
    }

    fn origin(&self, key: &[u8]) -> Option<Origin> {
        let whole = self.key(Operation::Read, key).ok()?;
        Some(Origin {
            service: self.amazon.service(),
            object: self.amazon.source(&whole),
        })
    }

    fn copy(&self, origin: &Origin, entry: &Entry, key: &[u8], aside: bool) -> Result<Option<Entry>, Stopped> {
        if origin.service != self.amazon.service() || entry.size > MOST_COPY_BYTES {
            return Ok(None);
        }
        let asked = self.client.asked(aside);
        if asked.len() > self.client.asked(true).len() {
            // Of the content the server would keep what the other object has.
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
            kept: asked.to_vec(),
            ..Request::default()
        };
        match self.client.ask(&request)? {
            Ok(_) => {}
            // The server, or whoever asks, can't do it within it, or not with this one.
            Err(Wrong {
                fate: Fate::Unable | Fate::Denied | Fate::Other,
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

    fn abort_stale(&self, before: Time, dry_run: bool, told: &mut dyn FnMut(&[u8])) -> Result<(), Stopped> {
        let mut marker = None::<(String, String)>;
        loop {
            let mut query = vec![
                ("encoding-type", "url".to_owned()),
                ("prefix", self.prefix.clone()),
                ("uploads", String::new()),
            ];
            if let Some((key, id)) = marker.clone() {
                query.extend([("key-marker", key), ("upload-id-marker", id)]);
            }
            let request = Request {
                query,
                ..Request::default()
            };
            let answer = self.ask(Operation::List, &request)?;
            let (uploads, next) = xml::unfinished(&answer.body).ok_or_else(|| Fault {
                operation: Operation::List,
                side: self.side,
                cause: Cause::Answered("server", "the server does not list its uploads".into()),
            })?;
            for upload in uploads {
                let known = self.session.uploads();
                let is_stale = upload.begun.is_some_and(|begun| begun < before)
                    && upload.key.starts_with(&self.prefix)
                    && !known.is_some_and(|known| known.has(&upload.id));
                if !is_stale {
                    continue;
                }
                if !dry_run {
                    self.give_up(&upload.key, &upload.id)?;
                }
                told(&upload.key.as_bytes()[self.prefix.len()..]);
            }
            match next {
                Some(next) if marker.as_ref() != Some(&next) => marker = Some(next),
                _ => return Ok(()),
            }
        }
    }

    fn abort_left(&self, told: &mut dyn FnMut(&[u8])) -> Result<(), Stopped> {
        let Some(uploads) = self.session.uploads() else {
            return Ok(());
        };
        for left in uploads.below(&self.client.url(&self.prefix)) {
            let Some(key) = self.client.key(&left.url) else {
                continue;
            };
            self.give_up(&key, &left.id)?;
            uploads.end(&left.id);
            told(&key.as_bytes()[self.prefix.len()..]);
        }
        Ok(())
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
    use crate::session::SessionOptions;

    #[test]
    fn keys_go_as_they_are() {
        let session = Session::open(SessionOptions::default(), Arc::default()).unwrap();
        let config = Config {
            endpoint: Some("http://127.0.0.1:1".into()),
            credential: Some(("KEY".into(), "SECRET".into(), None)),
            ..Config::default()
        };
        let store = S3::new(&session, &config, ("s3", "bucket", ""), Side::Source).unwrap();
        let request = Request {
            key: "a+b %/ü~é".into(),
            query: vec![("prefix", "a+b &".into())],
            ..Request::default()
        };
        let built = store.client.build(&request).unwrap();
        let url = "http://127.0.0.1:1/bucket/a%2Bb%20%25/%C3%BC~%C3%A9?prefix=a%2Bb%20%26";
        assert_eq!(built.uri().to_string(), url);
        assert!(!format!("{built:?}").contains("SECRET"));
        assert_eq!(store.amazon.source("a b"), "/bucket/a%20b");
        assert_eq!(crc_of(&crc_text(0x0123_4567_89ab_cdef)), Some(0x0123_4567_89ab_cdef));
    }

    #[test]
    fn an_upload_of_which_something_else_is_said_is_another() {
        let manner = |headers: &[(String, String)], facts: &Facts| {
            let session = Session::open(SessionOptions::default(), Arc::default()).unwrap();
            let config = Config {
                headers: headers.to_vec(),
                ..Config::default()
            };
            let store = S3::new(&session, &config, ("s3", "bucket", ""), Side::Source).unwrap();
            let names = ("a".to_owned(), &b"a"[..]);
            let upload = Upload::begin(&session, &store.client, Side::Source, names, facts, Signing::Crc);
            upload.note("", 1, 1, "crc").manner
        };
        let (plain, mode) = (Facts::default(), Some(0o600));
        let other = Facts {
            mode,
            ..Facts::default()
        };
        let cold = [("x-amz-storage-class".to_owned(), "COLD".to_owned())];
        assert_eq!(manner(&[], &plain), manner(&[], &plain));
        assert_ne!(manner(&[], &plain), manner(&[], &other));
        assert_ne!(manner(&[], &plain), manner(&cold, &plain));
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
