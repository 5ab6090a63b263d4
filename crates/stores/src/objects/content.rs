//! The content of an object, read from its beginning to its end in parts, some of them ahead.
//!
//! Comes in: an entry of a listing; goes out: its bytes, all of one version. A short one comes by one question; of a long
//! one its facts are asked first. Each part is asked for under the condition that the object is what it was, and is as long
//! as it was to be.

use std::collections::VecDeque;
use std::sync::Arc;

use bulkhaul_engine::error::{Cause, Fault, Operation, Side, Stopped};
use bytes::Bytes;
use http::Method;
use tokio::task::JoinHandle;

use crate::objects::client::{Answer, Client, Fate, Request, Wrong, fault};
use crate::session::Session;
use crate::store::{Entry, Part, Reading};

/// Parts that are asked for before the one before has come.
const PARTS_AHEAD: usize = 4;

/// An object that is being read.
pub struct Content<'s> {
    session: &'s Session,
    client: Arc<Client>,
    side: Side,
    key: String,
    entry: Entry,
    /// All of it, where that is one part.
    whole: Option<Part>,
    ahead: VecDeque<JoinHandle<Result<Part, Wrong>>>,
    /// Bytes that were asked for.
    asked: u64,
}

/// The condition that an object is what it was.
fn condition(entry: &Entry) -> Vec<(&'static str, String)> {
    if entry.tag.is_empty() {
        return Vec::new();
    }
    vec![("if-match", format!("\"{}\"", String::from_utf8_lossy(&entry.tag)))]
}

fn is_short(part: &Bytes, bytes: u64) -> Option<Wrong> {
    (part.len() as u64 != bytes).then(|| Wrong {
        fate: Fate::Changed,
        status: 0,
        code: "length".into(),
        message: format!("{} bytes came, and {bytes} were to come", part.len()),
    })
}

/// Asks for so many bytes of an object from a byte on, if it is what it was.
pub fn range(key: &str, entry: &Entry, from: u64, bytes: u64) -> Request {
    let mut headers = condition(entry);
    headers.push(("range", format!("bytes={from}-{}", from + bytes - 1)));
    Request {
        method: Method::GET,
        key: key.to_owned(),
        headers,
        expected: Some(bytes),
        ..Request::default()
    }
}

/// What came of that.
pub fn ranged(answer: &Answer, entry: &Entry, from: u64, bytes: u64) -> Result<Bytes, Wrong> {
    let range = format!("bytes {from}-{}/{}", from + bytes - 1, entry.size);
    if answer.status != 206 || answer.header("content-range") != Some(&range) {
        return Err(Wrong {
            fate: Fate::Unable,
            status: 0,
            code: "range".into(),
            message: "the server gives something else than the part that it was asked for".into(),
        });
    }
    match is_short(&answer.body, bytes) {
        Some(short) => Err(short),
        None => Ok(answer.body.clone()),
    }
}

impl<'s> Content<'s> {
    /// Begins to read.
    pub fn open(
        session: &'s Session,
        client: &Arc<Client>,
        side: Side,
        key: String,
        listed: &Entry,
    ) -> Result<Self, Stopped> {
        let mut content = Self {
            session,
            client: Arc::clone(client),
            side,
            key,
            entry: listed.clone(),
            whole: None,
            ahead: VecDeque::new(),
            asked: 0,
        };
        if listed.size <= session.options.part {
            content.take_whole()?;
        } else {
            let answer = content.ask(&content.client.head(&content.key))?;
            if answer.length() != Some(listed.size) {
                return Err(Fault::changed(Operation::Read).into());
            }
            content.know(&answer)?;
        }
        Ok(content)
    }

    fn ask(&self, request: &Request) -> Result<Answer, Stopped> {
        let answer = self.client.ask(request)?;
        Ok(answer.map_err(|wrong| fault(Operation::Read, self.side, &wrong))?)
    }

    /// What the server says of it now.
    fn know(&mut self, answer: &Answer) -> Result<(), Fault> {
        let now = self.client.dialect.entry(&self.entry.key, answer, self.entry.size);
        let differs = !now.tag.is_empty() && !self.entry.tag.is_empty() && now.tag != self.entry.tag;
        if differs {
            return Err(Fault::changed(Operation::Read));
        }
        let written = if now.written.sec == 0 {
            self.entry.written
        } else {
            now.written
        };
        self.entry = Entry { written, ..now };
        Ok(())
    }

    fn take_whole(&mut self) -> Result<(), Stopped> {
        let bytes = self.entry.size;
        let lease = self.session.wait(self.session.lease(bytes))?;
        let mut request = self.client.get(&self.key);
        request.headers.extend(condition(&self.entry));
        request.expected = Some(bytes);
        let answer = self.ask(&request)?;
        if is_short(&answer.body, bytes).is_some() {
            return Err(Fault::changed(Operation::Read).into());
        }
        self.know(&answer)?;
        self.whole = Some(Part {
            bytes: answer.body,
            lease,
        });
        Ok(())
    }

    fn ask_ahead(&mut self, part: u64) {
        while self.ahead.len() < PARTS_AHEAD && self.asked < self.entry.size {
            let bytes = part.min(self.entry.size - self.asked);
            let (entry, from) = (self.entry.clone(), self.asked);
            let request = range(&self.key, &entry, from, bytes);
            // Asked for in the order of the parts: none holds memory that an earlier one waits for.
            let (lease, client) = (self.session.lease(bytes), Arc::clone(&self.client));
            self.asked += bytes;
            self.ahead.push_back(self.session.runtime().spawn(async move {
                let lease = lease.await;
                let answer = client.send(&request).await?;
                let bytes = ranged(&answer, &entry, from, bytes)?;
                Ok(Part { bytes, lease })
            }));
        }
    }
}

impl Reading for Content<'_> {
    fn entry(&self) -> &Entry {
        &self.entry
    }

    fn next(&mut self, bytes: u64) -> Result<Option<Part>, Stopped> {
        if self.entry.size <= self.session.options.part {
            return Ok(self.whole.take().filter(|part| !part.bytes.is_empty()));
        }
        self.ask_ahead(bytes);
        let Some(first) = self.ahead.pop_front() else {
            return Ok(None);
        };
        let part = self.session.wait(first)?.map_err(|error| Fault {
            operation: Operation::Read,
            side: self.side,
            cause: Cause::Panic(error.to_string()),
        })?;
        let part = part.map_err(|wrong| fault(Operation::Read, self.side, &wrong))?;
        self.ask_ahead(bytes);
        Ok(Some(part))
    }

    fn close(self: Box<Self>) -> Result<(), Stopped> {
        // Each part came under the condition that nothing had changed.
        Ok(())
    }
}

impl Drop for Content<'_> {
    fn drop(&mut self) {
        for task in &self.ahead {
            task.abort();
        }
    }
}
