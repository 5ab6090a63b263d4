//! An object on its way to a server in parts.
//!
//! Comes in: parts; goes out: the object as the server has it. An upload that an earlier run has begun is gone on with: which
//! parts there are is asked of the server, and those that are not what is read now are sent.

use std::collections::HashMap;
use std::time::Duration;

use bulkhaul_engine::error::Stopped;
use crc_fast::{CrcAlgorithm, checksum};
use http::Method;
use md5::{Digest as _, Md5};

use crate::objects::client::{Request, Signing, crc_text};
use crate::objects::upload::{Pieces, Upload};
use crate::objects::xml::{self, Kept, Taken};
use crate::store::{Entry, Part, Sums, Writing};

/// How long an upload that is given up may take to go.
const LEAVE: Duration = Duration::from_secs(5);

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// The parts that the server has of an upload; none: it has no such upload, or does not say.
fn parts_of(upload: &Upload<'_>, id: &str) -> Result<Option<HashMap<u32, Kept>>, Stopped> {
    let (mut all, mut marker) = (HashMap::new(), None::<String>);
    loop {
        let mut query = vec![("uploadId", id.to_owned())];
        query.extend(marker.clone().map(|marker| ("part-number-marker", marker)));
        let request = Request {
            query,
            ..upload.request()
        };
        let answer = upload.client.ask(&request)?;
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
    pieces: Pieces<(u32, Taken)>,
}

impl<'s> Parts<'s> {
    /// The server is told of it; one that an earlier run has begun is gone on with.
    pub fn begin(mut upload: Upload<'s>, size: Option<u64>, part: u64) -> Result<Self, Stopped> {
        let manner = if upload.signing == Signing::Crc { "crc" } else { "hash" };
        let uploads = upload.session.uploads();
        let earlier = size.and_then(|size| uploads?.of(&upload.note("", size, part, manner)));
        if let Some(begun) = earlier {
            if let Some(there) = parts_of(&upload, &begun.id)? {
                upload.token = begun.token;
                return Ok(Self::of(upload, begun.id, size, there));
            }
            // It was completed, or given up.
            upload.ended(&begun.id);
        }
        let crc = ("x-amz-checksum-algorithm", "CRC64NVME".to_owned());
        let headers = if upload.signing == Signing::Crc {
            vec![crc]
        } else {
            Vec::new()
        };
        let request = Request {
            method: Method::POST,
            query: vec![("uploads", String::new())],
            headers,
            kept: upload.kept(),
            ..upload.request()
        };
        let answer = upload.ask(&request)?;
        let id = match xml::find(&answer.body, "UploadId") {
            Some((_, Some(id))) if !id.is_empty() => id,
            _ => return Err(upload.wrong("server", "the server begins no upload in parts, and says no why")),
        };
        if let (Some(uploads), Some(size)) = (uploads, size) {
            uploads.begin(upload.note(&id, size, part, manner));
        }
        Ok(Self::of(upload, id, size, HashMap::new()))
    }

    fn of(upload: Upload<'s>, id: String, size: Option<u64>, there: HashMap<u32, Kept>) -> Self {
        Self {
            upload,
            id,
            size,
            begun: 0,
            there,
            had: 0,
            taken: HashMap::new(),
            pieces: Pieces::default(),
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

    fn complete(&mut self, sums: &Sums) -> Result<Entry, Stopped> {
        self.taken.extend(self.pieces.gather(&self.upload, true)?);
        self.upload.check_size(self.size, sums)?;
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
        self.upload.settle(completed, sums)
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
        let signing = self.upload.signing;
        let request = Request {
            method: Method::PUT,
            query: vec![("partNumber", number.to_string()), ("uploadId", self.id.clone())],
            signing,
            body: part.bytes.clone(),
            ..self.upload.request()
        };
        self.pieces.send(&self.upload, request, part, move |answer, part| {
            let crc = (signing == Signing::Crc).then(|| crc_text(checksum(CrcAlgorithm::Crc64Nvme, &part.bytes)));
            let tag = answer.header("etag").unwrap_or_default().to_owned();
            (number, Taken { tag, crc })
        });
        self.taken.extend(self.pieces.gather(&self.upload, false)?);
        Ok(())
    }

    fn had(&self) -> u64 {
        self.had
    }

    fn unsaid(&self) -> Vec<String> {
        self.upload.unsaid()
    }

    fn finish(mut self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        let completed = self.complete(sums);
        if completed.is_ok() {
            self.upload.ended(&self.id);
        } else {
            self.abort();
        }
        completed
    }

    fn abort(self: Box<Self>) {
        self.pieces.abort();
        if self.upload.stays(&self.id) {
            return;
        }
        self.upload.ended(&self.id);
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
