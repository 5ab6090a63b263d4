//! An object on its way to a server in one request, and what uploads in pieces have in common.
//!
//! Comes in: parts; goes out: the object as the server has it. Of what came together from pieces the server is asked afterwards
//! ([`Upload::settle`]): it is ours by a token, as long as it should be, and has the sum that it should where the server keeps
//! one; so it is settled too when the answer to its completion was lost. What is wrong and ours is removed. What was begun in
//! pieces is written down ([`Upload::note`]), and left as it is when the job is to stop: the next run goes on with it.

use std::sync::Arc;

use bulkhaul_engine::error::{Cause, Fault, Operation, Side, Stopped};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use http::Method;
use tokio::task::JoinHandle;

use crate::objects::client::{Answer, Client, Fate, Headers, Request, Signing, Wrong, fault};
use crate::objects::said;
use crate::session::{Session, token};
use crate::store::{Entry, Facts, Part, Sums, Writing};
use crate::uploads::Begun;

/// An object on its way in one request.
pub struct Upload<'s> {
    /// Where requests run.
    pub session: &'s Session,
    /// Who is asked.
    pub client: Arc<Client>,
    side: Side,
    /// Its name in the bucket or container.
    pub whole: String,
    /// The same, relative to the root.
    key: Vec<u8>,
    facts: Facts,
    /// How bodies are signed.
    pub signing: Signing,
    /// What tells it from what others write there.
    pub token: String,
    part: Option<Part>,
}

impl<'s> Upload<'s> {
    /// Nothing is sent yet.
    pub fn begin(
        session: &'s Session,
        client: &Arc<Client>,
        side: Side,
        (whole, key): (String, &[u8]),
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

    /// What is written down of an upload in pieces of so many bytes, `id` on the server. `manner`: how it is begun.
    pub fn note(&self, id: &str, size: u64, part: u64, manner: &str) -> Begun {
        let mut kept = Crc::new(CrcAlgorithm::Crc64Nvme);
        for (name, value) in self.said("").0 {
            kept.update(format!("{name}: {value}\n").as_bytes());
        }
        let kept = kept.finalize();
        Begun {
            url: self.client.url(&self.whole).into_bytes(),
            id: id.to_owned(),
            token: self.token.clone(),
            size,
            part,
            mtime: self.facts.mtime,
            manner: format!("{manner}-{kept:016x}"),
        }
    }

    /// An upload has ended, in whatever way.
    pub fn ended(&self, id: &str) {
        if let Some(uploads) = self.session.uploads() {
            uploads.end(id);
        }
    }

    /// Whether an upload that goes no further is left for the next run to go on with.
    pub fn stays(&self, id: &str) -> bool {
        let written = self.session.uploads().is_some_and(|uploads| uploads.has(id));
        self.session.cancel.is_draining() && written
    }

    /// A request for the object.
    pub fn request(&self) -> Request {
        Request {
            key: self.whole.clone(),
            ..Request::default()
        }
    }

    /// Headers that keep with the object what is known and said of it.
    pub fn kept(&self) -> Headers {
        self.said(&self.token).0
    }

    /// Names of what is said of it and can't be said there.
    pub fn unsaid(&self) -> Vec<String> {
        self.said("").1
    }

    /// Both.
    fn said(&self, token: &str) -> (Headers, Vec<String>) {
        let mut kept = self.client.dialect.keeping(&self.facts, token);
        let mut unsaid = self.facts.untold.clone();
        for (name, value) in said::completed(self.facts.said.clone(), &self.whole) {
            match self.client.dialect.saying(&name) {
                // We may say something by that.
                Some(header) if kept.iter().all(|(ours, _)| *ours != header) => kept.push((header, value)),
                _ => unsaid.push(name),
            }
        }
        let asked = self.client.asked(self.facts.aside);
        kept.retain(|(name, _)| asked.iter().all(|(other, _)| other != name));
        kept.extend_from_slice(asked);
        (kept, unsaid)
    }

    /// From now on its sums are kept with it, too.
    pub fn keep(&mut self, sums: &Sums) {
        self.facts.blake3.clone_from(&sums.blake3);
    }

    /// Asks, and takes what is wrong for an error of this object.
    pub fn ask(&self, request: &Request) -> Result<Answer, Stopped> {
        let answer = self.client.ask(request)?;
        Ok(answer.map_err(|wrong| self.fault(&wrong))?)
    }

    fn fault(&self, wrong: &Wrong) -> Fault {
        fault(Operation::Write, self.side, wrong)
    }

    /// An error of our own.
    pub fn wrong(&self, kind: &'static str, text: &str) -> Stopped {
        Stopped::Fault(Fault {
            operation: Operation::Write,
            side: self.side,
            cause: Cause::Answered(kind, text.to_owned()),
        })
    }

    /// Refuses a content that is not as long as it was to be.
    pub fn check_size(&self, size: Option<u64>, sums: &Sums) -> Result<(), Stopped> {
        match size {
            Some(size) if size != sums.bytes => {
                Err(self.wrong("changed", "it is not as long as it was when it was found"))
            }
            _ => Ok(()),
        }
    }

    /// The completion was answered so; what has become of the object?
    pub fn settle(&self, completed: Result<Answer, Wrong>, sums: &Sums) -> Result<Entry, Stopped> {
        if let Err(wrong) = &completed
            && !matches!(wrong.fate, Fate::Transient | Fate::NoUpload | Fate::Absent)
        {
            return Err(self.fault(wrong).into());
        }
        let there = self.client.stat(&self.whole, &self.key, self.side)?;
        let ours = there.filter(|entry| {
            let facts = entry.facts.as_ref();
            facts.is_some_and(|facts| facts.token.as_ref() == Some(&self.token))
        });
        let Some(entry) = ours else {
            return Err(match completed {
                Err(wrong) => self.fault(&wrong).into(),
                Ok(_) => self.wrong("damaged", "the server says that it is complete, and has something else"),
            });
        };
        let facts = entry.facts.clone().unwrap_or_default();
        if entry.size == sums.bytes && sums.fit(&facts) {
            return Ok(entry);
        }
        let request = Request {
            method: Method::DELETE,
            ..self.request()
        };
        self.ask(&request)?;
        let text = format!(
            "the server has made {} bytes of {}, or others: that was removed again",
            entry.size, sums.bytes
        );
        Err(self.wrong("damaged", &text))
    }
}

impl Writing for Upload<'_> {
    fn put(&mut self, part: Part) -> Result<(), Stopped> {
        if self.part.replace(part).is_some() {
            return Err(self.wrong("changed", "it is longer than it was when it was found"));
        }
        Ok(())
    }

    fn unsaid(&self) -> Vec<String> {
        Upload::unsaid(self)
    }

    fn finish(mut self: Box<Self>, sums: &Sums) -> Result<Entry, Stopped> {
        let part = self.part.take();
        self.keep(sums);
        let request = Request {
            method: Method::PUT,
            kept: self.kept(),
            signing: self.signing,
            body: part.as_ref().map(|part| part.bytes.clone()).unwrap_or_default(),
            ..self.request()
        };
        let answer = self.ask(&request)?;
        let there = self.client.dialect.entry(&self.key, &answer, sums.bytes);
        let crc64 = there.facts.as_ref().and_then(|facts| facts.crc64);
        let facts = Facts {
            crc64,
            token: Some(self.token),
            ..self.facts
        };
        Ok(Entry {
            facts: Some(facts),
            ..there
        })
    }

    fn abort(self: Box<Self>) {}
}

/// Pieces of an upload that are being sent.
pub struct Pieces<T> {
    tasks: Vec<JoinHandle<Result<T, Wrong>>>,
}

/// None yet.
impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self { tasks: Vec::new() }
    }
}

impl<T: Send + 'static> Pieces<T> {
    /// Sends one, whose memory is given back with it; `take` makes what is wanted of the answer.
    pub fn send(
        &mut self,
        upload: &Upload<'_>,
        request: Request,
        part: Part,
        take: impl FnOnce(&Answer, &Part) -> T + Send + 'static,
    ) {
        let client = Arc::clone(&upload.client);
        self.tasks.push(upload.session.runtime().spawn(async move {
            let answer = client.send(&request).await?;
            Ok(take(&answer, &part))
        }));
    }

    /// What became of pieces: of those that are through, or of `all`.
    pub fn gather(&mut self, upload: &Upload<'_>, all: bool) -> Result<Vec<T>, Stopped> {
        let mut through = Vec::new();
        for task in std::mem::take(&mut self.tasks) {
            if !all && !task.is_finished() {
                self.tasks.push(task);
                continue;
            }
            let sent = upload.session.wait(task)?;
            let sent = sent.map_err(|error| upload.wrong("internal", &error.to_string()))?;
            through.push(sent.map_err(|wrong| upload.fault(&wrong))?);
        }
        Ok(through)
    }

    /// Sends no more of them.
    pub fn abort(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
