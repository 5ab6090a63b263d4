//! Exclude rules against the programs whose rules they are: random rules on one tree, with rsync and with Python's fnmatch.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod oracle;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhaul_formats::{Filter, Style};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

const NAMES: [&str; 14] = [
    "a", "b", "ab", "a.c", "[a]", "a\\b", "-", "A", "é", "1", "*", "!", "a]", "b c",
];

/// Makes directories with the first few names, down to three levels, and a file under every other name; collects all
/// paths, those of directories with a slash after them.
fn make(directory: &Path, relative: &str, depth: usize, paths: &mut Vec<String>) {
    for (index, name) in NAMES.iter().enumerate() {
        let path = directory.join(name);
        if depth > 0 && index % 3 != 1 && (depth == 3 || index < 9) {
            fs::create_dir(&path).unwrap();
            paths.push(format!("{relative}{name}/"));
            make(
                &path,
                &format!("{relative}{name}/"),
                depth - 1 - index % 2 * (depth - 1),
                paths,
            );
        } else {
            fs::write(&path, b"").unwrap();
            paths.push(format!("{relative}{name}"));
        }
    }
}

/// What is left of the paths, parents first, when nothing below an excluded directory is looked at.
fn kept(filter: &Filter, paths: &[String]) -> BTreeSet<String> {
    let mut kept = BTreeSet::new();
    for path in paths {
        let bare = path.strip_suffix('/').unwrap_or(path);
        let (parent, name) = bare.rsplit_once('/').unwrap_or(("", bare));
        let reached = parent.is_empty() || kept.contains(&format!("{parent}/"));
        if reached && !filter.excludes(parent.as_bytes(), name.as_bytes(), path.ends_with('/')) {
            kept.insert(path.clone());
        }
    }
    kept
}

fn rsync_rule() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => r"[ab1]",
        2 => r"/",
        2 => r"\*{1,3}",
        1 => r"\?",
        1 => r"\\[ab*\[\]?\\]?",
        2 => r"\[[!^]?[\]ab-]{0,3}[a-]?\]",
        1 => r"\[\[:(alpha|digit|upper|punct|space|alnum|lower|x)?:?\]a?\]",
        1 => r"[-A.c!é\[\] ]",
    ];
    let body = prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat());
    let prefix = prop_oneof![6 => Just(""), 1 => Just("- "), 2 => Just("+ "), 1 => Just("/")];
    let suffix = prop_oneof![6 => Just(""), 1 => Just("/"), 1 => Just("/***"), 1 => Just("/**")];
    prop_oneof![
        30 => (prefix, body, suffix).prop_map(|(prefix, body, suffix)| format!("{prefix}{body}{suffix}")),
        1 => Just("!".to_string()),
        1 => "[-+] ?",
        1 => Just(String::new()),
    ]
}

#[test]
fn rules_as_rsync() {
    if !oracle::available("rsync") {
        return;
    }
    let rig = tempfile::tempdir().unwrap();
    let source = rig.path().join("source");
    fs::create_dir(&source).unwrap();
    let mut paths = Vec::new();
    make(&source, "", 3, &mut paths);
    let rules = prop::collection::vec(rsync_rule(), 1..4);
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&rules, |rules| {
            let output = Command::new("rsync")
                .args(["-rn8", "--out-format=%n"])
                .args(rules.iter().map(|rule| format!("--exclude={rule}")))
                .args([source.join(""), rig.path().join("absent")])
                .output()
                .unwrap();
            let bytes: Vec<_> = rules.iter().map(|rule| rule.as_bytes().to_vec()).collect();
            match Filter::parse(Style::Rsync, &bytes) {
                Err(error) => prop_assert!(!output.status.success(), "{:?}: {}", rules, error),
                Ok(filter) => {
                    prop_assert!(output.status.success(), "{:?}: {:?}", rules, output);
                    let listed = String::from_utf8(output.stdout).unwrap();
                    let theirs: BTreeSet<String> =
                        listed.lines().filter(|line| *line != "./").map(Into::into).collect();
                    let ours = kept(&filter, &paths);
                    let only_ours: Vec<_> = ours.difference(&theirs).take(5).collect();
                    let only_theirs: Vec<_> = theirs.difference(&ours).take(5).collect();
                    prop_assert_eq!(
                        &ours,
                        &theirs,
                        "{:?}: only we keep {:?}, only rsync {:?}",
                        rules,
                        only_ours,
                        only_theirs
                    );
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn patterns_as_python() {
    if !oracle::available("python3") {
        return;
    }
    let pattern = r"(\*/|/)([ab/é.^\\\[\]!-]|[*?]|\[[!^]?[\]abé-]{0,5}\]|\[[a-c]-[a-c](-[b])?\]){0,6}";
    let pattern = prop::string::bytes_regex(pattern).unwrap();
    let path = prop::string::bytes_regex(r"(?-u)(/([ab.^\\\]!-]|\xc3\xa9|\xc3|\xff){1,2}){1,3}").unwrap();
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::default()
    });
    let mut cases = Vec::new();
    for _ in 0..20_000 {
        let case = (
            pattern.new_tree(&mut runner).unwrap().current(),
            path.new_tree(&mut runner).unwrap().current(),
        );
        cases.push(case);
    }
    let script = "import fnmatch, os, sys
for line in sys.stdin.buffer.read().split(b'\\n')[:-1]:
    pattern, path = (os.fsdecode(part) for part in line.split(b'\\0'))
    print(int(fnmatch.fnmatch(path, pattern)))";
    let mut child = Command::new("python3")
        .args(["-X", "utf8", "-W", "ignore", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for (pattern, path) in &cases {
        input.write_all(&[pattern, &b"\0"[..], path, b"\n"].concat()).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let verdicts: Vec<_> = output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(verdicts.len(), cases.len());
    let mut matched = 0;
    for ((pattern, path), verdict) in cases.into_iter().zip(verdicts) {
        let filter = Filter::parse(Style::Fnmatch, std::slice::from_ref(&pattern)).unwrap();
        let at = path.iter().rposition(|&byte| byte == b'/').unwrap();
        let ours = filter.excludes(&path[..at], &path[at + 1..], false);
        assert_eq!(
            ours,
            verdict == b"1",
            "{:?} on {:?}",
            OsStr::from_bytes(&pattern),
            OsStr::from_bytes(&path)
        );
        matched += usize::from(ours);
    }
    assert!(
        matched > 500,
        "too few of the random patterns match to mean anything: {matched}"
    );
}

/// What the random patterns found once: a range that runs backwards goes before the negation is looked for.
#[test]
fn a_backwards_range_before_a_negation() {
    for (pattern, path, excluded) in [
        ("/[]-\\!a]", "b", true),
        ("/[]-\\!a]", "a", false),
        ("/[]-\\a]", "a", true),
    ] {
        let filter = Filter::parse(Style::Fnmatch, &[pattern.as_bytes().to_vec()]).unwrap();
        assert_eq!(
            filter.excludes(b"", path.as_bytes(), false),
            excluded,
            "{pattern} on {path}"
        );
    }
}
