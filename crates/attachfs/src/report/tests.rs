//! Reports without a mount: their text, their files, their sums.

use std::fs;
use std::path::Path;
use std::time::Duration;

use attachfs_manifest::EscapedBytes;

use super::content::{FORMAT, LONGEST_LIST, MOST_LISTED, bounded};
use super::{
    Files, InputSums, MissingFile, MissingSums, Prices, ReadFile, Saved, Timeline, Transfer,
    UnreadFile, UseReport, check_place_of_report, file, report_page,
};
use crate::stats::{ByteStats, ProcessStats, RequestStats};

/// A report with a name in each place where one can be.
fn report(name: &str) -> UseReport {
    let path = EscapedBytes(name.as_bytes()).to_string();
    UseReport {
        attachfs_report: FORMAT,
        session: name.to_owned(),
        mount_point: format!("/mnt/{name}").into(),
        store: name.to_owned(),
        manifests: vec![crate::sources::ShownManifest {
            number: 1,
            source: name.to_owned(),
            hash: "00".repeat(16),
            at: Some(path.clone()),
            added: false,
        }],
        made: 0,
        mounted_ms: 90_000,
        ended: true,
        inputs: InputSums {
            shown: Files {
                files: 2,
                bytes: 3000,
            },
            used_files: 1,
            never_read: Files {
                files: 1,
                bytes: 1000,
            },
            ..InputSums::default()
        },
        read: vec![ReadFile {
            path: path.clone(),
            size: 2000,
            opens: 1,
            bytes_asked: 1000,
            bytes_read: 1000,
            ranges: vec![(500, 1500)],
            ranges_exact: true,
            bytes_unverified: 0,
            first_ms: 7,
        }],
        never_read: vec![UnreadFile {
            path: path.clone(),
            size: 1000,
        }],
        missing: MissingSums {
            names: 1,
            other_lookups: 0,
            listed: vec![MissingFile {
                path: path.clone(),
                lookups: 3,
                first_ms: 8,
                process: Some(ProcessStats {
                    pid: 1,
                    name: name.to_owned(),
                }),
            }],
        },
        timeline: Timeline::of(&[Duration::from_secs(1)], Duration::from_secs(90)),
        bytes: ByteStats::default(),
        requests: RequestStats::default(),
        reads_failed: 0,
        full_download: Transfer {
            requests: 2,
            bytes: 3000,
        },
        fetched: Transfer {
            requests: 5,
            bytes: 1000,
        },
        saved: Saved {
            requests: -3,
            bytes: 2000,
        },
        money: None,
    }
}

#[test]
fn no_name_is_markup_in_a_page() {
    let page = report_page(&report("<i a='b' c=\"d\">&"));
    assert!(!page.contains("<i"), "{page}");
    let shown = page.matches("&lt;i a=&#39;b&#39; c=&quot;d&quot;&gt;&amp;");
    assert_eq!(shown.count(), 10, "{page}");
    let page = report_page(&report("a\n\u{202e}b"));
    assert!(!page.contains('\u{202e}'), "{page}");
}

#[test]
fn a_file_is_known_as_a_report_by_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.json", "a.html", "b.HTM"] {
        let path = dir.path().join(name);
        for _ in 0..2 {
            check_place_of_report(&path).unwrap();
            file::write(&path, &report("name")).unwrap();
        }
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, [b" ", &bytes[..]].concat()).unwrap();
        let refused = check_place_of_report(&path).unwrap_err();
        assert!(refused.to_string().contains("no report"), "{refused}");
        file::write(&path, &report("name")).unwrap_err();
    }
    let json = fs::read(dir.path().join("a.json")).unwrap();
    let read: UseReport = serde_json::from_slice(&json[1..]).unwrap();
    assert_eq!(read, report("name"));
    check_place_of_report(Path::new("report")).unwrap_err();
    check_place_of_report(dir.path()).unwrap_err();
}

#[test]
fn money_is_what_requests_and_bytes_cost() {
    let mut report = report("name");
    report.price(Prices::default());
    assert_eq!(report.money, None);
    report.price(Prices {
        per_1000_gets: Some(10.0),
        per_gb: None,
    });
    let money = report.money.unwrap();
    let told = [money.spent, money.full_download, money.saved];
    let near = told.iter().zip([0.05, 0.02, -0.03]);
    assert!(
        near.into_iter()
            .all(|(one, other)| (one - other).abs() < 1e-12),
        "{money:?}"
    );
    assert!(report_page(&report).contains("a full download costs 0.0200"));
}

#[test]
fn more_than_a_full_download_is_less_than_nothing_saved() {
    let (small, large) = (
        Transfer {
            requests: 0,
            bytes: 1,
        },
        Transfer {
            requests: u64::MAX,
            bytes: 3,
        },
    );
    let saved = |requests, bytes| Saved { requests, bytes };
    assert_eq!(small.less(large), saved(i64::MIN, -2));
    assert_eq!(large.less(small), saved(i64::MAX, 2));
    assert_eq!(small.less(small), saved(0, 0));
}

#[test]
fn each_first_use_has_its_place_in_the_time_of_the_mount() {
    let seconds = [0, 1, 59, 60, 61].map(Duration::from_secs);
    let timeline = Timeline::of(&seconds, Duration::from_mins(1));
    assert_eq!((timeline.step_ms, timeline.first_uses.len()), (1000, 60));
    assert_eq!(timeline.first_uses[..2], [1, 1]);
    assert_eq!(timeline.first_uses[59], 3);
    assert_eq!(Timeline::of(&[], Duration::ZERO).step_ms, 1);
}

#[test]
fn lists_are_bounded_in_entries_and_in_bytes() {
    let long = "p".repeat(4095);
    let list = bounded((0..10_000).map(|_| long.clone()), |path| path);
    assert_eq!(list.len(), LONGEST_LIST / 4095);
    let list = bounded((0..10_000).map(|_| String::new()), |path| path);
    assert_eq!(list.len(), MOST_LISTED);
}
