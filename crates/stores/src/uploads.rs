//! Uploads in parts that have begun, written down, so that a run that is killed is gone on with by the next.
//!
//! Comes in: a file, and uploads as they begin and end; goes out: the one that an earlier run has begun of a key, if what was to be
//! sent is still the same. A line is added for each; one that breaks off is none. What is in it is no secret and no proof:
//! which parts the server has is asked of it, and each is held against what is read now.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bulkhaul_engine::error::Refusal;
use bulkhaul_engine::tree::path::show;
use bulkhaul_sys::Time;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, percent_encode};

/// An upload that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The whole URL.
    pub url: Vec<u8>,
    /// Its name on the server.
    pub id: String,
    /// Our own token, which the object will have.
    pub token: String,
    /// Bytes of the content.
    pub size: u64,
    /// Bytes of a part.
    pub part: u64,
    /// Last change of what is sent.
    pub mtime: Option<Time>,
    /// What the upload was begun with beside: another word, another upload. It has no space in it.
    pub manner: String,
}

impl Begun {
    fn line(&self) -> String {
        let time = self.mtime.unwrap_or(Time { sec: 0, nsec: 0 });
        let (sec, nsec) = (time.sec, time.nsec);
        format!(
            "begun\t{}\t{}\t{}\t{}\t{}\t{sec}\t{nsec}\t{}\n",
            encoded(&self.url),
            encoded(self.id.as_bytes()),
            self.token,
            self.size,
            self.part,
            self.manner
        )
    }

    fn read(fields: &[&str]) -> Option<Self> {
        let [url, id, token, size, part, sec, nsec, manner] = fields else {
            return None;
        };
        let time = Time {
            sec: sec.parse().ok()?,
            nsec: nsec.parse().ok()?,
        };
        Some(Self {
            url: decoded(url),
            id: String::from_utf8(decoded(id)).ok()?,
            token: (*token).to_owned(),
            size: size.parse().ok()?,
            part: part.parse().ok()?,
            mtime: Some(time).filter(|time| *time != Time { sec: 0, nsec: 0 }),
            manner: (*manner).to_owned(),
        })
    }
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, NON_ALPHANUMERIC).to_string()
}

fn decoded(text: &str) -> Vec<u8> {
    percent_decode(text.as_bytes()).collect()
}

/// Uploads that have begun and not ended.
pub struct Uploads {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By their names on the server.
    begun: HashMap<String, Begun>,
    file: Option<File>,
}

impl Uploads {
    /// Reads a file, if it is there. It is made when the first upload begins.
    pub fn open(path: &[u8]) -> Result<Self, Refusal> {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(Refusal::NoStart(format!(
                    "{}: {error}",
                    show(path.as_os_str().as_bytes())
                )));
            }
        };
        let mut begun = HashMap::new();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = str::from_utf8(line).ok().and_then(|line| line.strip_suffix('\n')) else {
                continue;
            };
            let fields: Vec<&str> = line.split('\t').collect();
            match fields.split_first() {
                Some((&"begun", fields)) => {
                    if let Some(upload) = Begun::read(fields) {
                        begun.insert(upload.id.clone(), upload);
                    }
                }
                Some((&"ended", [id])) => {
                    begun.remove(&*String::from_utf8_lossy(&decoded(id)));
                }
                _ => {}
            }
        }
        Ok(Self {
            path,
            held: Mutex::new(Held { begun, file: None }),
        })
    }

    /// The upload that has begun as this one would.
    pub fn of(&self, like: &Begun) -> Option<Begun> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_like = |begun: &&Begun| {
            let (id, token) = (&begun.id, &begun.token);
            **begun
                == Begun {
                    id: id.clone(),
                    token: token.clone(),
                    ..like.clone()
                }
        };
        held.begun.values().find(is_like).cloned()
    }

    /// Whether an upload is one of these.
    pub fn has(&self, id: &str) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.begun.contains_key(id)
    }

    /// Those that have begun below a URL, and not ended.
    pub fn below(&self, url: &str) -> Vec<Begun> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = held.begun.values();
        begun
            .filter(|begun| begun.url.starts_with(url.as_bytes()))
            .cloned()
            .collect()
    }

    /// How many have begun, and not ended.
    pub fn begun(&self) -> u64 {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.begun.len() as u64
    }

    /// One has begun. Where that can't be written down it is not gone on with, and nothing else.
    pub fn begin(&self, upload: Begun) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&mut held, &upload.line());
        held.begun.insert(upload.id.clone(), upload);
    }

    /// One has ended, in whatever way. With the last of them the file goes.
    pub fn end(&self, id: &str) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.begun.remove(id).is_none() {
            return;
        }
        if !held.begun.is_empty() {
            return self.write(&mut held, &format!("ended\t{}\n", encoded(id.as_bytes())));
        }
        held.file = None;
        // What stays names uploads that the server has no more.
        match std::fs::remove_file(&self.path) {
            Ok(()) | Err(_) => {}
        }
    }

    fn write(&self, held: &mut Held, line: &str) {
        if held.file.is_none() {
            let opened = self
                .path
                .parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| {
                    // A line that broke off ends here.
                    let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                    file.write_all(b"\n").map(|()| file)
                });
            held.file = opened.ok();
        }
        if let Some(file) = &mut held.file
            && file.write_all(line.as_bytes()).is_err()
        {
            held.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(id: &str) -> Begun {
        Begun {
            url: b"s3://b/\xff k".to_vec(),
            id: id.into(),
            token: "t".into(),
            size: 7,
            part: 5,
            mtime: Some(Time { sec: -1, nsec: 5 }),
            manner: "crc".into(),
        }
    }

    #[test]
    fn what_has_begun_and_not_ended_is_known_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/uploads");
        let open = || Uploads::open(path.as_os_str().as_bytes()).unwrap();
        let first = open();
        for id in ["a\tb", "c"] {
            first.begin(begun(id));
        }
        first.end("c");
        drop(first);
        let text = std::fs::read(&path).unwrap();
        // One that breaks off is none.
        std::fs::write(&path, [&text[..], b"ended\ta%09b"].concat()).unwrap();
        let second = open();
        assert_eq!(second.of(&begun("")), Some(begun("a\tb")));
        assert!(second.has("a\tb") && !second.has("c"));
        let other = Begun { size: 8, ..begun("") };
        assert_eq!(second.of(&other), None);
        assert_eq!((second.below("s3://b/").len(), second.below("s3://b2").len()), (1, 0));
        second.end("a\tb");
        assert!(!path.exists());
    }
}
