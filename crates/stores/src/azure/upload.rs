//! A blob on its way to a server, in one request or in blocks.
//!
//! Comes in: parts; goes out: the blob as the server has it. A blob in blocks is asked for afterwards: it is ours by a token, and
//! as long as it should be; so it is settled too when the answer was lost.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhaul_engine::error::{Cause, Fault, Operation, Side, Stopped};
use http::Method;
use tokio::task::JoinHandle;

use crate::objects::client::{Client, Fate, Request, Signing, Wrong, fault};
use crate::objects::{date_text, metadata, xml};
use crate::session::{Session, token};
use crate::store::{Entry, Facts, Part, Sums, Writing};

/// Names of what is kept with a blob.
const KEPT: [&str; 6] = [
    "x-ms-meta-bulkhaulid",
    "x-ms-meta-mtime",
    "x-ms-meta-mode",
    "x-ms-meta-uid",
    "x-ms-meta-gid",
    "x-ms-meta-bulkhaulblake3",
];

/// A blob on its way in one request.
pub struct Blob<'s> {
    session: &'s Session,
    client: Arc<Client>,
    side: Side,
    /// In the container, and relative to the root.
    whole: String,
    key: Vec<u8>,
    facts: Facts,
    token: String,
    part: Option<Part>,
}

impl<'s> Blob<'s> {
    /// Nothing is sent yet.
    pub fn begin(
        session: &'s Session,
        client: &Arc<Client>,
        side: Side,
        whole: String,
        key: &[u8],
        facts: &Facts,
    ) -> Self {
        Self {
            session,
            client: Arc::clone(client),
            side,
            whole,
            key: key.to_vec(),
            facts: facts.clone(),
            token: token(),
            part: None,
        }
    }

    /// The same in blocks.
    pub fn in_blocks(self, size: Option<u64>) -> Blocks<'s> {
        Blocks {
            blob: self,
            size,
            names: Vec::new(),
            tasks: Vec::new(),
        }
    }

    fn put(&self) -> Request {
        Request {
            method: Method::PUT,
            key: self.whole.clone(),
            signing: Signing::Crc,
            ..Request::default()
        }
    }

    fn wrong(&self, kind: &'static str, text: &str) -> Stopped {
        Stopped::Fault(Fault {
            operation: Operation::Write,
            side: self.side,
            cause: Cause::Answered(kind, text.to_owned()),
        })
    }
}

impl Writing for Blob<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        if self.part.replace(part).is_some() {
            return Err(self.wrong("changed", "it is longer than it was when it was found"));
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        let part = self.part.take();
        self.facts.blake3.clone_from(&sums.blake3);
        let mut headers = metadata(KEPT, &self.facts, &self.token, date_text);
        headers.push(("x-ms-blob-type", "BlockBlob".into()));
        let request = Request {
            headers,
            body: part.as_ref().map(|part| part.bytes.clone()).unwrap_or_default(),
            ..Blob::put(&self)
        };
        let answer = self.client.ask(&request)?;
        let answer = answer.map_err(|wrong| fault(Operation::Write, self.side, &wrong))?;
        let there = self.client.dialect.entry(&self.key, &answer, sums.bytes);
        Ok(Entry {
            facts: Some(self.facts),
            ..there
        })
    }

    fn abort(self: Box<Self>) {}
}

/// A blob on its way in blocks.
pub struct Blocks<'s> {
    blob: Blob<'s>,
    /// None: nobody knows how long it will be.
    size: Option<u64>,
    names: Vec<String>,
    tasks: Vec<JoinHandle<Result<(), Wrong>>>,
}

impl Blocks<'_> {
    /// Takes in what became of blocks: of those that are through, or of `all`.
    fn gather(&mut self, all: bool) -> Result<(), Stopped> {
        for task in std::mem::take(&mut self.tasks) {
            if !all && !task.is_finished() {
                self.tasks.push(task);
                continue;
            }
            let sent = self.blob.session.wait(task)?;
            let sent = sent.map_err(|error| self.blob.wrong("internal", &error.to_string()))?;
            sent.map_err(|wrong| fault(Operation::Write, self.blob.side, &wrong))?;
        }
        Ok(())
    }
}

impl Writing for Blocks<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        // All of one length, and of nobody else's upload.
        let name = BASE64_STANDARD.encode(format!("{}{:08}", &self.blob.token[..16], self.names.len()));
        self.names.push(name.clone());
        let request = Request {
            query: vec![("comp", "block".into()), ("blockid", name)],
            body: part.bytes.clone(),
            ..Blob::put(&self.blob)
        };
        let client = Arc::clone(&self.blob.client);
        self.tasks.push(self.blob.session.runtime().spawn(async move {
            let sent = client.send(&request).await.map(drop);
            // Its memory is given back with it.
            drop(part);
            sent
        }));
        self.gather(false)
    }

    fn finish(mut self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        self.gather(true)?;
        let blob = &mut self.blob;
        if self.size.is_some_and(|size| size != sums.bytes) {
            return Err(blob.wrong("changed", "it is not as long as it was when it was found"));
        }
        blob.facts.blake3.clone_from(&sums.blake3);
        let request = Request {
            query: vec![("comp", "blocklist".into())],
            headers: metadata(KEPT, &blob.facts, &blob.token, date_text),
            body: xml::block_list(&self.names).into(),
            ..Blob::put(blob)
        };
        let named = blob.client.ask(&request)?;
        if let Err(wrong) = &named
            && wrong.fate != Fate::Transient
        {
            return Err(fault(Operation::Write, blob.side, wrong).into());
        }
        let there = match blob.client.ask(&blob.client.head(&blob.whole))? {
            Ok(answer) => answer
                .length()
                .map(|size| blob.client.dialect.entry(&blob.key, &answer, size)),
            Err(Wrong { fate: Fate::Absent, .. }) => None,
            Err(wrong) => return Err(fault(Operation::Verify, blob.side, &wrong).into()),
        };
        let ours = there.filter(|there| {
            let facts = there.facts.as_ref();
            facts.is_some_and(|facts| facts.token.as_ref() == Some(&blob.token))
        });
        match (ours, named) {
            (Some(there), _) if there.size == sums.bytes => Ok(there),
            (Some(there), _) => {
                let request = Request {
                    method: Method::DELETE,
                    ..Blob::put(blob)
                };
                let gone = blob.client.ask(&request)?;
                gone.map_err(|wrong| fault(Operation::Write, blob.side, &wrong))?;
                let text = format!(
                    "the server has made {} bytes of {}: that was removed again",
                    there.size, sums.bytes
                );
                Err(blob.wrong("damaged", &text))
            }
            (None, Err(wrong)) => Err(fault(Operation::Write, blob.side, &wrong).into()),
            (None, Ok(_)) => Err(blob.wrong("damaged", "the server says that it is complete, and has something else")),
        }
    }

    fn abort(self: Box<Self>) {
        // Blocks that are never named go by themselves.
        for task in &self.tasks {
            task.abort();
        }
    }
}
