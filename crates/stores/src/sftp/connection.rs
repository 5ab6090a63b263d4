//! A connection that speaks SFTP, version 3, with the subsystem of a host over the system's ssh.
//!
//! Comes in: requests; goes out: their answers, each to whoever asked, in whatever order the host has them. Many may be under
//! way at once. When the connection is lost, everybody who waits hears of it. The form of packets is that of
//! [draft-ietf-secsh-filexfer-02](https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02), the extensions are those
//! of OpenSSH (its file `PROTOCOL`).

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write as _};
use std::process::{ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhaul_engine::Kind;
use bulkhaul_engine::error::Stopped;
use bulkhaul_sys::Time;

use crate::program::Program;
use crate::session::Session;

/// Bytes of a packet; hosts send none that is longer than a quarter of this.
const LONGEST_PACKET: usize = 1 << 20;
/// How often somebody who waits looks whether the job is to stop.
const GLANCE: Duration = Duration::from_millis(100);
/// Settings of ssh: it asks nothing; a host that does not answer is given up after 15 seconds, one that is silent after a minute.
const SETTINGS: [&str; 12] = [
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=15",
    "-o",
    "ServerAliveCountMax=4",
    "-o",
    "ClearAllForwardings=yes",
    "-o",
    "ForwardAgent=no",
];

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ask {
    /// Opens a file.
    Open = 3,
    /// Closes a handle.
    Close = 4,
    /// Bytes of a file.
    Read = 5,
    /// Bytes into a file.
    Write = 6,
    /// Attributes of a name, not of what a symlink leads to.
    Lstat = 7,
    /// Attributes of an open file.
    Fstat = 8,
    /// Sets attributes of an open file.
    Fsetstat = 10,
    /// Opens a directory.
    Opendir = 11,
    /// Some of its names.
    Readdir = 12,
    /// Removes a file.
    Remove = 13,
    /// Makes a directory.
    Mkdir = 14,
    /// Removes a directory.
    Rmdir = 15,
    /// Attributes of what a name leads to.
    Stat = 17,
    /// Gives another name, if that is free.
    Rename = 18,
    /// Something else, by name.
    Extended = 200,
}

/// How a host answers.
mod answers {
    pub const VERSION: u8 = 2;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
}

/// Flags of attributes.
mod flags {
    pub const SIZE: u32 = 1;
    pub const OWNER: u32 = 2;
    pub const MODE: u32 = 4;
    pub const TIMES: u32 = 8;
    pub const MORE: u32 = 0x8000_0000;
}

/// Why there is no answer to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// There is nothing of this name.
    Absent,
    /// The end of a file or directory.
    End,
    /// It is not allowed.
    Denied,
    /// The host can't do this.
    Unable,
    /// It failed, and that is all that is said.
    Failed(String),
    /// The connection is gone.
    Lost(String),
    /// The job is to stop at once.
    Stopped,
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bytes.
    pub size: Option<u64>,
    /// Owner and group.
    pub owner: Option<(u32, u32)>,
    /// Type and permission bits.
    pub mode: Option<u32>,
    /// Last change, in whole seconds.
    pub mtime: Option<u32>,
}

impl Attributes {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.mode.map(|mode| mode & 0o170_000) {
            Some(0o040_000) => Kind::Directory,
            Some(0o120_000) => Kind::Symlink,
            Some(0o100_000) | None => Kind::File,
            Some(0o010_000) => Kind::Fifo,
            Some(0o140_000) => Kind::Socket,
            Some(0o060_000) => Kind::Block,
            Some(0o020_000) => Kind::Char,
            Some(_) => Kind::Unknown,
        }
    }

    /// Its last change.
    pub fn changed(&self) -> Time {
        Time {
            sec: self.mtime.map_or(0, i64::from),
            nsec: 0,
        }
    }

    /// As a request has them.
    pub fn encoded(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut has = 0;
        if let Some(mode) = self.mode {
            has |= flags::MODE;
            all.extend(mode.to_be_bytes());
        }
        if let Some(mtime) = self.mtime {
            has |= flags::TIMES;
            all.extend(mtime.to_be_bytes());
            all.extend(mtime.to_be_bytes());
        }
        [&has.to_be_bytes()[..], &all].concat()
    }
}

/// Reads the parts of an answer.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    fn long(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let has = self.number()?;
        let size = if has & flags::SIZE != 0 {
            Some(self.long()?)
        } else {
            None
        };
        let owner = if has & flags::OWNER != 0 {
            Some((self.number()?, self.number()?))
        } else {
            None
        };
        let mode = if has & flags::MODE != 0 {
            Some(self.number()?)
        } else {
            None
        };
        let mtime = if has & flags::TIMES != 0 {
            self.number()?;
            Some(self.number()?)
        } else {
            None
        };
        if has & flags::MORE != 0 {
            for _ in 0..self.number()? {
                self.text()?;
                self.text()?;
            }
        }
        Some(Attributes {
            size,
            owner,
            mode,
            mtime,
        })
    }
}

/// A text as a request has it.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()[..], bytes].concat()
}

/// An answer, as it came.
struct Answer {
    kind: u8,
    body: Vec<u8>,
}

#[derive(Default)]
struct Waiting {
    senders: HashMap<u32, SyncSender<Answer>>,
    lost: bool,
}

/// A connection.
pub struct Connection {
    program: Mutex<Program>,
    input: Mutex<ChildStdin>,
    waiting: Arc<Mutex<Waiting>>,
    next: AtomicU32,
    extensions: HashSet<Vec<u8>>,
    /// The last of its fields to go: its threads end when the program has ended, to which one of them listens.
    session: Arc<Session>,
}

/// A request that is under way.
pub struct Pending<'c> {
    connection: &'c Connection,
    answer: Receiver<Answer>,
}

impl Connection {
    /// Connects. The error says why not.
    pub fn open(session: &Arc<Session>, (user, host, port): (Option<&str>, &str, Option<u16>)) -> Result<Self, Wrong> {
        let port = port.map(|port| port.to_string());
        let mut arguments = SETTINGS.to_vec();
        if let Some(user) = user {
            arguments.extend(["-l", user]);
        }
        if let Some(port) = &port {
            arguments.extend(["-p", port]);
        }
        arguments.extend(["-s", "--", host, "sftp"]);
        let cannot = |error: std::io::Error| Wrong::Lost(format!("ssh can't be run: {error}"));
        let mut program = Program::start(session, "ssh", &arguments, true).map_err(cannot)?;
        let (Some(mut input), Some(output)) = (program.input.take(), program.output.take()) else {
            return Err(Wrong::Lost("ssh has no pipes".into()));
        };
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (hello, greeted) = sync_channel(1);
        let into = Arc::clone(&waiting);
        let thread = std::thread::Builder::new().name("bulkhaul-sftp".into());
        thread.spawn(move || take_in(output, &hello, &into)).map_err(cannot)?;
        // Version 3. Where it is not taken, the greeting does not come.
        match input.write_all(&[0, 0, 0, 5, 1, 0, 0, 0, 3]) {
            Ok(()) | Err(_) => {}
        }
        let greeting = wait(session, &greeted);
        let Ok(greeting) = greeting else {
            // Without anything to read it ends.
            drop(input);
            let ended = program.end(session).map_err(|_| Wrong::Stopped)?;
            let why = match ended.reason {
                text if text.is_empty() => "the host does not answer, or has no SFTP".to_owned(),
                text => text,
            };
            return Err(Wrong::Lost(format!("ssh {host}: {why}")));
        };
        if greeting.kind != answers::VERSION {
            return Err(Wrong::Lost(format!(
                "ssh {host}: something else than SFTP answers: does a login file print something?"
            )));
        }
        let mut fields = Fields(&greeting.body);
        fields.number();
        let mut extensions = HashSet::new();
        while let (Some(name), Some(_)) = (fields.text(), fields.text()) {
            extensions.insert(name.to_vec());
        }
        Ok(Self {
            program: Mutex::new(program),
            input: Mutex::new(input),
            waiting,
            next: AtomicU32::new(1),
            extensions,
            session: Arc::clone(session),
        })
    }

    /// Whether the host has an extension.
    pub fn extends(&self, name: &str) -> bool {
        self.extensions.contains(name.as_bytes())
    }

    /// Whether nobody gets an answer any more.
    pub fn is_lost(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).lost
    }

    fn lost(&self) -> Wrong {
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let why = program.reason();
        Wrong::Lost(if why.is_empty() {
            "the connection broke".into()
        } else {
            why
        })
    }

    /// Sends a request.
    pub fn begin(&self, ask: Ask, parts: &[&[u8]]) -> Result<Pending<'_>, Wrong> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = sync_channel(1);
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.lost {
                drop(waiting);
                return Err(self.lost());
            }
            waiting.senders.insert(id, asker);
        }
        let body = parts.concat();
        let length = u32::try_from(body.len() + 5).map_err(|_| Wrong::Failed("the request is too long".into()))?;
        let packet = [&length.to_be_bytes()[..], &[ask as u8], &id.to_be_bytes(), &body].concat();
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = input.write_all(&packet);
        drop(input);
        sent.map_err(|_| self.lost())?;
        Ok(Pending {
            connection: self,
            answer,
        })
    }

    /// Asks, and waits until it is done.
    pub fn done(&self, ask: Ask, parts: &[&[u8]]) -> Result<(), Wrong> {
        self.begin(ask, parts)?.done()
    }

    /// Asks for a handle.
    pub fn handle(&self, ask: Ask, parts: &[&[u8]]) -> Result<Vec<u8>, Wrong> {
        self.begin(ask, parts)?.handle()
    }

    /// Asks for attributes.
    pub fn attributes(&self, ask: Ask, parts: &[&[u8]]) -> Result<Attributes, Wrong> {
        self.begin(ask, parts)?.attributes()
    }
}

impl Pending<'_> {
    fn answer(self, wanted: u8) -> Result<Vec<u8>, Wrong> {
        let answer = match wait(&self.connection.session, &self.answer) {
            Ok(answer) => answer,
            Err(Some(_)) => return Err(Wrong::Stopped),
            Err(None) => return Err(self.connection.lost()),
        };
        if answer.kind == wanted && wanted != answers::STATUS {
            return Ok(answer.body);
        }
        if answer.kind != answers::STATUS {
            return Err(Wrong::Failed("the host answers something else".into()));
        }
        let mut fields = Fields(&answer.body);
        let (code, said) = (fields.number(), fields.text().unwrap_or_default());
        Err(match code {
            Some(0) if wanted == answers::STATUS => return Ok(Vec::new()),
            Some(1) => Wrong::End,
            Some(2) => Wrong::Absent,
            Some(3) => Wrong::Denied,
            Some(6 | 7) => Wrong::Lost("the host has lost its connection".into()),
            Some(8) => Wrong::Unable,
            _ => Wrong::Failed(match String::from_utf8_lossy(said).trim() {
                "" => "the host does not say why".into(),
                text => format!("the host says: {text}"),
            }),
        })
    }

    /// Waits until it is done.
    pub fn done(self) -> Result<(), Wrong> {
        self.answer(answers::STATUS).map(drop)
    }

    /// Waits for a handle.
    pub fn handle(self) -> Result<Vec<u8>, Wrong> {
        let body = self.answer(answers::HANDLE)?;
        Fields(&body).text().map(<[u8]>::to_vec).ok_or_else(garbled)
    }

    /// Waits for attributes.
    pub fn attributes(self) -> Result<Attributes, Wrong> {
        let body = self.answer(answers::ATTRS)?;
        Fields(&body).attributes().ok_or_else(garbled)
    }

    /// Waits for bytes.
    pub fn data(self) -> Result<Vec<u8>, Wrong> {
        let mut body = self.answer(answers::DATA)?;
        let length = Fields(&body).text().ok_or_else(garbled)?.len();
        body.drain(..4);
        body.truncate(length);
        Ok(body)
    }

    /// Waits for names and what is known of them.
    pub fn names(self) -> Result<Vec<(Vec<u8>, Attributes)>, Wrong> {
        let body = self.answer(answers::NAME)?;
        let mut fields = Fields(&body);
        let many = fields.number().ok_or_else(garbled)?;
        (0..many)
            .map(|_| {
                let name = fields.text()?.to_vec();
                // The line that ls would show.
                fields.text()?;
                Some((name, fields.attributes()?))
            })
            .collect::<Option<_>>()
            .ok_or_else(garbled)
    }
}

fn garbled() -> Wrong {
    Wrong::Failed("the host's answer ends in its middle".into())
}

/// Waits for an answer; an error: the job is to stop at once, or, with none, there will be no answer.
fn wait(session: &Session, answer: &Receiver<Answer>) -> Result<Answer, Option<Stopped>> {
    loop {
        match answer.recv_timeout(GLANCE) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Timeout) if session.cancel.is_aborted() => return Err(Some(Stopped::Aborted)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(None),
        }
    }
}

/// Takes answers in and hands each to whoever asked, until there are no more.
fn take_in(mut output: ChildStdout, hello: &SyncSender<Answer>, waiting: &Mutex<Waiting>) {
    let mut greeted = false;
    while let Some((kind, body)) = packet(&mut output) {
        if !std::mem::replace(&mut greeted, true) {
            if hello.send(Answer { kind, body }).is_err() {
                break;
            }
            continue;
        }
        let Some((id, body)) = body.split_first_chunk() else {
            break;
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.senders.remove(&u32::from_be_bytes(*id)) {
            let answer = Answer {
                kind,
                body: body.to_vec(),
            };
            // Whoever asked may have gone away.
            match sender.send(answer) {
                Ok(()) | Err(_) => {}
            }
        }
    }
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.lost = true;
    waiting.senders.clear();
}

/// The next packet; none where no more comes, or what comes is none.
fn packet(output: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    output.read_exact(&mut head).ok()?;
    let [a, b, c, d, kind] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length == 0 || length > LONGEST_PACKET {
        return None;
    }
    let mut body = vec![0; length - 1];
    output.read_exact(&mut body).ok()?;
    Some((kind, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let given = Attributes {
            mode: Some(0o100_640),
            mtime: Some(1_600_000_000),
            ..Attributes::default()
        };
        assert_eq!(Fields(&given.encoded()).attributes(), Some(given));
        let whole = [
            &0x8000_000f_u32.to_be_bytes()[..],
            &7_u64.to_be_bytes(),
            &[0, 0, 0, 1, 0, 0, 0, 2],
            &0o040_755_u32.to_be_bytes(),
            &[0, 0, 0, 3, 0, 0, 0, 4],
            &[0, 0, 0, 1],
            &text(b"name"),
            &text(b"value"),
        ]
        .concat();
        let read = Fields(&whole).attributes().unwrap();
        assert_eq!((read.size, read.owner, read.mtime), (Some(7), Some((1, 2)), Some(4)));
        assert_eq!(read.kind(), Kind::Directory);
        for end in 0..whole.len() {
            assert_eq!(Fields(&whole[..end]).attributes(), None, "{end}");
        }
    }

    #[test]
    fn what_is_no_packet_is_none() {
        assert_eq!(packet(&mut &b"\0\0\0\x03\x65ab"[..]), Some((101, b"ab".to_vec())));
        for bytes in [&b"Welcome to this host\n"[..], b"\0\0\0\0\x01", b"\0\0\0\x09\x65ab"] {
            assert_eq!(packet(&mut &bytes[..]), None);
        }
    }
}
