//! What a commit did or would do, for people.

use attachfs::{Account, CommitReport, DiffReport, PublishedManifest, RehearsalReport};
use indicatif::HumanCount;

use super::amounts::{bytes, count, uploaded};
use super::published;

fn changes(account: &Account) -> String {
    format!(
        "{} added, {} changed, {} deleted",
        HumanCount(account.added),
        HumanCount(account.changed),
        HumanCount(account.deleted)
    )
}

fn left(account: &Account, session: &str) -> String {
    let mut text = String::new();
    let lists = [
        (&account.open, "open for writing"),
        (&account.special, "no manifest can hold, FIFOs or sockets"),
        (&account.links, "links that lead out of the mount"),
        (
            &account.too_long,
            "longer than the 4,095 bytes that a manifest can hold",
        ),
        (&account.left_out, "outside of the output directories"),
        (&account.not_chosen, "that the patterns do not choose"),
    ];
    for (paths, why) in lists {
        if !paths.is_empty() {
            let counted = count(paths.len() as u64, "path");
            text += &format!("left out   {counted} {why}: {}\n", first_of(paths));
        }
    }
    if !account.left_out.is_empty() {
        let id = session.get(..8).unwrap_or(session);
        text += &format!(
            "           `attachfs commit --everything {id}` publishes what is outside, too\n"
        );
    }
    text
}

/// The first names of a list.
fn first_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    shown.join(", ") + more
}

/// What may not be as it was meant: files without bytes, and output directories that are not there.
fn doubts(account: &Account) -> String {
    let mut text = String::new();
    if !account.empty.is_empty() {
        let counted = count(account.empty.len() as u64, "file");
        text += &format!(
            "empty      {counted} without bytes: {}\n",
            first_of(&account.empty)
        );
    }
    if !account.accepted.is_empty() {
        let counted = count(account.accepted.len() as u64, "file");
        let names = first_of(&account.accepted);
        text += &format!("accepted   {counted}, perhaps half written: {names}\n");
    }
    if !account.collapsed.is_empty() {
        let counted = count(account.collapsed.len() as u64, "link");
        let names = first_of(&account.collapsed);
        text += &format!("replaced   {counted} by what they show: {names}\n");
    }
    if !account.dropped.is_empty() {
        let counted = count(account.dropped.len() as u64, "path");
        let names = first_of(&account.dropped);
        text += &format!(
            "dropped    {counted}, deletions and empty directories that 2023-03-03 cannot say: {names}\n"
        );
    }
    if !account.missing_dirs.is_empty() {
        let counted = count(account.missing_dirs.len() as u64, "output directory");
        let names = first_of(&account.missing_dirs);
        text += &format!("missing    {counted}: {names}\n");
    }
    text
}

/// The verb that commits what a commit left: what lies outside of the output directories is left again
/// without `--everything`.
pub(crate) fn how_to_commit(left: &Account) -> &'static str {
    if left.left_out.is_empty() {
        "commit"
    } else {
        "commit --everything"
    }
}

pub(crate) fn commit(report: &CommitReport) -> String {
    let account = &report.account;
    let mut text = String::new();
    if let Some(resumed) = &report.resumed {
        text += &format!(
            "resumed    {} is now published: {}\n",
            resumed.hash, resumed.address
        );
    }
    text += &match &report.manifest {
        Some(manifest) if !report.unchanged => {
            format!(
                "outputs    {}, {}\n{}",
                changes(account),
                bytes(account.bytes),
                uploaded(account),
            ) + &diff(manifest)
        }
        manifest => {
            let manifest = manifest.as_ref();
            let last = manifest.map_or_else(String::new, diff);
            format!("outputs    {}\n{last}", nothing(report))
        }
    };
    text + &published(report.published.as_deref())
        + &left(account, &report.session)
        + &doubts(account)
}

/// Why a commit published nothing.
fn nothing(report: &CommitReport) -> String {
    let since = report.manifest.as_ref().map(|manifest| manifest.generation);
    if report.nothing_to_resume {
        let last = since.map_or_else(String::new, |since| {
            format!("; commit {since} is the last, and whole")
        });
        return format!("no commit to resume{last}");
    }
    let account = &report.account;
    if account.is_partial() {
        return none_taken(account);
    }
    match since {
        Some(since) => format!("nothing changed since commit {since}"),
        None => "nothing changed; no manifest was written".to_owned(),
    }
}

/// That there are changes, and none of them is taken.
fn none_taken(account: &Account) -> String {
    let left = account.left();
    let (paths, are) = (
        count(left as u64, "changed path"),
        if left == 1 { "is" } else { "are" },
    );
    if left == account.not_chosen.len() {
        format!("no change matches the patterns; {paths} {are} left")
    } else {
        format!("nothing is committed; {paths} {are} left")
    }
}

/// The changes, a line each, and their counts.
pub(crate) fn shown_changes(report: &DiffReport) -> String {
    changes_after(report, "would commit")
}

fn changes_after(report: &DiffReport, would: &str) -> String {
    let mut text = String::new();
    for line in &report.changes {
        let mark = match line.change.as_str() {
            "added" => '+',
            "deleted" => '-',
            _ => '~',
        };
        let size = line
            .size
            .map(|size| format!("  ({})", bytes(size)))
            .unwrap_or_default();
        let maybe = if line.maybe_same {
            "  written to; maybe the same bytes"
        } else {
            ""
        };
        let slash = if line.kind == "dir" { "/" } else { "" };
        text += &format!("{mark} {}{slash}{size}{maybe}\n", line.path);
    }
    let account = &report.account;
    let would = if report.changes.is_empty() && account.is_partial() {
        format!("{would} nothing: {}", none_taken(account))
    } else if report.changes.is_empty() {
        format!("{would} nothing: nothing changed")
    } else {
        let paths = count(report.changes.len() as u64, "changed path");
        format!(
            "{would} {paths}: {}, {}",
            changes(account),
            bytes(account.bytes)
        )
    };
    text + &would + "\n" + &left(account, &report.session) + &doubts(account)
}

/// What a commit would do.
pub(crate) fn rehearsal(report: &RehearsalReport) -> String {
    let mut text = String::new();
    if report.would_resume {
        text += "would first finish a commit that was interrupted\n";
    }
    let would = match report.would_stop {
        Some(_) => "would stop; without what stops it, it would commit",
        None => "would commit",
    };
    text + &changes_after(&report.diff, would)
}

fn diff(manifest: &PublishedManifest) -> String {
    format!(
        "diff       {}\n           {}\n",
        manifest.hash, manifest.address
    )
}
