//! Azure: one prefix of one container of blobs, on Azure or a server that speaks as it does.
//!
//! Comes in: [`Config`], whose credential is account, key and shared access signature, and a prefix; goes out: a [`Store`]. A
//! listing tells what is kept with each blob, so no question an entry is needed. What is sent goes with its CRC-64, or its
//! MD5 where the server does not check that, which is asked before the first upload. A large blob comes together from blocks that nobody sees
//! before all are named; what becomes of that is asked afterwards, by size and a token of our own, also where the answer was lost.
//! Blocks that are never named go by themselves after a week; until then the next run takes over those that it would send.

mod upload;

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhaul_engine::error::{Cause, Fault, Operation, Refusal, Side, Stopped};
use bulkhaul_engine::job::desk::Desk;
use bulkhaul_formats::digest::{Algorithm, Digest};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use http::Method;
use md5::{Digest as _, Md5};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential, split_sas};

use self::upload::Blocks;
use crate::objects::client::{
    Answer, Built, Client, Dialect, Fate, Headers, Request, Signing, Wrong, endpoint_of, fault, put_header,
};
use crate::objects::content::{self, Content};
use crate::objects::listing::Pages;
use crate::objects::said::{META, is_among, is_of_http};
use crate::objects::upload::Upload;
use crate::objects::xml::{self, Page};
use crate::objects::{PROBE, date_text, entry, facts_from, metadata, probe_stays};
use crate::s3::Config;
use crate::session::Session;
use crate::store::{Abilities, Entry, Facts, Gone, Listing, Reading, Store, Told, Writing};

/// Characters of a name (Azure, naming of blobs).
const MOST_NAME_CHARACTERS: usize = 1024;
/// Blocks of a blob.
const MOST_BLOCKS: u64 = 50_000;
/// The version that requests are written for.
const VERSION: &str = "2023-11-03";
/// The sum of a content that the server checks: CRC-64/NVME, its lowest byte first.
const CRC_HEADER: &str = "x-ms-content-crc64";
/// The same for a server that does not know that.
const MD5_HEADER: &str = "content-md5";
/// Before the names of what is kept with a blob.
const METADATA: &str = "x-ms-meta-";
/// What else Azure is told of a blob. None of it is a secret, or says how a request goes.
const TOLD: [&str; 5] = [
    "x-ms-access-tier",
    "x-ms-encryption-scope",
    "x-ms-immutability-policy-",
    "x-ms-legal-hold",
    "x-ms-tags",
];

/// The header by which something is said of a blob; none: it can't be said here.
pub fn saying(name: &str) -> Option<String> {
    let metadata = name.strip_prefix(META).or_else(|| name.strip_prefix(METADATA));
    if let Some(name) = metadata {
        // Names are those of C# (Azure, naming of metadata).
        let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
        let is_name =
            name.starts_with(is_first) && name.chars().all(|letter| is_first(letter) || letter.is_ascii_digit());
        return is_name.then(|| format!("{METADATA}{name}"));
    }
    match name {
        "expires" => None,
        name if is_of_http(name) => Some(format!("x-ms-blob-{name}")),
        name => is_among(&TOLD, name).then(|| name.to_owned()),
    }
}

/// How Azure is spoken to.
struct Blobs {
    credential: Option<AzureCredential>,
    account: String,
    container: String,
}

impl Dialect for Blobs {
    fn sign(&self, request: &Request, built: &mut Built) -> Result<(), String> {
        put_header(built, "x-ms-version", VERSION)?;
        if request.method == Method::PUT && request.query.is_empty() {
            put_header(built, "x-ms-blob-type", "BlockBlob")?;
        }
        let has = |wanted: &str| request.headers.iter().any(|(name, _)| *name == wanted);
        match request.signing {
            // Of nothing there is no sum.
            _ if request.body.is_empty() => {}
            Signing::Crc if !has(CRC_HEADER) => {
                let crc = checksum(CrcAlgorithm::Crc64Nvme, &request.body);
                put_header(built, CRC_HEADER, &crc_text(crc))?;
            }
            Signing::Md5 if !has(MD5_HEADER) => put_header(built, MD5_HEADER, &md5_text(&request.body))?,
            _ => {}
        }
        let Some(credential) = &self.credential else {
            return Ok(());
        };
        let signed = AzureAuthorizer::new(credential, &self.account).try_authorize(built);
        signed.map_err(|error| error.to_string())
    }

    fn asking(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn ask_page(&self, prefix: &str, shallow: bool, token: Option<String>) -> Request {
        let mut query = vec![("restype", "container".to_owned()), ("comp", "list".to_owned())];
        query.push(("include", "metadata".to_owned()));
        query.push(("prefix", prefix.to_owned()));
        query.extend(shallow.then(|| ("delimiter", "/".to_owned())));
        query.extend(token.map(|token| ("marker", token)));
        Request {
            query,
            ..Request::default()
        }
    }

    fn page(&self, body: &[u8]) -> Option<Page> {
        xml::blobs(body)
    }

    fn entry(&self, key: &[u8], answer: &Answer, size: u64) -> Entry {
        let md5 = answer.header("content-md5").filter(|_| answer.status == 200);
        let facts = Facts {
            md5: md5.and_then(md5_of),
            ..facts_from(answer, METADATA)
        };
        entry(key, answer, size, facts)
    }

    fn keeping(&self, facts: &Facts, token: &str) -> Headers {
        metadata(METADATA, facts, token, date_text)
    }

    fn saying(&self, name: &str) -> Option<String> {
        saying(name)
    }

    fn remark(&self, code: &str, _answer: &Answer) -> Option<String> {
        (code == "ContainerNotFound").then(|| self.container.clone())
    }
}

/// A CRC-64/NVME as headers have it.
fn crc_text(crc: u64) -> String {
    BASE64_STANDARD.encode(crc.to_le_bytes())
}

/// The MD5 of a content as headers have it.
/// The MD5 that somebody has kept with a blob.
fn md5_of(text: &str) -> Option<Digest> {
    Digest::new(Algorithm::Md5, &BASE64_STANDARD.decode(text).ok()?)
}

fn md5_text(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Md5::digest(bytes))
}

/// What a server checks of what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checks {
    /// A CRC-64/NVME, as Azure.
    Crc,
    /// An MD5.
    Md5,
    /// Nothing.
    Nothing,
}

/// Why the way to the server would change a name, or the server would not take it, or could not list it again.
fn unfit(key: &str) -> Option<&'static str> {
    if key.chars().count() > MOST_NAME_CHARACTERS {
        return Some("Azure has no name longer than 1024 characters");
    }
    if key.split('/').any(|part| matches!(part, "." | "..")) {
        return Some("a URL has no . or .. between slashes");
    }
    if key.ends_with('.') || key.split('/').any(|part| part.ends_with('.')) {
        return Some("Azure takes dots at the end of a name away");
    }
    if key.contains('\\') {
        return Some("Azure takes a backslash for a slash");
    }
    (!xml::carries(key)).then_some("Azure can't list names with control characters")
}

/// A prefix of a container.
pub struct Azure {
    session: Arc<Session>,
    client: Arc<Client>,
    container: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    side: Side,
    /// None: the server was not asked yet.
    /// And whether what asked for it stays.
    checks: Mutex<Option<(Checks, bool)>>,
}

impl Azure {
    /// A store on this side of a job. Refuses what can be none; asks nothing yet.
    pub fn new(
        session: &Arc<Session>,
        config: &Config,
        (container, prefix): (&str, &str),
        side: Side,
    ) -> Result<Self, Refusal> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '$' | '_');
        if container.is_empty() || !container.chars().all(is_name) {
            let text = format!("az://{container}: this is no name of a container: az://CONTAINER/PREFIX");
            return Err(Refusal::Usage(text));
        }
        let mut prefix = prefix.to_owned();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        if let Some(why) = unfit(prefix.trim_end_matches('/')) {
            return Err(Refusal::Usage(format!("az://{container}/{prefix}: {why}")));
        }
        let none = || Refusal::Usage("az: there is no name of an account".into());
        let (account, key, sas) = config.credential.clone().ok_or_else(none)?;
        let bad = |what: &str| Refusal::Usage(format!("az: the {what} is none of Azure"));
        let credential = match (key.as_str(), sas) {
            ("", None) => None,
            ("", Some(sas)) => {
                let pairs = split_sas(sas.trim_start_matches('?')).map_err(|_| bad("shared access signature"))?;
                Some(AzureCredential::SASToken(pairs))
            }
            (key, _) => {
                let key = AzureAccessKey::try_new(key).map_err(|_| bad("key of the account"))?;
                Some(AzureCredential::AccessKey(key))
            }
        };
        let azure = format!("https://{account}.blob.core.windows.net");
        let endpoint = config.endpoint.as_deref().unwrap_or(&azure).trim_end_matches('/');
        endpoint_of(endpoint)?;
        let dialect = Blobs {
            credential,
            account,
            container: container.to_owned(),
        };
        let base = format!("{endpoint}/{container}/");
        let client = Client::new(session, base, (&config.way, &config.headers), Arc::new(dialect))?;
        Ok(Self {
            session: Arc::clone(session),
            client: Arc::new(client),
            container: container.to_owned(),
            prefix,
            side,
            checks: Mutex::new(None),
        })
    }

    /// The whole name, if it can be had.
    fn key(&self, operation: Operation, key: &[u8]) -> Result<String, Fault> {
        let cannot = |why: &str| Fault {
            operation,
            side: self.side,
            cause: Cause::Answered("name", format!("{why}, so it is neither copied nor taken for absent")),
        };
        let key = str::from_utf8(key).map_err(|_| cannot("names of Azure are UTF-8, and this one is not"))?;
        let key = format!("{}{key}", self.prefix);
        match unfit(&key) {
            Some(why) => Err(cannot(why)),
            None => Ok(key),
        }
    }

    /// What the server checks of what it is sent: asked once, by a blob that is there for a moment where it is not refused.
    fn checks(&self) -> Result<Checks, Stopped> {
        let mut known = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((checks, _)) = *known {
            return Ok(checks);
        }
        let key = format!("{}{PROBE}", self.prefix);
        let other = b"something else";
        let wrong = |header, sum, signing| Request {
            method: Method::PUT,
            key: key.clone(),
            body: Bytes::from_static(b"What does this server check?"),
            headers: vec![(header, sum)],
            kept: self.client.asked(false).to_vec(),
            signing,
            ..Request::default()
        };
        let crc = wrong(
            CRC_HEADER,
            crc_text(checksum(CrcAlgorithm::Crc64Nvme, other)),
            Signing::Crc,
        );
        let md5 = wrong(MD5_HEADER, md5_text(other), Signing::Md5);
        let mut left = false;
        let checks = match self.client.ask(&crc)? {
            Err(Wrong {
                fate: Fate::Damaged, ..
            }) => Checks::Crc,
            // It does not know the header, or takes anything for it.
            refused => {
                left |= self.is_taken(refused)?;
                let taken = self.is_taken(self.client.ask(&md5)?)?;
                left |= taken;
                if taken { Checks::Nothing } else { Checks::Md5 }
            }
        };
        let stays = left && probe_stays(self.delete_one(&key)?)?;
        *known = Some((checks, stays));
        Ok(checks)
    }

    /// Whether the server took what it should refuse; an error where it refused it for something else.
    fn is_taken(&self, answer: Result<Answer, Wrong>) -> Result<bool, Stopped> {
        match answer {
            Ok(_) => Ok(true),
            Err(wrong) if wrong.status == 400 || matches!(wrong.fate, Fate::Damaged | Fate::Unable) => Ok(false),
            Err(wrong) => Err(fault(Operation::Create, self.side, &wrong).into()),
        }
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
}

impl Store for Azure {
    fn abilities(&self) -> Abilities {
        let known = *self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        Abilities {
            directories: false,
            walks: false,
            retries: true,
            lists_mtime: true,
            verifies: known.is_some_and(|(checks, _)| checks != Checks::Nothing),
            probe_stays: known.is_some_and(|(_, stays)| stays),
        }
    }

    fn path(&self, key: &[u8]) -> Vec<u8> {
        [format!("az://{}/{}", self.container, self.prefix).as_bytes(), key].concat()
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
        let content = Content::open(&self.session, &self.client, self.side, key, entry)?;
        Ok(Box::new(content))
    }

    fn range(&self, entry: &Entry, from: u64, bytes: u64) -> Result<Bytes, Stopped> {
        let bytes = bytes.min(entry.size.saturating_sub(from));
        if bytes == 0 {
            return Ok(Bytes::new());
        }
        let request = content::range(&self.key(Operation::Read, &entry.key)?, entry, from, bytes);
        let wrong = |wrong| fault(Operation::Read, self.side, &wrong);
        let answer = self.client.ask(&request)?.map_err(wrong)?;
        Ok(content::ranged(&answer, entry, from, bytes).map_err(wrong)?)
    }

    fn part_bytes(&self, size: u64) -> u64 {
        let least = size.div_ceil(MOST_BLOCKS).next_multiple_of(1 << 20);
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
            Checks::Md5 | Checks::Nothing => Signing::Md5,
        };
        let names = (whole, key);
        let upload = Upload::begin(&self.session, &self.client, self.side, names, facts, signing);
        if size.is_none_or(|size| size > self.part_bytes(size)) {
            let part = size.map_or(self.session.options.part, |size| self.part_bytes(size));
            return Ok(Box::new(Blocks::begin(upload, size, part)?));
        }
        Ok(Box::new(upload))
    }

    fn abort_left(&self, _told: &mut dyn FnMut(&[u8])) -> Result<(), Stopped> {
        // Its blocks went with whatever has the name now, or the server forgets them by itself.
        if let Some(uploads) = self.session.uploads() {
            for left in uploads.below(&self.client.url(&self.prefix)) {
                uploads.end(&left.id);
            }
        }
        Ok(())
    }

    fn delete(&self, keys: &[Vec<u8>], told: Told<'_>) -> Result<(), Stopped> {
        for key in keys {
            match self.key(Operation::Remove, key) {
                Err(fault) => told(key, Err(fault)),
                Ok(whole) => told(key, self.delete_one(&whole)?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_blobs() {
        for (name, header) in [
            ("content-type", Some("x-ms-blob-content-type")),
            ("cache-control", Some("x-ms-blob-cache-control")),
            ("expires", None),
            ("x-ms-access-tier", Some("x-ms-access-tier")),
            ("x-amz-acl", None),
            ("meta-owner_2", Some("x-ms-meta-owner_2")),
            ("meta-owner-of", None),
            ("meta-2", None),
            ("meta-", None),
        ] {
            assert_eq!(saying(name).as_deref(), header, "{name}");
        }
    }

    #[test]
    fn names_that_would_change_are_failures() {
        for key in ["a/./b", "..", "a.", "a./b", "a\\b", "a\nb", &"x".repeat(1025)] {
            assert!(unfit(key).is_some(), "{key}");
        }
        for key in ["a//b", " n ", ".a", "ü\u{1f600}", "d/", &"ü".repeat(1024)] {
            assert_eq!(unfit(key), None, "{key}");
        }
    }
}
