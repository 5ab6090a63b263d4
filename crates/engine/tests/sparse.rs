//! Holes, and sizes around every boundary.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use bulkhaul_engine::bytes::transfer::Sparse;
use bulkhaul_engine::copy::options::CopyOptions;
use bulkhaul_engine::entry::Outcome;
use bulkhaul_sys::failpoint::{self, Call};

use crate::rig::fault::{again, finish, order, say};
use crate::rig::{Scratch, Tree, compare, content, contents, copy, options};

const MIB: u64 = 1 << 20;

/// Space that a file takes.
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// Makes a file of holes with data at some places: (offset, length). Dense zeros are data.
fn file(path: &Path, size: u64, data: &[(u64, usize)], zeros: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, length) in data {
        file.write_all_at(&content(3, *length), *offset).unwrap();
    }
    for (offset, length) in zeros {
        file.write_all_at(&vec![0; *length], *offset).unwrap();
    }
    file.sync_all().unwrap();
}

fn holes_on(kind: &str) {
    type Places = &'static [(u64, usize)];
    let scratch = Scratch::new();
    let Some(base) = scratch.file_system(kind, "rw") else {
        return;
    };
    // Name, size, data, dense zeros; space by what is data, and by what is not zero.
    let cases: [(&str, u64, Places, Places, u64, u64); 9] = [
        ("hole at the start", 4 * MIB, &[(3 * MIB, 1 << 20)], &[], MIB, MIB),
        (
            "hole in the middle",
            4 * MIB,
            &[(0, 1 << 20), (3 * MIB, 1 << 20)],
            &[],
            2 * MIB,
            2 * MIB,
        ),
        ("hole at the end", 4 * MIB, &[(0, 1 << 20)], &[], MIB, MIB),
        (
            "holes everywhere",
            8 * MIB,
            &[(MIB, 1 << 16), (5 * MIB, 1 << 16)],
            &[],
            1 << 17,
            1 << 17,
        ),
        ("nothing but a hole", 4 * MIB, &[], &[], 0, 0),
        (
            "an odd end in a hole",
            4 * MIB + 5,
            &[(0, 1 << 16)],
            &[],
            1 << 16,
            1 << 16,
        ),
        ("zeros and no hole", 2 * MIB, &[], &[(0, 1 << 21)], 2 * MIB, 0),
        (
            "zeros between data",
            3 * MIB,
            &[(0, 1 << 20), (2 * MIB, 1 << 20)],
            &[(MIB, 1 << 20)],
            3 * MIB,
            2 * MIB,
        ),
        (
            "a small file with a hole and zeros",
            128 << 10,
            &[(0, 4096)],
            &[(64 << 10, 4096)],
            8192,
            4096,
        ),
    ];
    // On the same file system, where blocks may be shared, and from and to another.
    let (here, other) = (Tree::new(base.join("source")), scratch.tree("other/source"));
    for (name, size, data, zeros, ..) in &cases {
        file(&here.at(name), *size, data, zeros);
        file(&other.at(name), *size, data, zeros);
    }
    for (source, to) in [
        (&here, base.join("to")),
        (&here, scratch.at("other/to")),
        (&other, base.join("to")),
    ] {
        for sparse in [Sparse::Auto, Sparse::Always, Sparse::Never] {
            copy(&[contents(source.path())], &to, |o| o.sparse = sparse).complete();
            compare(source.path(), &to);
            for (name, size, _, _, data, not_zero) in &cases {
                let space = allocated(&to.join(name));
                // File systems allocate in larger pieces, and count their own blocks.
                let slack = 96 << 10;
                let expected = match sparse {
                    Sparse::Auto => *data,
                    Sparse::Always => *not_zero,
                    Sparse::Never => *size,
                };
                let what = format!("{}, {sparse:?}, {name}: {space} for {expected}", to.display());
                assert!(space <= expected + slack && space + 4096 >= expected, "{what}");
            }
            fs::remove_dir_all(&to).unwrap();
        }
    }
}

#[test]
fn holes_on_tmpfs() {
    holes_on("tmpfs");
}

#[test]
fn holes_on_ext4() {
    holes_on("ext4");
}

#[test]
fn holes_on_xfs() {
    holes_on("xfs");
}

#[test]
fn holes_on_btrfs() {
    holes_on("btrfs");
}

#[test]
fn sizes_around_boundaries() {
    let mut sizes = vec![0, 1];
    for edge in [4096, 64 << 10, 256 << 10, 1 << 20] {
        sizes.extend([edge - 1, edge, edge + 1]);
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    for size in &sizes {
        source.file(format!("data-{size}"), content(9, *size));
        source.file(format!("zeros-{size}"), vec![0; *size]);
        // Ends in zeros that are no whole block.
        let mut tail = content(9, *size);
        let cut = size - size.min(&5000);
        tail[cut..].fill(0);
        source.file(format!("tail-{size}"), tail);
    }
    let bytes = 3 * sizes.iter().sum::<usize>() as u64;
    for sparse in [Sparse::Auto, Sparse::Always, Sparse::Never] {
        let to = scratch.at(&format!("{sparse:?}"));
        let copied = copy(&[contents(source.path())], &to, |o| o.sparse = sparse).complete();
        let totals = copied.report.totals;
        assert_eq!(
            (totals.copied_bytes, totals.found_bytes, totals.done_bytes),
            (bytes, bytes, bytes)
        );
        assert_eq!(totals.outcome_of(Outcome::Copied), 3 * sizes.len() as u64);
        compare(source.path(), &to);
    }
}

/// Files of /proc say that they are empty, and are not.
#[test]
fn files_that_lie_about_their_size() {
    let scratch = Scratch::new();
    let copied = copy(&[crate::rig::named("/proc/version")], scratch.at("to"), |_| {}).complete();
    assert_eq!(
        fs::read(scratch.at("to/version")).unwrap(),
        fs::read("/proc/version").unwrap()
    );
    assert_eq!(copied.counts(), "copied 1");
}

/// A hole costs nothing, however long it is: what is looked for is the next data.
#[test]
fn holes_without_end() {
    const TEST: &str = "sparse::holes_without_end";
    const SIZE: u64 = 1 << 50;
    const DATA: [u64; 3] = [3 * MIB, SIZE / 2 + 1, SIZE - 5000];
    if let Some(words) = order() {
        let options = CopyOptions {
            jobs: 4,
            sparse: if words[2] == "auto" {
                Sparse::Auto
            } else {
                Sparse::Always
            },
            ..options(&[contents(&words[0])], &words[1])
        };
        failpoint::arm(None);
        let report = bulkhaul_engine::copy::job(options).unwrap().run().unwrap();
        let calls = failpoint::disarm();
        assert!(report.is_complete(), "{report:?}");
        let asked = calls.iter().filter(|call| **call == Call::SeekData).count();
        return say(&format!("asked {asked} times"));
    }
    let scratch = Scratch::new();
    let source = scratch.tree("source");
    let block = content(8, 4096);
    for name in ["nothing", "something"] {
        let file = File::create(source.at(name)).unwrap();
        if let Err(error) = file.set_len(SIZE) {
            println!("skip: no file is so long here: {error}");
            return;
        }
        for at in DATA.into_iter().filter(|_| name == "something") {
            file.write_all_at(&block, at).unwrap();
        }
    }
    for sparse in ["auto", "always"] {
        let (to, log) = (scratch.tree("to"), scratch.at("log"));
        let paths = [source.path(), to.path()].map(|p| p.display().to_string());
        let words = [&paths[..], &[sparse.to_owned()]].concat();
        let (code, text) = finish(again(TEST, &words, &log), &log);
        let asked = text.split("asked ").nth(1).and_then(|rest| rest.split(' ').next());
        let asked: usize = asked.and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
        // A few for each stretch of data, and for each worker.
        assert!(code == Some(0) && asked < 100, "{sparse}: {text}");
        for name in ["nothing", "something"] {
            let copy = File::open(to.at(name)).unwrap();
            assert_eq!(copy.metadata().unwrap().len(), SIZE);
            assert!(allocated(&to.at(name)) < MIB);
            for at in DATA.into_iter().filter(|_| name == "something") {
                let mut read = vec![0; block.len()];
                copy.read_exact_at(&mut read, at).unwrap();
                assert!(read == block, "{sparse}: {at}");
            }
        }
        fs::remove_dir_all(to.path()).unwrap();
    }
}
