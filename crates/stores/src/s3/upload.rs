//! An object on its way to a server, in one request or in parts.
//!
//! Comes in: parts; goes out: the object as the server has it. Of an upload in parts the server is asked afterwards: it is
//! ours by a token, as long as it should be, and has the sum that it should where the server keeps one; so it is settled
//! too when the answer to its completion was lost. What is wrong and ours is removed. An upload that was written down is left as
//! it is when the job is to stop: the next run asks which parts there are, and sends those that are not what it reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bulkhaul_engine::error::{Cause, Fault, Operation, Side, Stopped};
use crc_fast::{CrcAlgorithm, checksum};
use http::Method;
use md5::{Digest as _, Md5};
use tokio::task::JoinHandle;

use crate::objects::client::{Answer, Client, Fate, Request, Signing, Wrong, crc_text, fault};
use crate::objects::xml::{self, Kept, Taken};
use crate::s3::headers_of;
use crate::session::{Session, token};
use crate::store::{Entry, Facts, Part, Sums, Writing};
use crate::uploads::Begun;

/// How long an upload that is given up may take to go.
const LEAVE: Duration = Duration::from_secs(5);

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// An object on its way in one request.
pub struct Upload<'s> {
    session: &'s Session,
    client: Arc<Client>,
    side: Side,
    /// In the bucket, and relative to the root.
    whole: String,
    key: Vec<u8>,
    facts: Facts,
    signing: Signing,
    token: String,
    part: Option<Part>,
}

impl<'s> Upload<'s> {
    /// Nothing is sent yet.
    pub fn begin(
        session: &'s Session,
        client: &Arc<Client>,
        side: Side,
        whole: String,
        key: &[u8],
        facts: &Facts,
        signing: Signing,
    ) -> Self {
        Self {
            session,
            client: Arc::clone(client),
            side,
            whole,
            key: key.to_vec(),
            facts: facts.clone(),
            signing,
            token: token(),
            part: None,
        }
    }

    /// The same in parts, which the server is told of; one that an earlier run has begun is gone on with.
    pub fn in_parts(mut self, size: Option<u64>, part: u64) -> Result<Parts<'s>, Stopped> {
        let like = size.map(|size| Begun {
            url: self.client.url(&self.whole).into_bytes(),
            id: String::new(),
            token: self.token.clone(),
            size,
            part,
            mtime: self.facts.mtime,
            manner: if self.signing == Signing::Crc { "crc" } else { "hash" },
        });
        let uploads = self.session.uploads();
        let earlier = like.as_ref().and_then(|like| uploads?.of(like));
        if let Some(begun) = earlier {
            if let Some(there) = self.parts_of(&begun.id)? {
                self.token = begun.token;
                return Ok(Parts::of(self, begun.id, size, there));
            }
            // It was completed, or given up.
            if let Some(uploads) = uploads {
                uploads.end(&begun.id);
            }
        }
        let mut headers = headers_of(&self.facts, &self.token);
        if self.signing == Signing::Crc {
            headers.push(("x-amz-checksum-algorithm", "CRC64NVME".into()));
        }
        let request = Request {
            method: Method::POST,
            query: vec![("uploads", String::new())],
            headers,
            ..self.request()
        };
        let answer = self.ask(&request)?;
        let id = match xml::find(&answer.body, "UploadId") {
            Some((_, Some(id))) if !id.is_empty() => id,
            _ => return Err(self.wrong("server", "the server begins no upload in parts, and says no why")),
        };
        if let (Some(uploads), Some(like)) = (uploads, like) {
            uploads.begin(Begun { id: id.clone(), ..like });
        }
        Ok(Parts::of(self, id, size, HashMap::new()))
    }

    /// The parts that the server has of an upload; none: it has no such upload, or does not say.
    fn parts_of(&self, id: &str) -> Result<Option<HashMap<u32, Kept>>, Stopped> {
        let (mut all, mut marker) = (HashMap::new(), None::<String>);
        loop {
            let mut query = vec![("uploadId", id.to_owned())];
            query.extend(marker.clone().map(|marker| ("part-number-marker", marker)));
            let request = Request {
                query,
                ..self.request()
            };
            let answer = self.client.ask(&request)?;
            let Some((parts, next)) = answer.ok().and_then(|answer| xml::parts(&answer.body)) else {
                return Ok(None);
            };
            all.extend(parts.into_iter().map(|part| (part.number, part)));
            match next {
                Some(next) if marker.as_ref() != Some(&next) => marker = Some(next),
                _ => return Ok(Some(all)),
            }
        }
    }

    fn request(&self) -> Request {
        Request {
            key: self.whole.clone(),
            ..Request::default()
        }
    }

    fn ask(&self, request: &Request) -> Result<Answer, Stopped> {
        let answer = self.client.ask(request)?;
        Ok(answer.map_err(|wrong| fault(Operation::Write, self.side, &wrong))?)
    }

    fn wrong(&self, kind: &'static str, text: &str) -> Stopped {
        Stopped::Fault(Fault {
            operation: Operation::Write,
            side: self.side,
            cause: Cause::Answered(kind, text.to_owned()),
        })
    }

    /// What the server has under the key.
    fn there(&self) -> Result<Option<Entry>, Stopped> {
        match self.client.ask(&self.client.head(&self.whole))? {
            Ok(answer) => Ok(answer
                .length()
                .map(|size| self.client.dialect.entry(&self.key, &answer, size))),
            Err(Wrong { fate: Fate::Absent, .. }) => Ok(None),
            Err(wrong) => Err(fault(Operation::Verify, self.side, &wrong).into()),
        }
    }
}

impl Writing for Upload<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        if self.part.replace(part).is_some() {
            return Err(self.wrong("changed", "it is longer than it was when it was found"));
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        let part = self.part.take();
        self.facts.blake3.clone_from(&sums.blake3);
        let body = part.as_ref().map(|part| part.bytes.clone()).unwrap_or_default();
        let request = Request {
            method: Method::PUT,
            headers: headers_of(&self.facts, &self.token),
            signing: self.signing,
            body,
            ..self.request()
        };
        let answer = self.ask(&request)?;
        Ok(self.client.dialect.entry(&self.key, &answer, sums.bytes))
    }

    fn abort(self: Box<Self>) {}
}

/// An object on its way in parts.
pub struct Parts<'s> {
    upload: Upload<'s>,
    id: String,
    /// None: nobody knows how long it will be.
    size: Option<u64>,
    begun: u32,
    /// What the server has of an earlier run.
    there: HashMap<u32, Kept>,
    /// Bytes of those that were taken over.
    had: u64,
    taken: HashMap<u32, Taken>,
    tasks: Vec<JoinHandle<Result<(u32, Taken), Wrong>>>,
}

impl<'s> Parts<'s> {
    fn of(upload: Upload<'s>, id: String, size: Option<u64>, there: HashMap<u32, Kept>) -> Self {
        Self {
            upload,
            id,
            size,
            begun: 0,
            there,
            had: 0,
            taken: HashMap::new(),
            tasks: Vec::new(),
        }
    }

    /// What the server has of a part already, by its sums.
    fn kept(&mut self, number: u32, bytes: &[u8]) -> Option<Taken> {
        let there = self.there.remove(&number)?;
        let crc = crc_text(checksum(CrcAlgorithm::Crc64Nvme, bytes));
        let is_same = there.size == bytes.len() as u64
            && match &there.taken.crc {
                Some(theirs) => *theirs == crc,
                None => xml::bare(&there.taken.tag) == hex(&Md5::digest(bytes)).into_bytes(),
            };
        is_same.then(|| Taken {
            tag: there.taken.tag,
            crc: (self.upload.signing == Signing::Crc).then_some(crc),
        })
    }

    /// It has ended, in whatever way.
    fn ended(&self) {
        if let Some(uploads) = self.upload.session.uploads() {
            uploads.end(&self.id);
        }
    }

    /// Takes in what became of parts: of those that are through, or of `all`.
    fn gather(&mut self, all: bool) -> Result<(), Stopped> {
        for task in std::mem::take(&mut self.tasks) {
            if !all && !task.is_finished() {
                self.tasks.push(task);
                continue;
            }
            let sent = self.upload.session.wait(task)?;
            let sent = sent.map_err(|error| self.upload.wrong("internal", &error.to_string()))?;
            let (number, taken) = sent.map_err(|wrong| fault(Operation::Write, self.upload.side, &wrong))?;
            self.taken.insert(number, taken);
        }
        Ok(())
    }

    fn complete(&mut self, sums: &Sums) -> Result<Entry, Stopped> {
        self.gather(true)?;
        if self.size.is_some_and(|size| size != sums.bytes) {
            return Err(self
                .upload
                .wrong("changed", "it is not as long as it was when it was found"));
        }
        let taken: Option<Vec<Taken>> = (1..=self.begun).map(|number| self.taken.remove(&number)).collect();
        let taken = taken.ok_or_else(|| self.upload.wrong("internal", "a part of it is missing"))?;
        let request = Request {
            method: Method::POST,
            query: vec![("uploadId", self.id.clone())],
            headers: vec![("content-type", "application/xml".into())],
            body: xml::complete(&taken).into(),
            ..self.upload.request()
        };
        let completed = self.upload.client.ask(&request)?;
        self.settle(completed, sums)
    }

    /// The completion was answered so; what has become of it?
    fn settle(&self, completed: Result<Answer, Wrong>, sums: &Sums) -> Result<Entry, Stopped> {
        let upload = &self.upload;
        if let Err(wrong) = &completed
            && !matches!(wrong.fate, Fate::Transient | Fate::NoUpload | Fate::Absent)
        {
            return Err(fault(Operation::Write, upload.side, wrong).into());
        }
        let there = upload.there()?;
        let ours = there.filter(|entry| {
            entry
                .facts
                .as_ref()
                .is_some_and(|facts| facts.token.as_ref() == Some(&upload.token))
        });
        let Some(entry) = ours else {
            return Err(match completed {
                Err(wrong) => fault(Operation::Write, upload.side, &wrong).into(),
                Ok(_) => upload.wrong("damaged", "the server says that it is complete, and has something else"),
            });
        };
        let facts = entry.facts.clone().unwrap_or_default();
        if entry.size == sums.bytes && sums.fit(&facts) {
            return Ok(entry);
        }
        let request = Request {
            method: Method::DELETE,
            ..upload.request()
        };
        upload.ask(&request)?;
        let text = format!(
            "the server has made {} bytes of {}, or others: that was removed again",
            entry.size, sums.bytes
        );
        Err(upload.wrong("damaged", &text))
    }
}

impl Writing for Parts<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        self.begun += 1;
        let number = self.begun;
        if let Some(taken) = self.kept(number, &part.bytes) {
            self.taken.insert(number, taken);
            self.had += part.bytes.len() as u64;
            return Ok(());
        }
        let request = Request {
            method: Method::PUT,
            query: vec![("partNumber", number.to_string()), ("uploadId", self.id.clone())],
            signing: self.upload.signing,
            body: part.bytes.clone(),
            ..self.upload.request()
        };
        let client = Arc::clone(&self.upload.client);
        self.tasks.push(self.upload.session.runtime().spawn(async move {
            let answer = client.send(&request).await?;
            let crc =
                (request.signing == Signing::Crc).then(|| crc_text(checksum(CrcAlgorithm::Crc64Nvme, &part.bytes)));
            // Its memory is given back with it.
            drop(part);
            let tag = answer.header("etag").unwrap_or_default().to_owned();
            Ok((number, Taken { tag, crc }))
        }));
        self.gather(false)
    }

    fn had(&self) -> u64 {
        self.had
    }

    fn finish(mut self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        let completed = self.complete(sums);
        if completed.is_ok() {
            self.ended();
        } else {
            self.abort();
        }
        completed
    }

    fn abort(self: Box<Self>) {
        for task in &self.tasks {
            task.abort();
        }
        let uploads = self.upload.session.uploads();
        if self.upload.session.cancel.is_draining() && uploads.is_some_and(|uploads| uploads.has(&self.id)) {
            // The next run goes on with it.
            return;
        }
        self.ended();
        let request = Request {
            method: Method::DELETE,
            query: vec![("uploadId", self.id.clone())],
            ..self.upload.request()
        };
        let upload = &self.upload;
        let given_up = async { tokio::time::timeout(LEAVE, upload.client.once(&request)).await };
        // Where that fails it stays, unfinished, as after a run that was killed: nobody takes it for an object.
        match upload.session.runtime().block_on(given_up) {
            Ok(Ok(_) | Err(_)) | Err(_) => {}
        }
    }
}
