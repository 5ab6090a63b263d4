//! Reading a manifest as a stream, and telling which format it has.

use super::sums::{self, Parts, Spacing};
use super::{Entry, Format, ManifestError, Problem, either, inside, json, text};
use crate::codec;
use crate::digest::{Algorithm, Digest};

/// Bytes that a line may have, its end not counted: a path several times as long as a kernel takes, written as JSON.
pub const LINE_BYTES: usize = 1 << 20;

/// What hashdeep's files begin with, and the version that is known here.
pub(super) const HASHDEEP: &[u8] = b"%%%% HASHDEEP-";
pub(super) const HASHDEEP_VERSION: &[u8] = b"1.0";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An entry as it stands in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The number of its line, from 1.
    pub line: u64,
    /// What the line says.
    pub entry: Entry,
}

/// What is in a column of hashdeep's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Size,
    Digest(Algorithm),
    Other,
}

/// Reads a manifest.
#[derive(Clone, Debug)]
pub struct Reader {
    format: Format,
    algorithm: Option<Algorithm>,
    /// Lines that have ended.
    lines: u64,
    /// Whether there was an entry, or a line in the place of one.
    listed: bool,
    /// The beginning of a line that has not ended.
    pending: Vec<u8>,
    /// The line that has not ended was too long.
    passing: bool,
    spacing: Option<Spacing>,
    /// Those of hashdeep before the name, when its header was read.
    columns: Option<Vec<Column>>,
    /// The header of hashdeep's file ended with CR, and so does every line.
    carriage_returns: bool,
}

impl Reader {
    /// A reader of this format. A line that has no digest of the algorithm, but of others, is refused. Without it, the
    /// lines must say what their digests are of, or the length of these.
    pub fn new(format: Format, algorithm: Option<Algorithm>) -> Self {
        Self {
            format,
            algorithm,
            lines: 0,
            listed: false,
            pending: Vec::new(),
            passing: false,
            spacing: None,
            columns: None,
            carriage_returns: false,
        }
    }

    /// Takes in the next bytes, and gives what is in them as it is asked for: to the end, or the rest is lost. A line that
    /// is refused does not hide those after it.
    pub fn read<'a>(&'a mut self, mut bytes: &'a [u8]) -> impl Iterator<Item = Result<Listed, ManifestError>> + 'a {
        let end = if self.format == Format::SumsNul { 0 } else { b'\n' };
        std::iter::from_fn(move || {
            while !bytes.is_empty() {
                let Some(at) = bytes.iter().position(|byte| *byte == end) else {
                    let too_long = self.keep(bytes);
                    bytes = &[];
                    return too_long;
                };
                let line = &bytes[..at];
                bytes = &bytes[at + 1..];
                if let Some(listed) = self.ended(line) {
                    return Some(listed);
                }
            }
            None
        })
    }

    /// The last line, where its end is missing; an error where no line was an entry.
    pub fn finish(&mut self) -> Result<Option<Listed>, ManifestError> {
        let last = if self.pending.is_empty() { None } else { self.ended(b"") };
        match last {
            Some(listed) => listed.map(Some),
            None if self.listed => Ok(None),
            None => Err(ManifestError {
                line: self.lines.max(1),
                problem: Problem::Empty,
            }),
        }
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, bytes: &[u8]) -> Option<Result<Listed, ManifestError>> {
        if self.passing {
            return None;
        }
        if self.pending.len() + bytes.len() <= LINE_BYTES {
            self.pending.extend_from_slice(bytes);
            return None;
        }
        self.pending = Vec::new();
        self.passing = true;
        Some(self.refused(self.lines + 1, Problem::TooLong))
    }

    /// A line has ended, with these bytes.
    fn ended(&mut self, rest: &[u8]) -> Option<Result<Listed, ManifestError>> {
        self.lines += 1;
        if std::mem::take(&mut self.passing) {
            return None;
        }
        if self.pending.len() + rest.len() > LINE_BYTES {
            self.pending = Vec::new();
            return Some(self.refused(self.lines, Problem::TooLong));
        }
        if self.pending.is_empty() {
            return self.line(rest);
        }
        let mut line = std::mem::take(&mut self.pending);
        line.extend_from_slice(rest);
        let listed = self.line(&line);
        line.clear();
        self.pending = line;
        listed
    }

    fn line(&mut self, line: &[u8]) -> Option<Result<Listed, ManifestError>> {
        let line = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if self.lines == 1 => rest,
            _ => line,
        };
        let entry = match self.format {
            Format::Sums | Format::SumsNul | Format::Bagit => self.sum(line),
            Format::Hashdeep => self.hashdeep(line),
            Format::Json => json::parse(line.strip_suffix(b"\r").unwrap_or(line)),
        };
        let checked = entry.and_then(|entry| {
            let Some(mut entry) = entry else {
                return Ok(None);
            };
            if let (Some(expected), Some(_)) = (self.algorithm, entry.digests.first())
                && entry.digest(expected).is_none()
            {
                let found: Vec<_> = entry.digests.iter().map(Digest::algorithm).collect();
                return Err(Problem::WrongAlgorithm {
                    expected,
                    found: either(&found),
                });
            }
            entry.path = inside(&entry.path).map_err(|why| Problem::Path {
                path: text(&entry.path),
                why,
            })?;
            Ok(Some(entry))
        });
        match checked {
            Ok(None) => None,
            Ok(Some(entry)) => {
                self.listed = true;
                Some(Ok(Listed {
                    line: self.lines,
                    entry,
                }))
            }
            Err(problem) => Some(self.refused(self.lines, problem)),
        }
    }

    fn refused(&mut self, line: u64, problem: Problem) -> Result<Listed, ManifestError> {
        self.listed = true;
        Err(ManifestError { line, problem })
    }

    fn sum(&mut self, line: &[u8]) -> Result<Option<Entry>, Problem> {
        let Some(parts) = sums::parse(line, self.format, &mut self.spacing)? else {
            return Ok(None);
        };
        let digits = parts.digits.len();
        let may: Vec<_> = Algorithm::of_digits(digits).collect();
        let algorithm = match (parts.tag.or(self.algorithm), &may[..]) {
            (Some(algorithm), may) if parts.tag.is_some() || may.contains(&algorithm) => algorithm,
            (Some(expected), may) => {
                return Err(Problem::WrongAlgorithm {
                    expected,
                    found: either(may),
                });
            }
            (None, [algorithm]) => *algorithm,
            (None, _) => return Err(Problem::Ambiguous { digits, may }),
        };
        let digest = Digest::from_hex(algorithm, parts.digits).ok_or(Problem::Line("checksums"))?;
        Ok(Some(Entry::new(parts.path, vec![digest])))
    }

    fn hashdeep(&mut self, line: &[u8]) -> Result<Option<Entry>, Problem> {
        const NO_LINE: Problem = Problem::Line("hashdeep");
        if let Some(version) = line.strip_prefix(HASHDEEP) {
            self.carriage_returns = version.ends_with(b"\r");
            let version = version.strip_suffix(b"\r").unwrap_or(version);
            return if version == HASHDEEP_VERSION {
                Ok(None)
            } else {
                Err(Problem::Version {
                    format: "a file of hashdeep",
                    version: text(version),
                })
            };
        }
        let line = match line.strip_suffix(b"\r") {
            Some(line) if self.carriage_returns => line,
            _ => line,
        };
        if let Some(columns) = line.strip_prefix(b"%%%% ") {
            self.columns = Some(hashdeep_columns(columns)?);
            return Ok(None);
        }
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(None);
        }
        let columns = self.columns.as_ref().ok_or(NO_LINE)?;
        // The name comes last and may have commas.
        let mut fields = line.splitn(columns.len() + 1, |byte| *byte == b',');
        let mut entry = Entry::default();
        for column in columns {
            let field = fields.next().ok_or(NO_LINE)?;
            match column {
                Column::Size => entry.size = Some(number(field).ok_or(NO_LINE)?),
                Column::Digest(algorithm) => {
                    entry.digests.push(Digest::from_hex(*algorithm, field).ok_or(NO_LINE)?);
                }
                Column::Other => {}
            }
        }
        entry.path = fields.next().ok_or(NO_LINE)?.to_vec();
        entry.digests.sort_unstable();
        Ok(Some(entry))
    }
}

/// The columns before the name; those of algorithms that are not known here are passed over, as long as one is known.
fn hashdeep_columns(line: &[u8]) -> Result<Vec<Column>, Problem> {
    const NO_LINE: Problem = Problem::Line("hashdeep");
    let names: Vec<_> = line.split(|byte| *byte == b',').collect();
    let Some((&b"filename", names)) = names.split_last() else {
        return Err(NO_LINE);
    };
    let columns: Vec<_> = names
        .iter()
        .map(|name| match Algorithm::named(name) {
            Some(algorithm) => Column::Digest(algorithm),
            None if *name == b"size" => Column::Size,
            None => Column::Other,
        })
        .collect();
    let repeated =
        |column: &Column| *column != Column::Other && columns.iter().filter(|other| *other == column).count() > 1;
    if columns.iter().any(repeated) {
        return Err(NO_LINE);
    }
    if !columns.iter().any(|column| matches!(column, Column::Digest(_))) {
        return Err(Problem::Algorithm(text(line)));
    }
    Ok(columns)
}

/// A number of decimal digits only.
pub(super) fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    digits.iter().all(u8::is_ascii_digit).then_some(())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What a manifest is, by its name and its first lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Its format.
    pub format: Format,
    /// The algorithm that its file is called after. Given to the [`Reader`], lines of another one are refused and named.
    pub named: Option<Algorithm>,
    /// What the first digest may be of: nothing where each line says it itself; more than one, BLAKE3 and SHA-256, where
    /// neither the length of the digest nor the name of the file tells. Then somebody must say it, or the first file be
    /// hashed with each.
    pub algorithms: Vec<Algorithm>,
}

/// Tells the format of a manifest from the name of its file (empty: none) and from its beginning, which must have its first
/// entry; `None`: it is none that is known here.
pub fn recognise(name: &[u8], head: &[u8]) -> Option<Recognised> {
    let name = own_name(name);
    let named = named(name);
    let all = |format| Recognised {
        format,
        named: None,
        algorithms: Vec::new(),
    };
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    if head.starts_with(HASHDEEP) {
        return Some(all(Format::Hashdeep));
    }
    let first = head
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())
        .unwrap_or(head.len());
    if head[first..].starts_with(b"{") {
        return Some(all(Format::Json));
    }
    let format = if head.contains(&0) {
        Format::SumsNul
    } else if is_bag(name) {
        Format::Bagit
    } else {
        Format::Sums
    };
    let end = if format == Format::SumsNul { 0 } else { b'\n' };
    let parts = head
        .split(|byte| *byte == end)
        .find_map(|line| sums::parse(line, format, &mut None).transpose())?;
    let algorithms = match parts {
        Err(Problem::Line(_)) => return None,
        Ok(Parts { tag: None, digits, .. }) => {
            let may: Vec<_> = Algorithm::of_digits(digits.len()).collect();
            named
                .filter(|named| may.contains(named))
                .map_or(may, |named| vec![named])
        }
        // Also what the reader will have a word on.
        Ok(_) | Err(_) => Vec::new(),
    };
    Some(Recognised {
        format,
        named,
        algorithms,
    })
}

/// The line of a manifest that is one digest and nothing else, or one of standard input, as many tools write `FILE.md5`: with
/// the name that it lies beside, which its own name says. `None`: it is no such thing.
pub fn bare(name: &[u8], content: &[u8]) -> Option<Vec<u8>> {
    let name = own_name(name);
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    let algorithm = named(&name[dot + 1..])?;
    let text = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content).trim_ascii();
    let hex = [&b"  -"[..], b" *-"].iter().find_map(|stdin| text.strip_suffix(*stdin));
    let digest = Digest::from_hex(algorithm, hex.unwrap_or(text))?;
    let mut line = Vec::new();
    let entry = Entry::new(name[..dot].to_vec(), vec![digest]);
    super::Writer::new(Format::Sums, &[algorithm])
        .ok()?
        .entry(&entry, &mut line)
        .ok()?;
    Some(line)
}

/// The last component of a path, without what it is called after when it is compressed.
fn own_name(path: &[u8]) -> &[u8] {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let packed = codec::Format::ALL.iter();
    let mut bare = packed.filter_map(|format| name.strip_suffix(format.suffix().as_bytes()));
    bare.next().unwrap_or(name)
}

/// A manifest or tag manifest of a bag (RFC 8493, sections 2.1.3 and 2.2.1).
fn is_bag(name: &[u8]) -> bool {
    (name.starts_with(b"manifest-") || name.starts_with(b"tagmanifest-")) && name.ends_with(b".txt")
}

/// The algorithm in a name such as `BLAKE3SUMS`, `sha256sum.txt`, `reads.fastq.gz.md5` or `manifest-sha512.txt`: the last
/// one that is in it.
fn named(name: &[u8]) -> Option<Algorithm> {
    let words = name.split(|byte| matches!(byte, b'.' | b'-' | b'_' | b' '));
    words.rev().find_map(|word| {
        let word = word.to_ascii_lowercase();
        let word = word.strip_suffix(b"s").unwrap_or(&word);
        let bare = word.strip_suffix(b"sum").unwrap_or(word);
        Algorithm::named(bare.strip_suffix(b"check").unwrap_or(bare))
    })
}

/// Whether a file is called as manifests are, of an algorithm that is known here: `FILE.md5`, `FILE.sha256sum`, `SHA512SUMS`,
/// `md5checksums.txt`, `manifest-sha256.txt`, each also as it is called when it is compressed.
pub fn is_called_one(name: &[u8]) -> bool {
    let name = own_name(name);
    if is_bag(name) {
        return named(name).is_some();
    }
    let bare = name.strip_suffix(b".txt").unwrap_or(name);
    let word = match bare.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 => &bare[dot + 1..],
        // Without an extension also the tools are called so: `md5sum`.
        None if bare.to_ascii_lowercase().ends_with(b"sums") || bare.len() < name.len() => bare,
        Some(_) | None => return false,
    };
    !word.contains(&b'-') && !word.contains(&b'_') && named(word).is_some()
}
