//! A blob on its way to a server in blocks.
//!
//! Comes in: parts; goes out: the blob as the server has it. Nobody sees blocks before all are named. The name of each holds the
//! token of the upload, its place and the sum of its content: so what the server has of an earlier run, and has checked when it
//! came, is told by names alone, and only what is not there is sent.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhaul_engine::error::Stopped;
use crc_fast::{CrcAlgorithm, checksum};
use http::Method;

use crate::azure::{CRC_HEADER, crc_text};
use crate::objects::client::{Request, Signing};
use crate::objects::upload::{Pieces, Upload};
use crate::objects::xml;
use crate::store::{Entry, Part, Sums, Writing};

/// How uploads in blocks are written down.
const MANNER: &str = "blocks";

/// Names and bytes of the blocks that the server has of a blob and nobody has named; none: it has none, or does not say.
fn blocks_of(upload: &Upload<'_>) -> Result<Option<HashMap<String, u64>>, Stopped> {
    let request = Request {
        query: vec![("blocklisttype", "uncommitted".into()), ("comp", "blocklist".into())],
        ..upload.request()
    };
    let answer = upload.client.ask(&request)?;
    Ok(answer.ok().and_then(|answer| xml::blocks(&answer.body)))
}

/// A blob on its way in blocks.
pub struct Blocks<'s> {
    upload: Upload<'s>,
    /// None: nobody knows how long it will be.
    size: Option<u64>,
    /// What the server has of an earlier run.
    there: HashMap<String, u64>,
    /// Bytes of those that were taken over.
    had: u64,
    names: Vec<String>,
    pieces: Pieces<()>,
}

impl<'s> Blocks<'s> {
    /// One that an earlier run has begun is gone on with.
    pub fn begin(mut upload: Upload<'s>, size: Option<u64>, part: u64) -> Result<Self, Stopped> {
        let mut there = HashMap::new();
        if let (Some(uploads), Some(size)) = (upload.session.uploads(), size) {
            match uploads.of(&upload.note("", size, part, MANNER)) {
                Some(begun) => {
                    upload.token = begun.token;
                    there = blocks_of(&upload)?.unwrap_or_default();
                }
                // The server gives it no name.
                None => uploads.begin(upload.note(&upload.token, size, part, MANNER)),
            }
        }
        Ok(Self {
            upload,
            size,
            there,
            had: 0,
            names: Vec::new(),
            pieces: Pieces::default(),
        })
    }

    fn complete(&mut self, sums: &Sums) -> Result<Entry, Stopped> {
        self.pieces.gather(&self.upload, true)?;
        self.upload.check_size(self.size, sums)?;
        self.upload.keep(sums);
        let request = Request {
            method: Method::PUT,
            query: vec![("comp", "blocklist".into())],
            kept: self.upload.kept(),
            signing: self.upload.signing,
            body: xml::block_list(&self.names).into(),
            ..self.upload.request()
        };
        let named = self.upload.client.ask(&request)?;
        self.upload.settle(named, sums)
    }
}

impl Writing for Blocks<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        let crc = checksum(CrcAlgorithm::Crc64Nvme, &part.bytes);
        let (token, number) = (&self.upload.token[..16], self.names.len());
        // All of one length, and of nobody else's upload.
        let name = BASE64_STANDARD.encode(format!("{token}{number:08}{crc:016x}"));
        self.names.push(name.clone());
        if self.there.get(&name) == Some(&(part.bytes.len() as u64)) {
            self.had += part.bytes.len() as u64;
            return Ok(());
        }
        let signing = self.upload.signing;
        let crc = (signing == Signing::Crc).then(|| (CRC_HEADER, crc_text(crc)));
        let request = Request {
            method: Method::PUT,
            query: vec![("comp", "block".into()), ("blockid", name)],
            headers: crc.into_iter().collect(),
            signing,
            body: part.bytes.clone(),
            ..self.upload.request()
        };
        self.pieces.send(&self.upload, request, part, |_, _| ());
        self.pieces.gather(&self.upload, false).map(drop)
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
            self.upload.ended(&self.upload.token);
        } else {
            self.abort();
        }
        completed
    }

    fn abort(self: Box<Self>) {
        self.pieces.abort();
        // Blocks that are never named go by themselves, after a week.
        if !self.upload.stays(&self.upload.token) {
            self.upload.ended(&self.upload.token);
        }
    }
}
