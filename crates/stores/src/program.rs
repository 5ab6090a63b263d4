//! A program that a store is reached through: it runs as a child of this process, and speaks over pipes.
//!
//! Comes in: a name and its arguments, which no shell reads; goes out: its pipes, and how it ended. It is in a group of its own,
//! so that a Ctrl-C on the terminal is heard here and not there, and it ends with whoever holds it. Whoever waits for it is
//! back soon after the job is told to stop at once.

use std::io::{Error, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhaul_engine::error::Stopped;
use tokio::task::JoinHandle;

use crate::session::Session;

/// Bytes of what a program says of itself that are kept.
const LONGEST_SAID: usize = 64 << 10;
/// Characters of a line of it that a message has.
const LONGEST_REASON: usize = 500;
/// The first pause, and the longest, before it is looked again whether it has ended.
const GLANCES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

/// A program that runs.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    listening: Option<JoinHandle<()>>,
    /// What it reads, if it was to have something to read.
    pub input: Option<ChildStdin>,
    /// What it writes.
    pub output: Option<ChildStdout>,
}

/// How a program ended.
pub struct Ended {
    /// Its code.
    pub status: ExitStatus,
    /// What it wrote.
    pub output: Vec<u8>,
    /// The last line of what it said of itself; empty: nothing.
    pub reason: String,
}

impl Program {
    /// Starts it. `speaks`: it is given something to read.
    pub fn start(session: &Session, name: &str, arguments: &[&str], speaks: bool) -> Result<Self, Error> {
        let mut command = Command::new(name);
        command
            .args(arguments)
            .stdin(if speaks { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn()?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (into, errors) = (Arc::clone(&said), child.stderr.take());
        let listening = session.runtime().spawn_blocking(move || {
            if let Some(errors) = errors {
                listen(errors, &into);
            }
        });
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            child,
            said,
            listening: Some(listening),
            input,
            output,
        })
    }

    /// The last line of what it has said of itself until now.
    pub fn reason(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&said);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or_default().trim().chars().take(LONGEST_REASON).collect()
    }

    /// Takes in what it still writes, and waits until it has ended.
    pub fn end(mut self, session: &Session) -> Result<Ended, Stopped> {
        let mut output = Vec::new();
        if let Some(mut rest) = self.output.take() {
            let read = session.runtime().spawn_blocking(move || {
                let mut all = Vec::new();
                // Its code says whether all of it came.
                match rest.read_to_end(&mut all) {
                    Ok(_) | Err(_) => all,
                }
            });
            output = session.wait(read)?.unwrap_or_default();
        }
        if let Some(listening) = self.listening.take() {
            match session.wait(listening)? {
                Ok(()) | Err(_) => {}
            }
        }
        let mut pause = GLANCES[0];
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    return Ok(Ended {
                        status,
                        output,
                        reason: self.reason(),
                    });
                }
                // What can't be waited for has no code: it counts as killed.
                Err(_) => {
                    return Ok(Ended {
                        status: std::os::unix::process::ExitStatusExt::from_raw(9),
                        output,
                        reason: self.reason(),
                    });
                }
                Ok(None) => session.wait(async { tokio::time::sleep(pause).await })?,
            }
            pause = (pause * 2).min(GLANCES[1]);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, or nobody wants what it does.
        match self.child.kill().and_then(|()| self.child.wait()) {
            Ok(_) | Err(_) => {}
        }
    }
}

/// Keeps the end of what it says.
fn listen(mut errors: impl Read, said: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(got @ 1..) = errors.read(&mut buffer) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&buffer[..got]);
        let over = said.len().saturating_sub(LONGEST_SAID);
        said.drain(..over);
    }
}
