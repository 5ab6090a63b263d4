use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use bulkhaul_formats::codec::{Codec, Format};
use bulkhaul_formats::digest::{Blake3, ContentDigest};
use bulkhaul_sys::{self as sys, AsFd as _};

use super::*;
use crate::bytes::stream::Stream;
use crate::error::{Cause, Operation, Side, Stopped};
use crate::job::desk::Desk;
use crate::pool::schedule::{Schedule, drive};
use crate::report::counters::Totals;

/// Content that is neither easy nor hard to compress, the same on every run.
fn text(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 32);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(format!("chr{}\t{}\tPASS\n", state >> 59, state >> 40 & 0xf_ffff).as_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn digest(content: &[u8]) -> ContentDigest {
    let mut digest = Blake3::default();
    digest.update(content);
    digest.digest()
}

/// Has a deed done by so many workers, all of which help where they can.
fn by<T: Send>(workers: usize, memory: u64, deed: impl Fn(Lead<'_>) -> T + Sync) -> (T, Desk) {
    enum Task {
        Deed,
        Help(Arc<Blocks>),
    }
    let (desk, schedule) = (Desk::new(workers), Schedule::new(workers));
    let memory = Memory::new(memory);
    let result = std::sync::Mutex::new(None);
    schedule.push(Task::Deed);
    let failed = drive(workers, |index| {
        let (mut tools, counters) = (Tools::default(), &desk.counters[index]);
        schedule.work(|task| match task {
            Task::Deed => {
                let invite = |blocks: &Arc<Blocks>| {
                    if schedule.hungry() {
                        schedule.push(Task::Help(Arc::clone(blocks)));
                    }
                };
                let done = deed(Lead {
                    desk: &desk,
                    counters,
                    memory: &memory,
                    tools: &mut tools,
                    invite: &invite,
                });
                *result.lock().unwrap() = Some(done);
            }
            Task::Help(blocks) => blocks.help(&desk, counters, &mut tools, || schedule.crowded()),
        });
    });
    assert!(failed.is_none());
    let result = result.into_inner().unwrap().unwrap();
    (result, desk)
}

const PLENTY: u64 = 8 << 30;

fn pack_by(workers: usize, codec: Codec, source: &Path, output: &Path) -> Result<Packed, Stopped> {
    let (source, output) = (File::open(source).unwrap(), File::create(output).unwrap());
    let (source, output) = (source.as_fd(), output.as_fd());
    by(workers, PLENTY, |lead| {
        pack(lead, source, output, codec, (true, &[]), None)
    })
    .0
}

fn unpack_by(workers: usize, archive: &Path, output: Option<&Path>, how: How) -> Result<Unpacked, Stopped> {
    let archive = File::open(archive).unwrap();
    let archive = archive.as_fd();
    by(workers, PLENTY, |lead| {
        let target = output.map_or(Target::Nothing, |path| Target::File(File::create(path).unwrap().into()));
        unpack(lead, archive, target, how)
    })
    .0
}

#[test]
fn the_same_bytes_for_any_number_of_workers_and_back_again() {
    let scratch = tempfile::tempdir().unwrap();
    let [source, archive, back] = ["source", "archive", "back"].map(|name| scratch.path().join(name));
    for (format, level) in [(Format::Bgzf, 1), (Format::Gzip, 1), (Format::Xz, 0), (Format::Zstd, 1)] {
        let codec = Codec::new(format, Some(level)).unwrap();
        let block = codec.block_bytes();
        let sizes = [0, 1, block + 1, 5 * block + 7];
        // Frames are large, and there is nothing new in many of them.
        let sizes = &sizes[..if format == Format::Zstd { 3 } else { 4 }];
        for size in sizes.iter().copied() {
            let content = text(size);
            fs::write(&source, &content).unwrap();
            let mut first = None;
            for workers in [1, 2, 5] {
                let packed = pack_by(workers, codec, &source, &archive).unwrap();
                let bytes = fs::read(&archive).unwrap();
                assert_eq!((packed.read, packed.written), (size as u64, bytes.len() as u64));
                assert_eq!(packed.content, digest(&content), "{format:?} {size}");
                assert_eq!(packed.index.is_some(), format == Format::Bgzf);
                let first = first.get_or_insert_with(|| bytes.clone());
                assert!(*first == bytes, "{format:?} {size}: {workers} workers");
                for (output, how) in [
                    (Some(&back), How::default()),
                    (
                        None,
                        How {
                            proof: true,
                            ..How::default()
                        },
                    ),
                    (
                        Some(&back),
                        How {
                            sparse: true,
                            ..How::default()
                        },
                    ),
                ] {
                    let unpacked = unpack_by(workers, &archive, output.map(|path| &**path), how).unwrap();
                    assert_eq!((unpacked.read, unpacked.written), (packed.written, packed.read));
                    assert_eq!(unpacked.content, packed.content);
                    if output.is_some() {
                        assert!(fs::read(&back).unwrap() == content, "{format:?} {size}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_no_archive_and_what_is_damaged_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("file");
    let cause = |bytes: &[u8], workers| {
        fs::write(&path, bytes).unwrap();
        match unpack_by(workers, &path, None, How::default()) {
            Err(Stopped::Fault(fault)) => fault.cause,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(cause(b"text", 1), Cause::Foreign(None));
    assert_eq!(cause(b"BZh91AY", 1), Cause::Foreign(Some("bzip2")));
    for format in Format::ALL {
        let codec = Codec::new(format, Some(1)).unwrap();
        let source = scratch.path().join("source");
        fs::write(&source, text(3 * codec.block_bytes())).unwrap();
        let archive = scratch.path().join("archive");
        pack_by(2, codec, &source, &archive).unwrap();
        let whole = fs::read(&archive).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        // In the first and in the last of its blocks: what is told is of the first.
        let mut twice = whole.clone();
        twice[100] ^= 1;
        let at = whole.len() - 100;
        twice[at] ^= 1;
        for damaged in [&whole[..whole.len() / 2], &whole[..whole.len() - 1], &flipped, &twice] {
            let Cause::Damaged(damage) = cause(damaged, 1) else {
                panic!("{format:?}")
            };
            assert!(damage.offset <= whole.len() as u64, "{format:?} {damage}");
            // Where one goes on after another, only the order of two may spoil it.
            for _ in 0..if format == Format::Gzip { 20 } else { 2 } {
                assert_eq!(cause(damaged, 3), Cause::Damaged(damage), "{format:?}");
            }
        }
    }
}

#[test]
fn zeros_become_holes_where_that_is_asked_for() {
    use std::os::unix::fs::MetadataExt as _;
    let scratch = tempfile::tempdir().unwrap();
    let [source, archive, back] = ["source", "archive", "back"].map(|name| scratch.path().join(name));
    let content = [vec![1; 5000], vec![0; 3 << 20], vec![2; 10], vec![0; 1 << 20]].concat();
    fs::write(&source, &content).unwrap();
    let codec = Codec::new(Format::Zstd, None).unwrap();
    pack_by(1, codec, &source, &archive).unwrap();
    let how = How {
        sparse: true,
        ..How::default()
    };
    unpack_by(2, &archive, Some(&back), how).unwrap();
    assert!(fs::read(&back).unwrap() == content);
    assert!(fs::metadata(&back).unwrap().blocks() * 512 < 1 << 20);
    let mut read = Vec::new();
    File::open(&back).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), content.len());
}

#[test]
fn who_was_told_to_stop_gives_up() {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    fs::write(&source, text(100)).unwrap();
    let (source, output) = (File::open(&source).unwrap(), tempfile::tempfile().unwrap());
    let codec = Codec::new(Format::Bgzf, None).unwrap();
    let (result, _) = by(2, PLENTY, |lead| {
        lead.desk.cancel.abort();
        pack(lead, source.as_fd(), output.as_fd(), codec, (false, &[]), None)
    });
    assert!(matches!(result, Err(Stopped::Aborted)));
}

/// A FIFO takes what is read from it, and has no place for anything.
#[test]
fn what_is_unpacked_goes_to_whoever_reads() {
    let scratch = tempfile::tempdir().unwrap();
    let [source, archive] = ["source", "archive"].map(|name| scratch.path().join(name));
    let content = text(3 << 20);
    fs::write(&source, &content).unwrap();
    for format in [Format::Bgzf, Format::Gzip] {
        pack_by(1, Codec::new(format, Some(1)).unwrap(), &source, &archive).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
        let stream = Arc::new(Stream::open(path.as_bytes(), sys::Way::Out).unwrap());
        drop(writer);
        let read = std::thread::spawn(move || {
            let (mut reader, mut read) = (reader, Vec::new());
            reader.read_to_end(&mut read).map(|_| read)
        });
        let archive = File::open(&archive).unwrap();
        let target = std::sync::Mutex::new(Some(Target::Stream(stream)));
        let (unpacked, desk) = by(3, PLENTY, |lead| {
            let target = target.lock().unwrap().take().unwrap();
            unpack(lead, archive.as_fd(), target, How::default())
        });
        assert_eq!(unpacked.unwrap().content, digest(&content));
        assert!(read.join().unwrap().unwrap() == content);
        assert_eq!(Totals::of(&desk.counters).copied_bytes, content.len() as u64);
    }
}

/// Members of any length and those of BGZF, one after another, and what fits into no memory.
#[test]
fn archives_of_any_make_are_unpacked_by_any_number() {
    let scratch = tempfile::tempdir().unwrap();
    let [source, archive, back] = ["source", "archive", "back"].map(|name| scratch.path().join(name));
    let content = text(2_500_000);
    fs::write(&source, &content).unwrap();
    let archives = [Format::Gzip, Format::Bgzf].map(|format| {
        pack_by(1, Codec::new(format, Some(1)).unwrap(), &source, &archive).unwrap();
        fs::read(&archive).unwrap()
    });
    let [gzip, bgzf] = &archives;
    for (parts, times) in [
        (vec![gzip, bgzf, gzip], 3),
        (vec![bgzf, gzip, bgzf], 3),
        (vec![gzip], 1),
        (vec![gzip, gzip], 2),
    ] {
        let bytes: Vec<u8> = parts.into_iter().flatten().copied().collect();
        fs::write(&archive, bytes).unwrap();
        for (workers, proof) in [(1, false), (2, true), (5, false)] {
            let unpacked = unpack_by(
                workers,
                &archive,
                Some(&back),
                How {
                    proof,
                    ..How::default()
                },
            )
            .unwrap();
            let whole = content.repeat(times);
            assert_eq!(unpacked.content, digest(&whole));
            assert!(fs::read(&back).unwrap() == whole);
        }
    }
}

#[test]
fn with_little_memory_it_is_done_by_fewer_and_comes_to_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let [source, archive] = ["source", "archive"].map(|name| scratch.path().join(name));
    fs::write(&source, text(5 << 20)).unwrap();
    let codec = Codec::new(Format::Bgzf, Some(1)).unwrap();
    let usual = pack_by(3, codec, &source, &archive).unwrap();
    let (source, output) = (File::open(&source).unwrap(), tempfile::tempfile().unwrap());
    for memory in [1, codec.memory(), 2 * codec.memory()] {
        let (packed, _) = by(3, memory, |lead| {
            pack(lead, source.as_fd(), output.as_fd(), codec, (true, &[]), None)
        });
        assert_eq!(packed.unwrap(), usual);
        let archive = File::open(&archive).unwrap();
        let deed = |lead: Lead<'_>| unpack(lead, archive.as_fd(), Target::Nothing, How::default());
        assert_eq!(by(3, memory, deed).0.unwrap().content, usual.content);
    }
}

#[test]
fn what_cant_be_read_or_written_is_told_with_its_side() {
    let scratch = tempfile::tempdir().unwrap();
    let [source, archive] = ["source", "archive"].map(|name| scratch.path().join(name));
    fs::write(&source, text(5 << 20)).unwrap();
    let codec = Codec::new(Format::Bgzf, Some(1)).unwrap();
    pack_by(2, codec, &source, &archive).unwrap();
    let fault = |result: Result<(), Stopped>| match result {
        Err(Stopped::Fault(fault)) => (fault.operation, fault.side, fault.cause),
        other => panic!("{other:?}"),
    };
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let no_room = (Operation::Write, Side::Destination(0), Cause::Errno(sys::Errno::NOSPC));
    let source = File::open(&source).unwrap();
    let archive = File::open(&archive).unwrap();
    for workers in [1, 5] {
        let packed = by(workers, PLENTY, |lead| {
            pack(lead, source.as_fd(), full().as_fd(), codec, (false, &[]), None).map(|_| ())
        });
        assert_eq!(fault(packed.0), no_room);
        let unpacked = by(workers, PLENTY, |lead| {
            unpack(lead, archive.as_fd(), Target::File(full().into()), How::default()).map(|_| ())
        });
        assert_eq!(fault(unpacked.0), no_room);
        // Nothing is there at its beginning.
        let memory = File::open("/proc/self/mem").unwrap();
        let output = tempfile::tempfile().unwrap();
        let packed = by(workers, PLENTY, |lead| {
            pack(lead, memory.as_fd(), output.as_fd(), codec, (false, &[]), None).map(|_| ())
        });
        assert_eq!(
            fault(packed.0),
            (Operation::Read, Side::Source, Cause::Errno(sys::Errno::IO))
        );
        let proof = How {
            proof: true,
            ..How::default()
        };
        let unpacked = by(workers, PLENTY, |lead| {
            unpack(lead, memory.as_fd(), Target::Nothing, proof).map(|_| ())
        });
        let there = (Operation::Verify, Side::Destination(0), Cause::Errno(sys::Errno::IO));
        assert_eq!(fault(unpacked.0), there);
    }
}
