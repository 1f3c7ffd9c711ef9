//! The plan, for anything that is wanted and anything that is there.

use std::collections::BTreeSet;

use attachfs_durable::FileStamp;
use proptest::prelude::*;

use super::*;
use crate::download::conflict::{Occupant, Resolution, resolve};
use crate::download::plan::{PathState, Plan, SurveyedChange, plan};

fn stamp(size: u64, microseconds: i64) -> FileStamp {
    FileStamp {
        dev: 1,
        ino: 1,
        size,
        mtime_ns: i128::from(microseconds) * 1000,
        ctime_ns: 0,
    }
}

fn a_file(size: u64) -> Node {
    Node::File(File {
        size,
        mtime: Mtime(TIME),
        runnable: false,
        content: Content::Whole(ContentHash::of(&size.to_le_bytes())),
    })
}

fn any_found() -> impl Strategy<Value = PathState> {
    prop_oneof![
        Just(PathState::Nothing),
        Just(PathState::Dir(stamp(0, 0))),
        (0_u64..3, -2_i64..3).prop_map(|(size, by)| PathState::File(stamp(size, TIME + by), 1)),
        Just(PathState::Link(
            Some(LinkTarget::Below(path("a"))),
            stamp(0, 0),
            1
        )),
        Just(PathState::Link(None, stamp(0, 0), 1)),
        Just(PathState::Other),
        Just(PathState::InNoDirectory),
        Just(PathState::BehindLink),
        Just(PathState::Unreachable("no".to_owned())),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Put(Node::Dir)),
        (0_u64..3).prop_map(|size| Change::Put(a_file(size))),
        Just(Change::Put(link("a"))),
        Just(Change::DeleteFile),
        Just(Change::DeleteDir),
    ]
}

/// Paths of a few names, each once, in order.
fn any_entries() -> impl Strategy<Value = Vec<SurveyedChange>> {
    let one = ("[ab]{1}(/[ab]){0,2}", any_change(), any_found());
    prop::collection::vec(one, 0..12).prop_map(|all| {
        let mut entries: Vec<SurveyedChange> = all
            .into_iter()
            .map(|(text, change, found)| SurveyedChange {
                path: path(&text),
                change,
                found,
            })
            .collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|next, before| next.path == before.path);
        for (ino, entry) in (0..).zip(&mut entries) {
            if let PathState::Dir(stamp)
            | PathState::File(stamp, _)
            | PathState::Link(_, stamp, _) = &mut entry.found
            {
                stamp.ino = ino;
            }
        }
        entries
    })
}

fn all_deletions(plan: &Plan) -> impl Iterator<Item = &Deletion> {
    let swapped = plan.swaps.values().flat_map(|swap| &swap.deletions);
    swapped.chain(&plan.deletions)
}

proptest! {
    #[test]
    fn every_entry_is_in_the_plan_once_or_there_already(entries in any_entries(), deletes: bool) {
        let made = plan(entries.clone(), deletes);
        let mut planned: Vec<&ManifestPath> = Vec::new();
        planned.extend(all_deletions(&made).map(|one| &one.path));
        planned.extend(made.all_dirs());
        planned.extend(made.files.iter().map(|step| &step.path));
        planned.extend(made.all_links().map(|step| &step.path));
        planned.extend(made.not_deleted.iter().map(|(path, _)| path));
        planned.extend(made.failed.iter().map(|(path, ..)| path));
        planned.extend(made.left.iter().map(|(path, _)| path));
        let set: BTreeSet<_> = planned.iter().collect();
        prop_assert_eq!(set.len(), planned.len());
        for entry in &entries {
            let is_there = match (&entry.change, &entry.found) {
                (Change::Put(Node::Dir), PathState::Dir(_)) => true,
                (Change::Put(Node::Symlink(target)), PathState::Link(leads, ..)) => {
                    leads.as_ref() == Some(target)
                }
                (Change::DeleteDir | Change::DeleteFile, found) => {
                    let is_link = |above: &SurveyedChange| {
                        matches!((&above.change, &above.found),
                            (Change::Put(Node::Symlink(_)), PathState::Link(..)))
                            && entry.path.is_below(&above.path)
                    };
                    !deletes
                        || matches!(found, PathState::Nothing | PathState::InNoDirectory)
                        || *found == PathState::BehindLink && entries.iter().any(is_link)
                }
                _ => false,
            };
            prop_assert_eq!(set.contains(&&entry.path), !is_there, "{:?}", entry);
        }
    }

    #[test]
    fn parents_are_made_first_and_deleted_last(entries in any_entries()) {
        let made = plan(entries, true);
        for (at, dir) in made.dirs.iter().enumerate() {
            prop_assert!(made.dirs[at..].iter().all(|later| !dir.is_below(later)));
        }
        let swapped = made.swaps.values().map(|swap| &swap.deletions);
        for deletions in swapped.chain([&made.deletions]) {
            for (at, one) in deletions.iter().enumerate() {
                let later = &deletions[at..];
                prop_assert!(later.iter().all(|later| !later.path.is_below(&one.path)));
            }
        }
    }

    #[test]
    fn nothing_is_deleted_but_what_the_diff_deletes_and_finds(entries in any_entries(), deletes: bool) {
        let made = plan(entries.clone(), deletes);
        for one in all_deletions(&made) {
            prop_assert!(deletes);
            let entry = entries.iter().find(|entry| entry.path == one.path).unwrap();
            let fits = match (&entry.change, &entry.found) {
                (Change::DeleteDir, PathState::Dir(_)) => one.is_dir,
                (Change::DeleteFile, PathState::File(..) | PathState::Link(..)) => !one.is_dir,
                _ => false,
            };
            prop_assert!(fits, "{:?}", entry);
        }
    }

    #[test]
    fn a_file_may_be_the_same_only_if_its_length_says_so(size in 0_u64..3, found in any_found()) {
        let entry = SurveyedChange {
            path: path("f"),
            change: Change::Put(a_file(size)),
            found: found.clone(),
        };
        let made = plan(vec![entry], true);
        let alike = matches!(made.files.first().map(|step| step.place), Some(Place::Alike(_)));
        let expected = matches!(found, PathState::File(stamp, _) if stamp.size == size);
        prop_assert_eq!(alike, expected);
    }
}

#[test]
fn only_files_and_links_are_ever_replaced() {
    for occupant in [
        Occupant::Dir,
        Occupant::File,
        Occupant::Link,
        Occupant::Other,
    ] {
        for conflict in [Conflict::CreateCopy, Conflict::Skip, Conflict::Overwrite] {
            let replaces = resolve(conflict, occupant) == Resolution::Replace;
            let may = matches!(occupant, Occupant::File | Occupant::Link)
                && conflict == Conflict::Overwrite;
            assert_eq!(replaces, may);
        }
    }
}

#[test]
fn room_is_needed_for_what_is_to_be_fetched_in_whole_blocks() {
    let entry = |name: &str, size, found| SurveyedChange {
        path: path(name),
        change: Change::Put(a_file(size)),
        found,
    };
    let made = plan(
        vec![
            entry("a", 1, PathState::Nothing),
            entry("b", 4097, PathState::Nothing),
            entry("c", 9, PathState::File(stamp(9, TIME), 1)),
            entry("d", 5, PathState::File(stamp(9, TIME), 1)),
        ],
        true,
    );
    assert_eq!(made.bytes_to_write(Conflict::Skip, 4096), 3 * 4096);
    assert_eq!(made.bytes_to_write(Conflict::Overwrite, 4096), 4 * 4096);
}

#[test]
fn what_the_manifest_has_under_another_name_is_not_deleted() {
    // One inode: as a file system shows it for which the two names are one, and of hard links.
    for (names, deleted) in [(1, 0), (2, 1)] {
        let entry = |name: &str, change| SurveyedChange {
            path: path(name),
            change,
            found: PathState::File(stamp(9, TIME), names),
        };
        let put = Change::Put(a_file(9));
        let entries = [entry("A.txt", Change::DeleteFile), entry("a.txt", put)];
        let made = plan(entries.into(), true);
        assert_eq!(
            (made.deletions.len(), made.left.len()),
            (deleted, 1 - deleted)
        );
    }
}

#[test]
fn a_file_whose_place_is_kept_for_another_name_still_has_its_turn() {
    let entry = |name: &str, change| SurveyedChange {
        path: path(name),
        change,
        found: PathState::Dir(stamp(0, 0)),
    };
    let made = plan(
        vec![
            entry("Textures", Change::DeleteDir),
            entry("Textures", Change::Put(a_file(9))),
            entry("textures", Change::Put(Node::Dir)),
        ],
        true,
    );
    assert_eq!(made.left.len(), 1);
    let swap = made.swaps.get(&path("Textures")).unwrap();
    assert_eq!(swap.deletions, []);
    assert_eq!(made.files[0].swap, Some(path("Textures")));
}
