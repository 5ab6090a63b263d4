//! Stores of objects that are spoken to over HTTP: what they have in common.
//!
//! ```text
//!   s3   azure
//!    └──┬──┘
//! upload   content   listing     bytes of an object, and what is there
//!     └───────┬───────┘
//!          client                requests, signed and tried again
//!            └── xml             what is said
//! ```
//!
//! What is kept with an object has the names and forms of rclone, so that each reads what the other wrote; those of s3fs are
//! read too. Names of our own have no underscore: proxies drop such headers without a word; nor a hyphen, which Azure does
//! not take.

pub mod client;
pub mod content;
pub mod listing;
pub mod said;
pub mod upload;
pub mod xml;

use bulkhaul_engine::error::{Cause, Fault};
use bulkhaul_engine::{Algorithm, Kind};
use bulkhaul_formats::digest::Digest;
use bulkhaul_sys::Time;
use chrono::DateTime;

use self::client::{Answer, Headers};
use crate::store::{Entry, Facts, Gone, Store};

/// Names of what is kept with an object: token, time, mode, owner, group, BLAKE3.
pub const KEPT: [&str; 6] = ["bulkhaulid", "mtime", "mode", "uid", "gid", "bulkhaulblake3"];

/// The last name of an object that asks a server what it checks. One name for all: what a killed run left is written over by the
/// next one that asks, and goes with its own. It is nobody's entry.
pub const PROBE: &str = ".bulkhaul-probe-of-checks";

/// Whether an object is there for a moment only.
pub fn is_probe(key: &[u8]) -> bool {
    key.rsplit(|byte| *byte == b'/').next() == Some(PROBE.as_bytes())
}

/// Whether the probe stays, by what came of its removal: not everybody who may write may remove.
pub fn probe_stays(removed: Result<Gone, Fault>) -> Result<bool, Fault> {
    match removed {
        Ok(_) => Ok(false),
        Err(Fault {
            cause: Cause::Answered("permission", _),
            ..
        }) => Ok(true),
        Err(fault) => Err(fault),
    }
}

/// The same for whoever reads.
pub fn probe_note(store: &dyn Store) -> (Vec<u8>, String) {
    let text = "asked the server what it checks, and stays: to remove it is not allowed".to_owned();
    (store.path(PROBE.as_bytes()), text)
}

/// What a server says of an object of this size, with these facts.
pub fn entry(key: &[u8], answer: &Answer, size: u64, facts: Facts) -> Entry {
    let written = answer
        .header("last-modified")
        .and_then(|text| DateTime::parse_from_rfc2822(text).ok());
    Entry {
        key: key.to_vec(),
        kind: if key.ends_with(b"/") && size == 0 {
            Kind::Directory
        } else {
            Kind::File
        },
        size,
        written: Time {
            sec: written.map_or(0, |time| time.timestamp()),
            nsec: 0,
        },
        tag: answer.header("etag").map(xml::bare).unwrap_or_default(),
        facts: Some(facts),
        failed: false,
    }
}

/// What the metadata of an object say, by their names.
pub fn facts_of<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Facts {
    let text = |name: &str| value(name).map(str::trim);
    let number = |name| text(name)?.parse().ok();
    Facts {
        mtime: text("mtime").and_then(time_of),
        mode: text("mode").and_then(mode_of),
        uid: number("uid"),
        gid: number("gid"),
        blake3: text("bulkhaulblake3").and_then(digest_of),
        crc64: None,
        md5: None,
        token: text("bulkhaulid").map(str::to_owned),
        ..Facts::default()
    }
}

/// What an answer says of an object. `before` the names of metadata.
pub fn facts_from(answer: &Answer, before: &str) -> Facts {
    let facts = facts_of(|name| answer.header(&format!("{before}{name}")));
    // Others may have given our names to something else.
    let is_ours = |name: &str| match name {
        "mtime" => facts.mtime.is_some(),
        "mode" => facts.mode.is_some(),
        "uid" => facts.uid.is_some(),
        "gid" => facts.gid.is_some(),
        name => KEPT.contains(&name),
    };
    let (said, untold) = said::of(answer, before, is_ours);
    Facts { said, untold, ..facts }
}

/// The metadata that keep facts, as headers: `before` their names; times as `text` has them.
pub fn metadata(before: &str, facts: &Facts, token: &str, text: fn(Time) -> String) -> Headers {
    let [id, mtime, mode, uid, gid, blake3] = KEPT.map(|name| format!("{before}{name}"));
    let mut kept = vec![(id, token.to_owned())];
    kept.extend(facts.mtime.map(|time| (mtime, text(time))));
    kept.extend(facts.mode.map(|bits| (mode, format!("100{bits:03o}"))));
    kept.extend(facts.uid.map(|user| (uid, user.to_string())));
    kept.extend(facts.gid.map(|group| (gid, group.to_string())));
    kept.extend(facts.blake3.as_ref().map(|digest| (blake3, digest.to_string())));
    kept
}

/// A time as a date, as rclone writes it to Azure.
pub fn date_text(time: Time) -> String {
    let date = DateTime::from_timestamp(time.sec, time.nsec);
    date.map_or_else(
        || time_text(time),
        |date| date.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true),
    )
}

/// Seconds since 1970 with a fraction, as rclone writes them to S3; s3fs writes none; or a date, as it writes them to Azure.
fn time_of(text: &str) -> Option<Time> {
    if let Ok(date) = DateTime::parse_from_rfc3339(text) {
        return Some(Time {
            sec: date.timestamp(),
            nsec: date.timestamp_subsec_nanos(),
        });
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nsec: u32 = format!("{fraction:0<9}").parse().ok()?;
    let sec: i64 = seconds.parse().ok()?;
    // Before 1970 the fraction counts down.
    Some(match (seconds.starts_with('-'), nsec) {
        (true, 1..) => Time {
            sec: sec - 1,
            nsec: 1_000_000_000 - nsec,
        },
        _ => Time { sec, nsec },
    })
}

/// The same written.
pub fn time_text(time: Time) -> String {
    match (time.sec, time.nsec) {
        (..0, 1..) => {
            let sign = if time.sec == -1 { "-" } else { "" };
            format!("{sign}{}.{:09}", time.sec + 1, 1_000_000_000 - time.nsec)
        }
        (sec, nsec) => format!("{sec}.{nsec:09}"),
    }
}

/// Permission bits: octal with the type in front, as rclone writes them, or decimal, as s3fs does.
fn mode_of(text: &str) -> Option<u32> {
    let octal = text.len() == 6 && (text.starts_with("100") || text.starts_with("120") || text.starts_with("040"));
    let bits = match u32::from_str_radix(text, 8) {
        Ok(bits) if octal => bits,
        _ => text.parse().ok()?,
    };
    Some(bits & 0o7777)
}

fn digest_of(hex: &str) -> Option<Digest> {
    let pairs = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    Digest::new(Algorithm::Blake3, &pairs.collect::<Option<Vec<u8>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_those_of_others_too() {
        for (text, sec, nsec) in [
            ("981173106.123456789", 981_173_106, 123_456_789),
            ("981173106", 981_173_106, 0),
            ("5.5", 5, 500_000_000),
            ("-0.250000000", -1, 750_000_000),
            ("-2.000000000", -2, 0),
        ] {
            let time = Time { sec, nsec };
            assert_eq!(time_of(text), Some(time), "{text}");
            assert_eq!(time_of(&date_text(time)), Some(time), "{text}");
            assert_eq!(time_of(&time_text(time)), Some(time), "{text}");
        }
        assert_eq!([time_of("x"), time_of("1.x"), time_of("1.0123456789")], [None; 3]);
        let modes = ["100640", "120777", "33188", "420", "x"].map(mode_of);
        assert_eq!(modes, [Some(0o640), Some(0o777), Some(0o644), Some(0o644), None]);
    }
}
