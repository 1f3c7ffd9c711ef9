//! What came of an unmount, for people.

use attachfs::UnmountReport;

use crate::output;
use crate::verbs::report::written;

/// What came of an unmount. `again`: the options of the command that say what is committed, and where it goes.
pub(in super::super) fn unmounted(
    report: &UnmountReport,
    nothing_left: bool,
    again: &str,
) -> String {
    let at = output::shown(&report.mount_point);
    let mut text = String::new();
    if let Some(process) = report.process {
        let waiting = if report.still_waiting {
            "whatever waits for it does so until it ends"
        } else {
            "whatever waited for it got an error"
        };
        text += &format!(
            "detached   the mount of process {process}, which does not answer; {waiting}\n           \
             the process still has the session: nobody can commit it before it ends\n"
        );
    } else if report.detached {
        text += &format!("detached   {at}; it ends when nobody uses it any more\n");
        for user in &report.users {
            text += &format!("           used by {}\n", output::line_of(user));
        }
        let id = report.session.get(..8).unwrap_or(&report.session);
        text += &format!("           attachfs status {id}\n");
        return text;
    } else if report.ended {
        text += &format!("ended      {at}: session {} has ended\n", report.session);
    } else if report.was_dead {
        text += "detached   a mount whose process had died; nothing that had returned success is lost\n";
    } else if report.was_left {
        text += &format!("left       {at}: it was not mounted any more\n");
    } else {
        text += &format!("unmounted  {at}\n");
    }
    for held in &report.held {
        text += &format!("           it was also {held}: it does not answer there any more\n");
    }
    if let Some(commit) = &report.commit {
        text += &output::commit(commit);
    }
    text += &written(&report.reports);
    text += &output::failed_reads(report.reads_failed, report.last_error.as_ref());
    text += &output::not_cached(report.not_cached);
    text += &output::prefetched(report.prefetch);
    if let Some(why) = &report.trace_failure {
        text += &format!("trace      is not written: {}\n", output::line_of(why));
    }
    if let Some(trace) = &report.trace {
        text += &format!("trace      {}\n", output::shown(trace));
    }
    if let Some(log) = &report.log {
        text += &format!("log        {}\n", output::shown(log));
    }
    if !report.kept && !report.still_deleting && !report.ended {
        text += "session    ended: nothing in it is needed any more\n";
    }
    if report.still_deleting && !report.kept {
        text += &format!(
            "session    {} is still being deleted by its process\n",
            report.session
        );
    }
    if report.kept {
        text += &kept(report, nothing_left, again);
    }
    text
}

/// What to do with a session that is kept.
fn kept(report: &UnmountReport, nothing_left: bool, again: &str) -> String {
    let id = &report.session;
    let mut text = format!("session    {id} is kept");
    if report.uncommitted > 0 {
        text += &format!(
            " with {} not committed",
            output::count(report.uncommitted, "changed path")
        );
    }
    if let Some(dir) = &report.set_aside_in {
        text += &format!(
            "\n           {} that no record speaks of in {dir}",
            output::count(report.set_aside, "file")
        );
    }
    if nothing_left {
        text += &format!(
            "; nothing in it is uncommitted\n           attachfs discard {}\n",
            &id[..8]
        );
        return text;
    }
    if report.commit_left_undone {
        text += "\n           nothing was committed: `--commit` is for `attachfs umount`, and not for signals or umount(8)";
    }
    // A commit that was made left what its options said: they would leave it again.
    let commit = match &report.commit {
        Some(commit) => output::how_to_commit(&commit.account).to_owned(),
        None if report.all_outside => format!("commit --everything{again}"),
        None => format!("commit{again}"),
    };
    text += &format!(
        "\n           attachfs {commit} {0}\n           attachfs discard {0}\n",
        &id[..8],
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_still_being_deleted_is_said_to_be_and_not_to_be_kept() {
        let report = |is_kept: bool| -> UnmountReport {
            let report = serde_json::json!({
                "session": "0123456789abcdef", "mount_point": "/m", "kept": is_kept, "was_dead": false,
                "uncommitted": 0, "commit": null, "still_deleting": true,
            });
            serde_json::from_value(report).unwrap()
        };
        let deleting = "session    0123456789abcdef is still being deleted by its process\n";
        let text = unmounted(&report(false), false, "");
        assert_eq!(text, format!("unmounted  /m\n{deleting}"));
        let text = unmounted(&report(true), false, "");
        assert!(
            !text.contains(deleting) && text.contains("is kept"),
            "{text}"
        );
        assert!(text.contains("attachfs commit 01234567"), "{text}");
    }

    #[test]
    fn what_a_commit_left_is_not_left_again_by_the_line_that_goes_on() {
        let report = |commit: serde_json::Value| -> UnmountReport {
            let report = serde_json::json!({
                "session": "0123456789abcdef", "mount_point": "/m", "kept": true, "was_dead": false,
                "uncommitted": 2, "commit": commit,
            });
            serde_json::from_value(report).unwrap()
        };
        let account = attachfs::Account {
            not_chosen: vec!["a.tmp".to_owned(), "b.tmp".to_owned()],
            ..attachfs::Account::default()
        };
        let done = serde_json::json!({
            "session": "0123456789abcdef", "manifest": null, "resumed": null, "account": account,
        });
        let again = " --exclude '*.tmp'";
        let text = unmounted(&report(done), false, again);
        assert!(text.contains("attachfs commit 01234567\n"), "{text}");
        // A commit that was not made is to be the same.
        let text = unmounted(&report(serde_json::Value::Null), false, again);
        let line = "attachfs commit --exclude '*.tmp' 01234567\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_session_in_which_nothing_is_uncommitted_is_not_offered_to_commit() {
        let report = serde_json::json!({
            "session": "0123456789abcdef", "mount_point": "/m\u{1b}[2J", "kept": true, "was_dead": true,
            "uncommitted": 0, "commit": null,
        });
        let report: UnmountReport = serde_json::from_value(report).unwrap();
        let text = unmounted(&report, true, "");
        assert!(text.contains("nothing in it is uncommitted"), "{text}");
        assert!(!text.contains("attachfs commit"), "{text}");
        assert!(text.contains("attachfs discard 01234567"), "{text}");
    }
}
