//! What can go wrong, in two kinds.
//!
//! A [`Refusal`] stops an operation before anything was written; a [`Failure`] is one entry that did not arrive while
//! the rest went on. Both name the path and the operation; a failure also carries the system's own answer.

use std::borrow::Cow;
use std::time::Duration;

use bulkhaul_formats::codec::Damage;
use bulkhaul_sys::{Errno, Kind};

use crate::entry::Outcome;

/// Why an operation did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// An option or argument that can't be used (exit 2).
    #[error("{0}")]
    Usage(String),
    /// Going on would break a promise (exit 3).
    #[error("{0}")]
    Safety(String),
    /// A source that is missing or can't be reached.
    #[error("{0}")]
    NoSource(String),
    /// A list that can't be read or begun, or is none of the kind that it was given for.
    #[error("{0}")]
    List(String),
    /// A destination that can't be used.
    #[error("{0}")]
    NoDestination(String),
    /// The sources don't fit, and `require_space` asked.
    #[error("{0}")]
    NoSpace(String),
    /// What was to be written is not there: an output file.
    #[error("{0}")]
    Output(String),
    /// The place on this side is busy, or its answer broke off: another time it may be as it should.
    #[error("{text}")]
    Busy {
        /// Which.
        side: Side,
        /// One sentence, with the place.
        text: String,
    },
    /// What any run needs is not there: room for temporary files, file descriptors, a server that answers (exit 2).
    #[error("{0}")]
    NoStart(String),
}

impl Refusal {
    /// Stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "USAGE",
            Self::Safety(_) => "SAFETY",
            Self::NoSource(_) | Self::Busy { side: Side::Source, .. } => "NO_SOURCE",
            Self::List(_) => "LIST",
            Self::NoDestination(_) | Self::Busy { .. } => "NO_DESTINATION",
            Self::NoSpace(_) => "NO_SPACE",
            Self::Output(_) => "OUTPUT",
            Self::NoStart(_) => "NO_START",
        }
    }

    /// The kind of a failure for the same reason, where there is one.
    pub fn kind(&self) -> Option<&'static str> {
        matches!(self, Self::Busy { .. }).then_some("unavailable")
    }

    /// A place can't be used; `passes`: that may be otherwise another time.
    pub fn of_place(side: Side, text: String, passes: bool) -> Self {
        match side {
            side if passes => Self::Busy { side, text },
            Side::Source => Self::NoSource(text),
            Side::Destination(_) => Self::NoDestination(text),
        }
    }
}

/// What was being done when it failed. The text is part of messages and of `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Opening a file or directory.
    Open,
    /// Asking for facts.
    Stat,
    /// Listing a directory.
    List,
    /// Reading content or a link's text.
    Read,
    /// Making a file.
    Create,
    /// Writing content.
    Write,
    /// Making a directory.
    MakeDirectory,
    /// Making a symlink.
    MakeSymlink,
    /// Making a FIFO, socket or device.
    MakeNode,
    /// Making a hard link.
    Link,
    /// Giving the final name.
    Rename,
    /// Removing a name.
    Remove,
    /// Setting owner or group.
    SetOwner,
    /// Setting permission bits.
    SetMode,
    /// Setting times.
    SetTimes,
    /// Reading extended attributes.
    GetXattr,
    /// Setting extended attributes.
    SetXattr,
    /// Waiting for the disk.
    Sync,
    /// Reading back.
    Verify,
    /// Waiting for a call that does not come back.
    Wait,
    /// Everything, where a worker gave up.
    Work,
}

impl Operation {
    /// The operation as messages and `--json` name it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Stat => "stat",
            Self::List => "list",
            Self::Read => "read",
            Self::Create => "create",
            Self::Write => "write",
            Self::MakeDirectory => "mkdir",
            Self::MakeSymlink => "symlink",
            Self::MakeNode => "mknod",
            Self::Link => "link",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SetOwner => "chown",
            Self::SetMode => "chmod",
            Self::SetTimes => "utimens",
            Self::GetXattr => "getxattr",
            Self::SetXattr => "setxattr",
            Self::Sync => "fsync",
            Self::Verify => "verify",
            Self::Wait => "wait",
            Self::Work => "work",
        }
    }
}

/// Which side of a copy a call was on: a vanished source is not a vanished destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The source tree.
    Source,
    /// The tree in destination number n.
    Destination(usize),
}

/// Why an entry did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The system's answer.
    Errno(Errno),
    /// There is no room, as the system says; the text says in what, with numbers from before anything was taken back.
    Full(Errno, String),
    /// It was named, by an argument or a list, and is not there, as the system says.
    Missing(Errno),
    /// The source changed while it was read.
    Changed,
    /// It is not as long as its size says, though nothing else of it changed.
    Size {
        /// Its size in bytes.
        stated: u64,
        /// Where reading ended; more than `stated`: it goes on there.
        ended: u64,
    },
    /// It was read back and is not what was read from the source, twice.
    Mismatch,
    /// Something in the destination is in the way; the text says what.
    Conflict(&'static str),
    /// A list names it, and it is none of the source's; the text says why.
    Outside(&'static str),
    /// It is not what a manifest says of it: the stable code for programs, and in which way.
    Unlike(&'static str, String),
    /// What is to be written has no place for it; the text says why. The form jsonl has a place for everything.
    Unwritable(String),
    /// It is an archive, and not whole, or what it needs is missing here.
    Damaged(Damage),
    /// It is no archive that can be read here; of which format it is, where that is known.
    Foreign(Option<&'static str>),
    /// It could not be packed; the text says why.
    Encoder(String),
    /// What a server answered, or why it did not: the stable code for programs, and in words.
    Answered(&'static str, String),
    /// Another source, whose entry is at this path, brings the same name with other content.
    Collision(Vec<u8>),
    /// Its copy lacks this of it, so it may not go.
    NotKept(String),
    /// Nothing at all moved for so long.
    Stalled(Duration),
    /// The worker panicked with this message.
    Panic(String),
}

/// One thing that went wrong with one entry, before its path is spelled out.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What was being done.
    pub operation: Operation,
    /// Where.
    pub side: Side,
    /// Why not.
    pub cause: Cause,
}

impl Fault {
    /// A system call's answer.
    pub fn new(operation: Operation, side: Side, errno: Errno) -> Self {
        Self {
            operation,
            side,
            cause: Cause::Errno(errno),
        }
    }

    /// The same of what nobody has found, but an argument or a list has named: it is missing, and did not vanish.
    #[must_use]
    pub fn of_named(self) -> Self {
        let cause = match self.cause {
            Cause::Errno(errno @ (Errno::NOENT | Errno::NOTDIR)) if self.side == Side::Source => Cause::Missing(errno),
            cause => cause,
        };
        Self { cause, ..self }
    }

    /// Something in the way in destination number `destination`.
    pub fn conflict(operation: Operation, destination: usize, what: &'static str) -> Self {
        Self {
            operation,
            side: Side::Destination(destination),
            cause: Cause::Conflict(what),
        }
    }

    /// A worker gave up.
    pub fn panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Self {
            operation: Operation::Work,
            side: Side::Source,
            cause: Cause::Panic(text),
        }
    }

    /// The source is not what it was.
    pub fn changed(operation: Operation) -> Self {
        Self {
            operation,
            side: Side::Source,
            cause: Cause::Changed,
        }
    }

    /// Reading ended at `ended`, which is not the size; more than the size: it went on there.
    pub fn size(side: Side, stated: u64, ended: u64) -> Self {
        Self {
            operation: Operation::Read,
            side,
            cause: Cause::Size { stated, ended },
        }
    }

    /// Whether the source is not what its facts say: it may be another time.
    pub fn is_changed(&self) -> bool {
        matches!(self.cause, Cause::Changed | Cause::Size { .. })
    }

    /// Something else has the name of what was listed.
    pub fn replaced(operation: Operation, side: Side) -> Self {
        match side {
            Side::Source => Self::changed(operation),
            Side::Destination(index) => Self::conflict(operation, index, "it is not what it was when it was listed"),
        }
    }

    /// There was no room for something.
    pub fn is_full(&self) -> bool {
        matches!(self.cause, Cause::Errno(Errno::NOSPC | Errno::DQUOT | Errno::FBIG))
    }

    /// What the plan was made for is not in the destination any more.
    pub fn is_stale(&self) -> bool {
        matches!(
            (self.side, &self.cause),
            (Side::Destination(_), Cause::Errno(Errno::STALE))
        )
    }

    /// The outcome of the entry that it befell.
    pub fn outcome(&self) -> Outcome {
        match (&self.cause, self.side) {
            (Cause::Conflict(_) | Cause::Collision(_), _) => Outcome::Conflict,
            (Cause::Damaged(damage), _) if damage.may_be_whole() => Outcome::Failed,
            (Cause::Mismatch | Cause::Unlike(..) | Cause::Damaged(_), _) => Outcome::Mismatched,
            (Cause::Changed | Cause::Size { .. }, _) | (Cause::Errno(Errno::NOENT), Side::Source) => Outcome::Changed,
            _ => Outcome::Failed,
        }
    }

    /// Stable code for programs.
    pub fn kind(&self) -> &'static str {
        match &self.cause {
            Cause::Conflict(_) => "conflict",
            Cause::Collision(_) => "collision",
            Cause::Missing(_) => "missing",
            Cause::Full(Errno::DQUOT, _) => "quota",
            Cause::Full(..) => "no-space",
            Cause::Changed | Cause::Size { .. } => "changed",
            Cause::Mismatch => "mismatch",
            Cause::Unlike(kind, _) | Cause::Answered(kind, _) => kind,
            Cause::Outside(_) => "outside",
            Cause::Unwritable(_) => "unwritable",
            Cause::Damaged(damage) if damage.may_be_whole() => "foreign",
            Cause::Damaged(_) => "damaged",
            Cause::Foreign(_) => "foreign",
            Cause::Encoder(_) => "encoder",
            Cause::NotKept(_) => "not-kept",
            Cause::Stalled(_) => "stalled",
            Cause::Panic(_) => "panic",
            Cause::Errno(errno) => match (*errno, self.side) {
                (Errno::NOENT, Side::Source) => "vanished",
                (Errno::ACCESS | Errno::PERM, Side::Source) if self.operation != Operation::Remove => "unreadable",
                (Errno::ACCESS | Errno::PERM, _) => "permission",
                (Errno::NOSPC, _) => "no-space",
                (Errno::DQUOT, _) => "quota",
                (Errno::ROFS, _) => "read-only",
                (Errno::IO, _) => "io",
                (Errno::NAMETOOLONG, _) => "name-too-long",
                (Errno::NOTSUP | Errno::NOSYS, _) => "unsupported",
                _ => match self.operation {
                    Operation::SetOwner
                    | Operation::SetMode
                    | Operation::SetTimes
                    | Operation::GetXattr
                    | Operation::SetXattr => "metadata",
                    _ => "other",
                },
            },
        }
    }
}

/// A fault with its path: what events and reports carry.
#[derive(Clone, Debug)]
pub struct Failure {
    /// See [`Fault::kind`].
    pub kind: &'static str,
    /// `changed`, `conflict`, `mismatched` or `failed`.
    pub outcome: Outcome,
    /// What was being done.
    pub operation: Operation,
    /// The path on the side where it happened.
    pub path: Vec<u8>,
    /// What the entry is.
    pub entry: Kind,
    /// The system's answer, where there was one.
    pub errno: Option<Errno>,
    /// `operation path: cause`, the path in lossy UTF-8 and not escaped.
    pub message: String,
    /// The option without which it failed, where one is known.
    pub option: Option<Missed>,
}

/// An option without which something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Extra entries of the destination go.
    RemoveExtra,
    /// Times that are not kept are no loss.
    AcceptTimeLoss,
}

impl Failure {
    /// Spells a fault out. `hint` adds what else is known, such as which limit was hit.
    pub fn new(fault: &Fault, path: Vec<u8>, entry: Kind, hint: Option<&str>) -> Self {
        let errno = match fault.cause {
            Cause::Errno(errno) | Cause::Missing(errno) | Cause::Full(errno, _) => Some(errno),
            _ => None,
        };
        let place = if path.is_empty() { "" } else { " " };
        let text = String::from_utf8_lossy(&path);
        let cause: Cow<'_, str> = match &fault.cause {
            Cause::Errno(errno) | Cause::Missing(errno) => describe(*errno).into(),
            Cause::Full(errno, what) => format!("{} ({what})", describe(*errno)).into(),
            Cause::Mismatch if fault.operation == Operation::Remove => {
                "its copy reads back differently, so it stays".into()
            }
            Cause::Changed if fault.operation == Operation::Remove => {
                "it changed after the copy began, so it stays".into()
            }
            Cause::Changed => "changed while it was read".into(),
            Cause::Size { stated, ended } if ended < stated => {
                format!("it ended after {ended} bytes, and its size is {stated}").into()
            }
            Cause::Size { stated, .. } => format!("it goes on after {stated} bytes, which is its size").into(),
            Cause::Mismatch => "what was read back differs from the source, also after a second copy".into(),
            Cause::Conflict(what) | Cause::Outside(what) => (*what).into(),
            Cause::Collision(other) => {
                let other = String::from_utf8_lossy(other);
                format!("another source brings this name with other content: {other}").into()
            }
            Cause::Unlike(_, what) | Cause::Answered(_, what) => what.into(),
            Cause::Damaged(damage) if damage.may_be_whole() => damage.to_string().into(),
            Cause::Damaged(damage) => format!("damaged: {damage}").into(),
            Cause::Foreign(Some(format)) => format!("it is an archive of {format}, which can't be read here").into(),
            Cause::Foreign(None) => "it is no archive that can be read here".into(),
            Cause::Encoder(why) => why.into(),
            Cause::Unwritable(why) => format!("{why}; the form jsonl has it").into(),
            Cause::NotKept(what) => format!("{what} was not kept, so it stays").into(),
            Cause::Stalled(limit) => {
                let seconds = limit.as_secs_f64();
                format!("nothing moved for {seconds} s, so the run was given up").into()
            }
            Cause::Panic(text) => format!("internal error: {text}").into(),
        };
        let mut message = format!("{}{place}{text}: {cause}", fault.operation.text());
        if let Some(hint) = hint {
            message.push_str(" (");
            message.push_str(hint);
            message.push(')');
        }
        Self {
            kind: fault.kind(),
            outcome: fault.outcome(),
            operation: fault.operation,
            path,
            entry,
            errno,
            message,
            option: None,
        }
    }
}

/// The system's own words for an errno, without the number.
pub fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// An errno's symbol, where it is one of these.
macro_rules! symbols {
    ($errno:expr; $($name:ident)*) => {
        match $errno {
            $(Errno::$name => Some(concat!("E", stringify!($name))),)*
            _ => None,
        }
    };
}

/// The symbol of an errno, such as `ENOSPC`; the number where it has no name.
pub fn symbol(errno: Errno) -> String {
    match odd(errno).or_else(|| common(errno)).or_else(|| particular(errno)) {
        Some(name) => name.to_owned(),
        None => format!("errno {}", errno.raw_os_error()),
    }
}

/// What is not called as its constant.
fn odd(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::ACCESS => Some("EACCES"),
        Errno::TOOBIG => Some("E2BIG"),
        Errno::NOTSUP => Some("EOPNOTSUPP"),
        _ => None,
    }
}

/// What every system has.
fn common(errno: Errno) -> Option<&'static str> {
    symbols! { errno;
        PERM NOENT SRCH INTR IO NXIO NOEXEC BADF CHILD AGAIN NOMEM FAULT NOTBLK BUSY EXIST XDEV NODEV NOTDIR
        ISDIR INVAL NFILE MFILE NOTTY TXTBSY FBIG NOSPC SPIPE ROFS MLINK PIPE DOM RANGE DEADLK NAMETOOLONG NOLCK NOSYS
        NOTEMPTY LOOP NOMSG IDRM NODATA OVERFLOW ILSEQ BADMSG MULTIHOP NOLINK PROTO USERS NOTSOCK DESTADDRREQ MSGSIZE
        PROTOTYPE NOPROTOOPT PROTONOSUPPORT SOCKTNOSUPPORT PFNOSUPPORT AFNOSUPPORT ADDRINUSE ADDRNOTAVAIL NETDOWN
        NETUNREACH NETRESET CONNABORTED CONNRESET NOBUFS ISCONN NOTCONN SHUTDOWN TOOMANYREFS TIMEDOUT CONNREFUSED HOSTDOWN
        HOSTUNREACH ALREADY INPROGRESS STALE DQUOT CANCELED OWNERDEAD NOTRECOVERABLE REMOTE TIME NOSR NOSTR
    }
}

/// What only Linux has.
#[cfg(target_os = "linux")]
fn particular(errno: Errno) -> Option<&'static str> {
    symbols! { errno;
        CHRNG L2NSYNC L3HLT L3RST LNRNG UNATCH NOCSI L2HLT BADE BADR XFULL NOANO BADRQC BADSLT BFONT NONET NOPKG ADV SRMNT
        COMM DOTDOT NOTUNIQ BADFD REMCHG LIBACC LIBBAD LIBSCN LIBMAX LIBEXEC RESTART STRPIPE UCLEAN NOTNAM NAVAIL ISNAM
        REMOTEIO NOMEDIUM MEDIUMTYPE NOKEY KEYEXPIRED KEYREVOKED KEYREJECTED RFKILL HWPOISON
    }
}

/// Other systems: what is rare has its number.
#[cfg(not(target_os = "linux"))]
fn particular(_errno: Errno) -> Option<&'static str> {
    None
}

/// How a transfer ended short.
#[derive(Debug)]
pub enum Stopped {
    /// A call failed.
    Fault(Fault),
    /// The run ends before this can.
    Aborted,
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A fault's cause in words.
pub fn cause_of(fault: &Fault) -> String {
    match &fault.cause {
        Cause::Errno(errno) | Cause::Missing(errno) | Cause::Full(errno, _) => {
            format!("{}: {}", fault.operation.text(), describe(*errno))
        }
        Cause::Conflict(what) | Cause::Outside(what) => (*what).to_owned(),
        Cause::Answered(_, what) => what.clone(),
        Cause::Changed
        | Cause::Size { .. }
        | Cause::Mismatch
        | Cause::Unlike(..)
        | Cause::Unwritable(_)
        | Cause::Damaged(_)
        | Cause::Foreign(_)
        | Cause::Encoder(_)
        | Cause::Collision(_)
        | Cause::NotKept(_)
        | Cause::Stalled(_)
        | Cause::Panic(_) => "it can't be used".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_has_its_symbol() {
        let cases = [
            (1, "EPERM"),
            (13, "EACCES"),
            (28, "ENOSPC"),
            (84, "EILSEQ"),
            (95, "EOPNOTSUPP"),
            (117, "EUCLEAN"),
            (122, "EDQUOT"),
            (126, "ENOKEY"),
            (133, "EHWPOISON"),
            (524, "errno 524"),
        ];
        for (number, expected) in cases {
            assert_eq!(symbol(Errno::from_raw_os_error(number)), expected);
        }
        // 41 and 58 are other names of 11 and 35.
        for number in (1..=133).filter(|number| ![41, 58].contains(number)) {
            assert!(
                !symbol(Errno::from_raw_os_error(number)).starts_with("errno"),
                "{number}"
            );
        }
    }

    #[test]
    fn what_can_not_be_removed_is_not_called_unreadable() {
        let kind = |operation, errno| Fault::new(operation, Side::Source, errno).kind();
        assert_eq!(kind(Operation::Remove, Errno::PERM), "permission");
        assert_eq!(kind(Operation::Remove, Errno::ACCESS), "permission");
        assert_eq!(kind(Operation::Remove, Errno::NOENT), "vanished");
        assert_eq!(kind(Operation::Open, Errno::ACCESS), "unreadable");
    }
}
