//! The programs whose formats these are: what is made here they take, what they make is read here.

#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use bulkhaul_formats::codec::{Codec, Format, HEAD_BYTES, Kind, recognise};
use tempfile::TempDir;

use crate::programs::available;
use crate::whole::{How, PROOF, USUAL, noise, pack, packed, text, unpack};

/// Runs a command line in a directory; the words of the line are its arguments.
fn run(directory: &Path, line: &str) -> Output {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir(directory).stdin(Stdio::null());
    command.output().unwrap()
}

/// The same, which has to end well and quietly; answers its output.
fn well(directory: &Path, line: &str) -> Vec<u8> {
    let output = run(directory, line);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && told.is_empty(),
        "{line}: {} {told}",
        output.status
    );
    output.stdout
}

fn contents() -> Vec<Vec<u8>> {
    let mut contents: Vec<Vec<u8>> = [0, 1, 65279, 65280, 65281].map(text).into();
    contents.push(noise(70_000));
    contents.push(vec![0; 300_000]);
    contents.push(text(1_100_000));
    contents
}

/// Reads an archive of ours with all who can, whose lines write its content to their output, and checks it with others.
fn by_others(scratch: &TempDir, codec: Codec, content: &[u8], tests: &[&str], readers: &[&str]) {
    let name = format!("archive{}", codec.format().suffix());
    fs::write(scratch.path().join(&name), pack(codec, content)).unwrap();
    for line in tests {
        well(scratch.path(), &line.replace("FILE", &name));
    }
    for line in readers {
        let read = well(scratch.path(), &line.replace("FILE", &name));
        assert!(
            read == content,
            "{line}: {codec:?} {} and {} bytes",
            read.len(),
            content.len()
        );
    }
}

fn all<'l>(lines: &[&'l str]) -> Vec<&'l str> {
    let program = |line: &&str| available(line.split(' ').next().unwrap_or_default());
    lines.iter().copied().filter(program).collect()
}

#[test]
fn others_read_gzip_of_ours() {
    let scratch = TempDir::new().unwrap();
    let tests = all(&["gzip -t FILE", "pigz -t FILE"]);
    let readers = all(&["gzip -dc FILE", "zcat FILE", "pigz -dc FILE", "python3 read.py FILE"]);
    let python = "import gzip, shutil, sys\nshutil.copyfileobj(gzip.open(sys.argv[1]), sys.stdout.buffer)\n";
    fs::write(scratch.path().join("read.py"), python).unwrap();
    for (format, level) in [
        (Format::Bgzf, 6),
        (Format::Gzip, 6),
        (Format::Gzip, 1),
        (Format::Gzip, 9),
    ] {
        let codec = Codec::new(format, Some(level)).unwrap();
        for content in contents() {
            by_others(&scratch, codec, &content, &tests, &readers);
        }
    }
}

#[test]
fn bgzip_reads_bgzf_of_ours_also_from_the_middle() {
    if !available("bgzip") {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let codec = Codec::new(Format::Bgzf, None).unwrap();
    for content in contents() {
        by_others(&scratch, codec, &content, &["bgzip -t FILE"], &["bgzip -dc FILE"]);
        let (archive, index) = packed(codec, &content);
        let mut own = Vec::new();
        let put = |bytes: &[u8]| {
            own.extend_from_slice(bytes);
            Ok::<(), ()>(())
        };
        index.unwrap().write(put).unwrap();
        fs::write(scratch.path().join("x.gz"), archive).unwrap();
        if content.is_empty() {
            // bgzip counts one member less than none.
            assert_eq!(own, [0; 8]);
            continue;
        }
        well(scratch.path(), "bgzip -r x.gz");
        let theirs = fs::read(scratch.path().join("x.gz.gzi")).unwrap();
        assert!(own == theirs, "{}: {own:?} {theirs:?}", content.len());
        if content.len() > 70_000 {
            let part = well(scratch.path(), "bgzip -b 65270 -s 100 x.gz");
            assert!(part == content[65270..65370]);
        }
    }
}

#[test]
fn others_read_xz_of_ours() {
    if !available("xz") {
        return;
    }
    let scratch = TempDir::new().unwrap();
    for level in [0, 6] {
        let codec = Codec::new(Format::Xz, Some(level)).unwrap();
        for content in contents() {
            by_others(
                &scratch,
                codec,
                &content,
                &["xz -t FILE"],
                &["xz -dc FILE", "xz -dc -T2 FILE"],
            );
        }
        // Each block says how long it is, which a decoder in parallel needs, and is checked by CRC-64.
        let list = well(scratch.path(), "xz --robot --list -vv archive.xz");
        let list = String::from_utf8(list).unwrap();
        let blocks: Vec<_> = list.lines().filter(|line| line.starts_with("block\t")).collect();
        assert_eq!(blocks.len(), 1_100_000_usize.div_ceil(codec.block_bytes()), "{list}");
        assert!(
            blocks
                .iter()
                .all(|block| block.contains("\tCRC64\t") && block.contains("\tcu\t")),
            "{list}"
        );
    }
}

#[test]
fn others_read_zstd_of_ours() {
    let scratch = TempDir::new().unwrap();
    let tests = all(&["zstd -qt FILE", "pzstd -qt FILE"]);
    let readers = all(&["zstd -dqc FILE", "pzstd -dqc FILE"]);
    for level in [1, 3, 19] {
        let codec = Codec::new(Format::Zstd, Some(level)).unwrap();
        for content in contents() {
            by_others(&scratch, codec, &content, &tests, &readers);
        }
    }
    // Of several frames, with the mark before them.
    let codec = Codec::new(Format::Zstd, Some(1)).unwrap();
    let content = vec![b'x'; 2 * codec.block_bytes() + 1];
    by_others(&scratch, codec, &content, &tests, &readers);
}

/// Reads what others made of `content`, in every way.
fn read_of_others(scratch: &TempDir, content: &[u8], lines: &[&str]) {
    fs::write(scratch.path().join("content"), content).unwrap();
    for line in all(lines) {
        let output = run(scratch.path(), line);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {told}");
        read_in_every_way(line, &output.stdout, content);
    }
}

fn read_in_every_way(what: &str, archive: &[u8], content: &[u8]) {
    for how in [
        USUAL,
        PROOF,
        How { most: 0, ..USUAL },
        How { window: 1000, ..USUAL },
        How {
            window: 70_000,
            most: 0,
            proof: true,
        },
    ] {
        let back = unpack(archive, how).unwrap_or_else(|damage| panic!("{what}, {how:?}, {}: {damage}", content.len()));
        assert!(back == content, "{what}");
    }
    assert!(unpack(&archive[..archive.len() - 1], USUAL).is_err(), "{what}");
}

#[test]
fn archives_of_others_are_read() {
    let scratch = TempDir::new().unwrap();
    for content in contents() {
        read_of_others(
            &scratch,
            &content,
            &[
                "gzip -1 -c content",
                "gzip -9 -N -c content",
                "pigz -p2 -c content",
                "pigz -p2 -i -b 128 -c content",
                "bgzip -c content",
                "bgzip -@ 2 -c content",
                "xz -1 -c content",
                "xz -0 -T2 --block-size=100000 -c content",
                "xz -0 -T1 --block-size=100000 -c content",
                "xz -0 --check=crc32 -c content",
                "xz -0 --check=sha256 -T2 -c content",
                "xz -0 --check=none -T2 -c content",
                "xz --delta=dist=4 --x86 --lzma2=preset=0 -T2 -c content",
                "zstd -q -1 -c content",
                "zstd -q -19 -c content",
                "zstd -q -T2 --no-check -c content",
                "zstd -q --no-content-size -c content",
                "zstd -q --long=27 -c content",
                "pzstd -q -p 2 -c content",
            ],
        );
    }
}

#[test]
fn archives_of_several_are_read_as_one() {
    let scratch = TempDir::new().unwrap();
    let content = text(100_000);
    fs::write(scratch.path().join("content"), &content).unwrap();
    let twice = content.repeat(2);
    let joined = |parts: &[&[u8]]| parts.concat();
    if !["gzip", "xz", "zstd"].into_iter().all(available) {
        return;
    }
    let gzip = well(scratch.path(), "gzip -c content");
    read_in_every_way("two of gzip", &joined(&[&gzip, &gzip]), &twice);
    let padded = joined(&[&gzip, &gzip, &[0; 1000]]);
    assert!(unpack(&padded, USUAL).unwrap() == twice);
    let xz = well(scratch.path(), "xz -0 -c content");
    let with_sizes = well(scratch.path(), "xz -0 -T2 -c content");
    read_in_every_way("two of xz", &joined(&[&xz, &[0; 8], &with_sizes]), &twice);
    assert!(unpack(&joined(&[&xz, &with_sizes, &[0; 4]]), USUAL).unwrap() == twice);
    assert!(unpack(&joined(&[&xz, &[0; 6], &xz]), USUAL).is_err());
    let zstd = well(scratch.path(), "zstd -q -c content");
    let skipped = b"\x50\x2a\x4d\x18\x05\0\0\0hello";
    read_in_every_way("two of zstd", &joined(&[skipped, &zstd, skipped, &zstd]), &twice);
    // BGZF behind gzip, and the other way round.
    let bgzf = pack(Codec::new(Format::Bgzf, None).unwrap(), &content);
    read_in_every_way("gzip and BGZF", &joined(&[&gzip, &bgzf]), &twice);
    read_in_every_way("BGZF and gzip", &joined(&[&bgzf, &gzip]), &twice);
}

#[test]
fn archives_that_are_not_read_are_known_by_name() {
    let scratch = TempDir::new().unwrap();
    fs::write(scratch.path().join("content"), text(100_000)).unwrap();
    for (line, name) in [
        ("bzip2 -c content", "bzip2"),
        ("compress -c content", "compress (.Z)"),
        ("lz4 -q -c content", "lz4"),
        ("zip -q - content", "zip"),
        ("xz --format=lzma -0 -c content", "lzma"),
    ] {
        if available(line.split(' ').next().unwrap()) {
            let archive = run(scratch.path(), line).stdout;
            assert_eq!(recognise(&archive[..HEAD_BYTES]), Some(Kind::Foreign(name)), "{line}");
        }
    }
}
