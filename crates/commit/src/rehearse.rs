//! A commit up to the first thing that it would send: what it would publish, and whether it would stop instead.

use std::time::Duration;

use attachfs_manifest::wire::Manifest;

use crate::error::CommitError;
use crate::generations::{Before, NodeChange, diff_of};
use crate::handed::of_files;
use crate::hash::{Hashed, Purpose};
use crate::history::numbers;
use crate::node::Changes;
use crate::open::OpenSession;
use crate::preview::Preview;
use crate::publish::{diff_manifest, earlier_manifests};
use crate::readback::read_back;
use crate::run::{preview_on, waiting};
use crate::states::{Commit, CommitOptions, HandedFormat, Links, Observer, Terms, unless_stopped};
use crate::tainted::{refuse_cut, refuse_tainted};
use crate::unfinished::Unfinished;

/// What a commit with the same options would do now.
#[derive(Debug)]
pub struct Rehearsal {
    /// What it would publish. If it would stop: the changes without those that stop it.
    pub preview: Preview,
    /// Why it would stop before it sends anything.
    pub stop: Option<CommitError>,
    /// Whether it would first finish a commit that was interrupted.
    pub resumes: bool,
}

/// Does what [`commit`](crate::commit) does with these options, but sends nothing and writes nothing to the session's disk. Only what
/// the store would say is not told.
pub async fn rehearse(
    session: &OpenSession,
    options: &CommitOptions,
    observer: &dyn Observer,
) -> Result<Rehearsal, CommitError> {
    let _turn = unless_stopped(observer, session.vfs().commit_turn()).await??;
    let resumes = Unfinished::find(session.vfs()).is_some();
    let terms = Terms::new(options);
    let hashed = waiting(session, &terms, Purpose::Preview, observer).await;
    let (preview, stop) = match hashed {
        Ok(hashed) => {
            let stop = hashed.stop().err();
            (hashed.preview()?, stop)
        }
        Err(error) => (
            preview_on(session, &beside(options), observer).await?,
            Some(error),
        ),
    };
    match stop {
        Some(error) if !is_refusal(&error) => Err(error),
        stop => Ok(Rehearsal {
            preview,
            stop,
            resumes,
        }),
    }
}

/// The options that leave out what stops a commit.
fn beside(options: &CommitOptions) -> CommitOptions {
    CommitOptions {
        wait: Duration::ZERO,
        skip_open: true,
        skip_long: true,
        links: Links::Skip,
        expect_parent: None,
        ..options.clone()
    }
}

/// Whether the commit stops because of what it is to publish, and not because something failed.
fn is_refusal(error: &CommitError) -> bool {
    matches!(
        error,
        CommitError::Busy(_)
            | CommitError::LeftOpen(_)
            | CommitError::Cut
            | CommitError::Tainted(_)
            | CommitError::OutgoingLinks(_)
            | CommitError::UnheldLinks(_)
            | CommitError::Collapse { .. }
            | CommitError::TooLong(_)
            | CommitError::TooLarge { .. }
            | CommitError::Parent { .. }
            | CommitError::Files(_)
            | CommitError::NoFiles
            | CommitError::Diff(_)
            | CommitError::Unreadable(_)
            | CommitError::Differs(_)
    )
}

impl Commit<Hashed> {
    /// Fails if nothing is sent of it, or nothing published.
    fn stop(&self) -> Result<(), CommitError> {
        let (open, options) = (&self.session, &self.terms.options);
        let tree = self.frozen.namespace().base();
        let before = Before::load(open.session(), &numbers(&open.vfs().commits()), tree)?;
        let total: Changes = before.keep(tree, self.state.changes.clone(), &self.state.left);
        let node_changes: Vec<NodeChange> = before.node_changes(tree, &total);
        refuse_tainted(open, options, &node_changes)?;
        refuse_cut(open, options)?;
        if node_changes.is_empty() {
            return Ok(());
        }
        if options.format == HandedFormat::Files {
            of_files(&Manifest::Diff(diff_of(tree, &node_changes, None)?))?;
        }
        let bytes = diff_manifest(open, tree, &before, &node_changes)?;
        read_back(tree, &earlier_manifests(open, &before)?, &bytes, &total)
    }
}
