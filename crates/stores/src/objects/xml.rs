//! The XML of S3 and Azure: what a server answers, and what it is asked.
//!
//! Comes in: bytes of an answer; goes out: a page of a listing, the outcome of deletions, an error with its code. An answer
//! that ends before its root does is none (`None`): a connection that breaks at the right place must not look like a short
//! listing. Forms are those of the [S3 API reference](https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html)
//! and of [List Blobs](https://learn.microsoft.com/rest/api/storageservices/list-blobs).

use std::collections::HashMap;

use bulkhaul_sys::Time;
use chrono::DateTime;
use percent_encoding::percent_decode;
use quick_xml::Reader;
use quick_xml::events::Event;

use crate::objects::facts_of;
use crate::store::Facts;

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
    /// What is kept with it, where a listing tells that.
    pub facts: Option<Facts>,
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
    /// Its keys came encoded: whatever is in them.
    pub encoded: bool,
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
    let (mut open, mut encoded) = (false, false);
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                let coded = start.try_get_attribute("Encoded").ok()?;
                encoded = coded.is_some_and(|coded| &*coded.value == b"true");
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
                if open && encoded {
                    // What XML has no form for.
                    leaf(&path, percent_decode(text.as_bytes()).decode_utf8().ok()?.into_owned());
                } else if open {
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
    let (mut page, mut item) = (Page::default(), Item::default());
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
                [_, "EncodingType"] => page.encoded = text.trim() == "url",
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
            key: if page.encoded {
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

/// Reads a page of `List Blobs`, with what is kept with each.
pub fn blobs(xml: &[u8]) -> Option<Page> {
    let mut page = Page::default();
    let (mut items, mut whole, mut dates) = (Vec::<(Item, bool)>::new(), true, true);
    let cell = std::cell::RefCell::new((Item::default(), Vec::<(String, String)>::new()));
    let root = each(
        xml,
        |path, text| {
            let mut cell = cell.borrow_mut();
            let (item, kept) = &mut *cell;
            match *names(path) {
                [_, "NextMarker"] => page.token = Some(text).filter(|token| !token.is_empty()),
                [_, "Blobs", "Blob", "Name"] => item.key = text.into_bytes(),
                [_, "Blobs", "BlobPrefix", "Name"] => {
                    item.key = text.into_bytes();
                    item.size = Some(0);
                }
                [_, "Blobs", "Blob", "Properties", name] => match name {
                    "Content-Length" => item.size = text.trim().parse().ok(),
                    "Etag" => item.tag = bare(&text),
                    "Last-Modified" => match DateTime::parse_from_rfc2822(text.trim()) {
                        Ok(time) => item.written.sec = time.timestamp(),
                        Err(_) => dates = false,
                    },
                    _ => {}
                },
                [_, "Blobs", "Blob", "Metadata", name] => kept.push((name.to_ascii_lowercase(), text)),
                _ => {}
            }
        },
        |path| {
            if let [_, "Blobs", "Blob" | "BlobPrefix"] = *names(path) {
                let (mut item, kept) = std::mem::take(&mut *cell.borrow_mut());
                whole &= item.size.is_some() && !item.key.is_empty();
                let value = |wanted: &str| {
                    kept.iter()
                        .find(|(name, _)| name == wanted)
                        .map(|(_, value)| value.as_str())
                };
                // Where the account has directories of its own, each is told as a blob, too.
                let folder = value("hdi_isfolder") == Some("true");
                item.facts = Some(facts_of(|name| value(name)));
                items.push((item, folder));
            }
        },
    )?;
    if root != "EnumerationResults" || !whole || !dates {
        return None;
    }
    page.truncated = page.token.is_some();
    page.items = items
        .into_iter()
        .filter(|(_, folder)| !folder)
        .map(|(item, _)| item)
        .collect();
    page.items.sort_by(|a, b| a.key.cmp(&b.key));
    Some(page)
}

/// The question to `Put Block List`.
pub fn block_list(blocks: &[String]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    for block in blocks {
        xml.extend(["<Latest>", &escaped(block), "</Latest>"]);
    }
    xml + "</BlockList>"
}

/// Names and bytes of blocks that a blob has, as `Get Block List` tells them.
pub fn blocks(xml: &[u8]) -> Option<HashMap<String, u64>> {
    let (mut blocks, mut whole) = (HashMap::new(), true);
    let cell = std::cell::RefCell::new((String::new(), None::<u64>));
    let root = each(
        xml,
        |path, text| match *names(path) {
            [.., "Block", "Name"] => cell.borrow_mut().0 = text,
            [.., "Block", "Size"] => cell.borrow_mut().1 = text.trim().parse().ok(),
            _ => {}
        },
        |path| {
            if let [.., "Block"] = *names(path) {
                let (name, size) = std::mem::take(&mut *cell.borrow_mut());
                whole &= size.is_some();
                blocks.extend(size.map(|size| (name, size)));
            }
        },
    )?;
    (root == "BlockList" && whole).then_some(blocks)
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

/// Whether XML has a form for all characters of a key (XML 1.0, 2.2).
pub fn has_form(key: &str) -> bool {
    let has = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    key.chars().all(has)
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Its tag, as the server gave it.
    pub tag: String,
    /// Its CRC-64/NVME, where it went with one: some servers want it again.
    pub crc: Option<String>,
}

/// A part that a server has of an upload that is not complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// From 1 on.
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// As the server gives it, and its sum, if it keeps one.
    pub taken: Taken,
}

/// Parts that a server has, and where the next page of them begins.
pub fn parts(xml: &[u8]) -> Option<(Vec<Kept>, Option<String>)> {
    let (mut all, mut more, mut next) = (Vec::new(), false, None);
    let cell = std::cell::RefCell::new(Kept::default());
    let root = each(
        xml,
        |path, text| {
            let mut part = cell.borrow_mut();
            match *names(path) {
                [_, "IsTruncated"] => more = text.trim() == "true",
                [_, "NextPartNumberMarker"] => next = Some(text),
                [_, "Part", "PartNumber"] => part.number = text.trim().parse().unwrap_or_default(),
                [_, "Part", "Size"] => part.size = text.trim().parse().unwrap_or_default(),
                [_, "Part", "ETag"] => part.taken.tag = text,
                [_, "Part", "ChecksumCRC64NVME"] => part.taken.crc = Some(text),
                _ => {}
            }
        },
        |path| {
            if let [_, "Part"] = *names(path) {
                all.push(std::mem::take(&mut *cell.borrow_mut()));
            }
        },
    )?;
    (root == "ListPartsResult").then_some((all, next.filter(|_| more)))
}

/// An upload that is not complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// The whole key.
    pub key: String,
    /// Its name on the server.
    pub id: String,
    /// When it began.
    pub begun: Option<Time>,
}

/// A key and an upload.
pub type Behind = (String, String);

/// Uploads that are not complete, and the key and the upload behind which the next page begins.
pub fn unfinished(xml: &[u8]) -> Option<(Vec<Unfinished>, Option<Behind>)> {
    let (mut all, mut more, mut encoded) = (Vec::new(), false, false);
    let (mut key, mut id) = (String::new(), String::new());
    let cell = std::cell::RefCell::new(Unfinished::default());
    let root = each(
        xml,
        |path, text| {
            let mut upload = cell.borrow_mut();
            match *names(path) {
                [_, "IsTruncated"] => more = text.trim() == "true",
                [_, "EncodingType"] => encoded = text.trim() == "url",
                [_, "NextKeyMarker"] => key = text,
                [_, "NextUploadIdMarker"] => id = text,
                [_, "Upload", "Key"] => upload.key = text,
                [_, "Upload", "UploadId"] => upload.id = text,
                [_, "Upload", "Initiated"] => upload.begun = time(text.trim()),
                _ => {}
            }
        },
        |path| {
            if let [_, "Upload"] = *names(path) {
                all.push(std::mem::take(&mut *cell.borrow_mut()));
            }
        },
    )?;
    if root != "ListMultipartUploadsResult" {
        return None;
    }
    let plain = |text: String| {
        let decoded = text.replace('+', " ");
        if encoded {
            percent_decode(decoded.as_bytes()).decode_utf8().ok().map(Into::into)
        } else {
            Some(text)
        }
    };
    for upload in &mut all {
        upload.key = plain(std::mem::take(&mut upload.key))?;
    }
    let next = if more { Some((plain(key)?, id)) } else { None };
    Some((all, next))
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
    fn a_blob_that_stands_for_a_directory_is_no_file() {
        let blob = |name: &str, kept: &str| {
            format!(
                "<Blob><Name>{name}</Name><Properties><Last-Modified>Wed, 01 Jan 2020 00:00:00 GMT</Last-Modified>\
                 <Etag>0x1</Etag><Content-Length>0</Content-Length></Properties><Metadata>{kept}</Metadata></Blob>"
            )
        };
        let folder = "<hdi_isfolder>true</hdi_isfolder>";
        let xml = format!(
            "<EnumerationResults><Blobs>{}{}{}</Blobs><NextMarker /></EnumerationResults>",
            blob("d", folder),
            blob("d/a", ""),
            blob("e", "<hdi_isfolder>false</hdi_isfolder>")
        );
        let page = blobs(xml.as_bytes()).unwrap();
        let keys: Vec<_> = page.items.into_iter().map(|item| item.key).collect();
        assert_eq!(keys, [b"d/a".to_vec(), b"e".to_vec()]);
    }

    #[test]
    fn blocks_are_names_and_sizes() {
        let list = "<BlockList><UncommittedBlocks><Block><Name>YQ==</Name><Size>7</Size></Block><Block><Name>Yg==</Name><Size>8</Size></Block></UncommittedBlocks></BlockList>";
        let both = HashMap::from([("YQ==".to_owned(), 7), ("Yg==".to_owned(), 8)]);
        assert_eq!(blocks(list.as_bytes()), Some(both));
        let none = "<BlockList><UncommittedBlocks/></BlockList>";
        assert_eq!(blocks(none.as_bytes()), Some(HashMap::new()));
        for broken in [&list[..list.len() - 5], "<Error><Code>x</Code></Error>"] {
            assert_eq!(blocks(broken.as_bytes()), None, "{broken}");
        }
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
