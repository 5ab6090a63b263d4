//! The XML of S3: what a server answers, and what it is asked.
//!
//! Comes in: bytes of an answer; goes out: a page of a listing, the outcome of deletions, an error with its code. An answer
//! that ends before its root does is none (`None`): a connection that breaks at the right place must not look like a short
//! listing. Forms are those of the [S3 API reference](https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html).

use bulkhaul_sys::Time;
use chrono::DateTime;
use percent_encoding::percent_decode;
use quick_xml::Reader;
use quick_xml::events::Event;

/// One object of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its whole key.
    pub key: Vec<u8>,
    /// Bytes.
    pub size: Option<u64>,
    /// When it was written.
    pub written: Time,
    /// As it stands, without quotes.
    pub tag: Vec<u8>,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Its objects.
    pub items: Vec<Item>,
    /// There is more.
    pub truncated: bool,
    /// Where the next one begins.
    pub token: Option<String>,
}

/// An error as S3 says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// Its code.
    pub code: String,
    /// In words.
    pub message: String,
    /// What it is about: a key, a region.
    pub detail: String,
}

/// Calls `leaf` for each element that holds text only, with the names above it and its own, and `end` at the end of each
/// other. `None` where the document does not come to its end.
fn each(xml: &[u8], mut leaf: impl FnMut(&[String], String), mut end: impl FnMut(&[String])) -> Option<String> {
    let mut reader = Reader::from_reader(xml);
    let (mut path, mut text, mut root) = (Vec::<String>::new(), String::new(), None);
    // The last thing was a beginning: what ends now holds no element.
    let mut open = false;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                let name = String::from_utf8(start.local_name().as_ref().to_vec()).ok()?;
                root.get_or_insert_with(|| name.clone());
                path.push(name);
                (open, text) = (true, String::new());
            }
            Event::Empty(start) => {
                let name = String::from_utf8(start.local_name().as_ref().to_vec()).ok()?;
                root.get_or_insert_with(|| name.clone());
                path.push(name);
                leaf(&path, String::new());
                path.pop();
            }
            Event::Text(piece) => text.push_str(&piece.decode().ok()?),
            Event::CData(piece) => text.push_str(&piece.decode().ok()?),
            Event::GeneralRef(reference) => {
                let named = match &*reference.decode().ok()? {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => None,
                };
                text.push(named.or(reference.resolve_char_ref().ok()?)?);
            }
            Event::End(_) => {
                if open {
                    leaf(&path, std::mem::take(&mut text));
                } else {
                    end(&path);
                }
                open = false;
                path.pop();
            }
            Event::Eof => return root.filter(|_| path.is_empty()),
            _ => {}
        }
    }
}

fn names(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// A time as listings have it.
fn time(text: &str) -> Option<Time> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(Time {
        sec: time.timestamp(),
        nsec: time.timestamp_subsec_nanos(),
    })
}

/// A tag without the quotes that some servers leave out.
pub fn bare(tag: &str) -> Vec<u8> {
    tag.trim().trim_matches('"').as_bytes().to_vec()
}

/// Reads a page of `ListObjectsV2`. Keys are decoded where the server says that it has encoded them; some do not know how to.
pub fn page(xml: &[u8]) -> Option<Page> {
    let (mut page, mut item, mut encoded) = (Page::default(), Item::default(), false);
    let mut items: Vec<(Item, String)> = Vec::new();
    let mut key = String::new();
    let (mut whole, mut dates, mut together) = (true, true, false);
    let root = {
        let cell = std::cell::RefCell::new((&mut item, &mut key));
        each(
            xml,
            |path, text| match *names(path) {
                [_, "IsTruncated"] => page.truncated = text.trim() == "true",
                [_, "NextContinuationToken"] => page.token = Some(text).filter(|token| !token.is_empty()),
                [_, "EncodingType"] => encoded = text.trim() == "url",
                [_, "Contents", "Key"] => *cell.borrow_mut().1 = text,
                // With a delimiter: a directory, which comes after all objects of its page.
                [_, "CommonPrefixes", "Prefix"] => {
                    let mut cell = cell.borrow_mut();
                    *cell.1 = text;
                    cell.0.size = Some(0);
                    together = true;
                }
                [_, "Contents", "Size"] => cell.borrow_mut().0.size = text.trim().parse().ok(),
                [_, "Contents", "ETag"] => cell.borrow_mut().0.tag = bare(&text),
                [_, "Contents", "LastModified"] => match time(text.trim()) {
                    Some(written) => cell.borrow_mut().0.written = written,
                    None => dates = false,
                },
                _ => {}
            },
            |path| {
                if let [_, "Contents" | "CommonPrefixes"] = *names(path) {
                    let mut cell = cell.borrow_mut();
                    let item = std::mem::take(&mut *cell.0);
                    whole &= item.size.is_some();
                    items.push((item, std::mem::take(&mut *cell.1)));
                }
            },
        )?
    };
    if root != "ListBucketResult" || !whole || !dates {
        return None;
    }
    page.items = items
        .into_iter()
        .map(|(item, key)| Item {
            // In this encoding a plus is a blank.
            key: if encoded {
                percent_decode(key.replace('+', " ").as_bytes()).collect()
            } else {
                key.into_bytes()
            },
            ..item
        })
        .collect();
    if together {
        page.items.sort_by(|a, b| a.key.cmp(&b.key));
    }
    Some(page)
}

/// Reads an error; `None` where the answer is none. Also an answer with the status 200 may be one.
pub fn error(xml: &[u8]) -> Option<Spoken> {
    let mut spoken = Spoken::default();
    let root = each(
        xml,
        |path, text| match *names(path) {
            [_, "Code"] => spoken.code = text,
            [_, "Message"] => spoken.message = text,
            [_, "Region" | "Key" | "BucketName"] => spoken.detail = text,
            _ => {}
        },
        |_| (),
    )?;
    (root == "Error").then_some(spoken)
}

/// The one text of this name anywhere in an answer, and the name of its root.
pub fn find(xml: &[u8], wanted: &str) -> Option<(String, Option<String>)> {
    let mut found = None;
    let root = each(
        xml,
        |path, text| {
            if path.last().is_some_and(|name| name == wanted) {
                found = Some(text);
            }
        },
        |_| (),
    )?;
    Some((root, found))
}

/// Keys that went, and those that stay with the reason.
pub type Deleted = (Vec<String>, Vec<(String, Spoken)>);

/// What `DeleteObjects` answers: the keys that went, and those that did not with the reason.
pub fn deleted(xml: &[u8]) -> Option<Deleted> {
    let (mut gone, mut stay) = (Vec::new(), Vec::new());
    let cell = std::cell::RefCell::new((String::new(), Spoken::default()));
    let root = each(
        xml,
        |path, text| match *names(path) {
            [_, "Deleted" | "Error", "Key"] => cell.borrow_mut().0 = text,
            [_, "Error", "Code"] => cell.borrow_mut().1.code = text,
            [_, "Error", "Message"] => cell.borrow_mut().1.message = text,
            _ => {}
        },
        |path| {
            let (key, spoken) = std::mem::take(&mut *cell.borrow_mut());
            match *names(path) {
                [_, "Deleted"] => gone.push(key),
                [_, "Error"] => stay.push((key, spoken)),
                _ => {}
            }
        },
    )?;
    (root == "DeleteResult").then_some((gone, stay))
}

/// Text between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Whether XML carries a key as it is: it has no form for most control characters, and readers make one newline of all.
pub fn carries(key: &str) -> bool {
    !key.chars()
        .any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

/// Where the forms of S3 are.
const SPACE: &str = "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"";

/// The question to `DeleteObjects`.
pub fn delete(keys: &[&str]) -> String {
    let mut xml = format!("<Delete {SPACE}>");
    for key in keys {
        xml.extend(["<Object><Key>", &escaped(key), "</Key></Object>"]);
    }
    xml + "</Delete>"
}

/// A part as the server has taken it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its tag, as the server gave it.
    pub tag: String,
    /// Its CRC-64/NVME, where it went with one: some servers want it again.
    pub crc: Option<String>,
}

/// The question to `CompleteMultipartUpload`: parts by their numbers from 1 on.
pub fn complete(parts: &[Taken]) -> String {
    let mut xml = format!("<CompleteMultipartUpload {SPACE}>");
    for (part, number) in parts.iter().zip(1..) {
        let number: u32 = number;
        xml.extend([
            "<Part><PartNumber>",
            &number.to_string(),
            "</PartNumber><ETag>",
            &escaped(&part.tag),
            "</ETag>",
        ]);
        if let Some(crc) = &part.crc {
            xml.extend(["<ChecksumCRC64NVME>", &escaped(crc), "</ChecksumCRC64NVME>"]);
        }
        xml.push_str("</Part>");
    }
    xml + "</CompleteMultipartUpload>"
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\">";

    fn contents(key: &str) -> String {
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;ab&quot;</ETag><Size>7</Size><Owner><ID>x</ID></Owner></Contents>"
        )
    }

    #[test]
    fn a_page_is_read_as_the_server_wrote_it() {
        let xml = format!(
            "{HEAD}<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>{}{}</ListBucketResult>",
            contents("a &amp;&#x20;+%20"),
            contents(" b ")
        );
        let read = page(xml.as_bytes()).unwrap();
        assert_eq!((read.truncated, read.token.as_deref()), (true, Some("a&b")));
        let keys: Vec<_> = read.items.iter().map(|item| item.key.as_slice()).collect();
        assert_eq!(keys, [&b"a & +%20"[..], b" b "]);
        assert_eq!((read.items[0].size, &read.items[0].tag[..]), (Some(7), &b"ab"[..]));
        assert_eq!(
            (read.items[0].written.sec, read.items[0].written.nsec),
            (1_767_323_045, 678_000_000)
        );
        let encoded = format!(
            "{HEAD}<EncodingType>url</EncodingType>{}</ListBucketResult>",
            contents("a+b%2Bc%0A%C3%BC")
        );
        assert_eq!(page(encoded.as_bytes()).unwrap().items[0].key, "a b+c\nü".as_bytes());
    }

    #[test]
    fn a_page_that_breaks_off_is_none() {
        let xml = format!(
            "{HEAD}<IsTruncated>false</IsTruncated>{}{}</ListBucketResult>",
            contents("a"),
            contents("b")
        );
        assert!(page(xml.as_bytes()).is_some());
        for end in 0..xml.len() {
            assert_eq!(page(&xml.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(page(b"<html></html>"), None);
        assert_eq!(
            page(format!("{HEAD}<Contents><Key>a</Key></Contents></ListBucketResult>").as_bytes()),
            None
        );
    }

    #[test]
    fn errors_and_deletions_are_told() {
        let xml = b"<Error><Code>SlowDown</Code><Message>a &lt; b</Message></Error>";
        assert_eq!(error(xml).unwrap().message, "a < b");
        assert_eq!(error(b"<CompleteMultipartUploadResult/>"), None);
        let xml = b"<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code></Error></DeleteResult>";
        let (gone, stay) = deleted(xml).unwrap();
        assert_eq!(
            (gone, stay[0].0.as_str(), stay[0].1.code.as_str()),
            (vec!["a".to_owned()], "b", "AccessDenied")
        );
        assert!(!carries("a\nb") && !carries("\u{1}") && carries("a<&\u{1f600}"));
    }
}
