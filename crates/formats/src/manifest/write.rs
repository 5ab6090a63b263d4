//! Writing a manifest, an entry at a time.

use super::read::{HASHDEEP, HASHDEEP_VERSION, LINE_BYTES};
use super::{Entry, Format, Kind, PathError, inside, json, sums};
use crate::digest::Algorithm;

/// Why a format cannot have this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Other algorithms than the format has.
    #[error("{0}")]
    Algorithms(&'static str),
    /// Something else than a file, where only files are listed.
    #[error("a {}, and only files can be listed in this format", .0.name())]
    Kind(Kind),
    /// A digest that the manifest has is missing.
    #[error("has no digest of {0}")]
    NoDigest(Algorithm),
    /// The size is missing, which hashdeep's lines have.
    #[error("has no size")]
    NoSize,
    /// A path that no manifest has.
    #[error("the path {0}")]
    Path(#[from] PathError),
    /// The path is not in its plain form: it would read back as another.
    #[error("the path has components that mean nothing")]
    Indirect,
    /// Its line would be longer than [`LINE_BYTES`], which no reader takes.
    #[error("a line longer than {LINE_BYTES} bytes")]
    TooLong,
    /// The name can't be written in this format.
    #[error("the name {0}")]
    Name(&'static str),
}

/// Writes a manifest.
#[derive(Clone, Debug)]
pub struct Writer {
    format: Format,
    /// In the order in which they are written.
    algorithms: Vec<Algorithm>,
}

impl Writer {
    /// A writer of this format with these algorithms: lines of checksums and bags have one, hashdeep knows MD5 and SHA-256
    /// only, and ours may have none. Each file must have a digest of each; ours has those that there are beside them too.
    pub fn new(format: Format, algorithms: &[Algorithm]) -> Result<Self, Unwritable> {
        let mut algorithms = algorithms.to_vec();
        algorithms.sort_unstable();
        algorithms.dedup();
        let known = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Md5 | Algorithm::Sha256);
        let refused = match format {
            Format::Sums | Format::SumsNul | Format::Bagit => {
                (algorithms.len() != 1).then_some("a manifest of this format has one algorithm")
            }
            Format::Hashdeep => {
                (algorithms.is_empty() || !algorithms.iter().all(known)).then_some("hashdeep knows md5 and sha256 only")
            }
            Format::Json => None,
        };
        if let Some(why) = refused {
            return Err(Unwritable::Algorithms(why));
        }
        if format == Format::Hashdeep {
            // Its own order.
            algorithms.reverse();
        }
        Ok(Self { format, algorithms })
    }

    /// Appends what stands before the first entry.
    pub fn head(&self, text: &mut Vec<u8>) {
        match self.format {
            Format::Sums | Format::SumsNul | Format::Bagit => {}
            Format::Json => json::head(text),
            Format::Hashdeep => {
                text.extend_from_slice(&[HASHDEEP, HASHDEEP_VERSION, b"\n%%%% size,"].concat());
                for algorithm in &self.algorithms {
                    text.extend_from_slice(algorithm.name().as_bytes());
                    text.push(b',');
                }
                text.extend_from_slice(b"filename\n");
            }
        }
    }

    /// Appends an entry. When it can't be written nothing is appended: it then belongs into a manifest of ours beside this
    /// one.
    pub fn entry(&self, entry: &Entry, text: &mut Vec<u8>) -> Result<(), Unwritable> {
        let start = text.len();
        self.line(entry, text)?;
        if text.len() - start > LINE_BYTES {
            text.truncate(start);
            return Err(Unwritable::TooLong);
        }
        text.push(if self.format == Format::SumsNul { 0 } else { b'\n' });
        Ok(())
    }

    fn line(&self, entry: &Entry, text: &mut Vec<u8>) -> Result<(), Unwritable> {
        let path = &entry.path[..];
        if inside(path)? != path {
            return Err(Unwritable::Indirect);
        }
        let digests = match entry.kind {
            None | Some(Kind::File) => {
                let digest = |algorithm: &Algorithm| entry.digest(*algorithm).ok_or(Unwritable::NoDigest(*algorithm));
                self.algorithms.iter().map(digest).collect::<Result<Vec<_>, _>>()?
            }
            Some(_) if self.format == Format::Json => Vec::new(),
            Some(kind) => return Err(Unwritable::Kind(kind)),
        };
        if let Some(why) = self.unfit(path) {
            return Err(Unwritable::Name(why));
        }
        let start = text.len();
        match self.format {
            Format::Json => json::write(entry, text),
            Format::Hashdeep => {
                let size = entry.size.ok_or(Unwritable::NoSize)?;
                text.extend_from_slice(size.to_string().as_bytes());
                for digest in digests {
                    text.push(b',');
                    digest.write_hex(text);
                }
                text.extend_from_slice(b",./");
                text.extend_from_slice(path);
            }
            Format::Sums | Format::SumsNul | Format::Bagit => {
                for digest in digests {
                    digest.write_hex(text);
                }
                text.extend_from_slice(b"  ");
                match self.format {
                    Format::Bagit => sums::percent_encode(path, text),
                    Format::SumsNul => text.extend_from_slice(path),
                    _ => {
                        if sums::escape(path, text) {
                            text.insert(start, b'\\');
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Why a name cannot be written.
    fn unfit(&self, path: &[u8]) -> Option<&'static str> {
        match self.format {
            // b3sum writes U+FFFD for what is not text, refuses names that have it, and gives up a whole list that is not
            // UTF-8.
            Format::Sums if self.algorithms == [Algorithm::Blake3] => match std::str::from_utf8(path) {
                Ok(name) if !name.contains('\u{fffd}') => None,
                _ => Some("is not UTF-8, or has U+FFFD, and b3sum takes neither"),
            },
            Format::Hashdeep if path.contains(&b'\n') || path.ends_with(b"\r") => {
                Some("has a newline, or CR at its end, which hashdeep takes for the end of the line")
            }
            Format::Bagit if matches!(path.first(), Some(b' ' | b'\t' | b'*')) => {
                Some("begins with what separates it from the digest")
            }
            _ => None,
        }
    }
}
