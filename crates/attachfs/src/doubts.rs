//! What a mount does when the store turns out to have a wrong object, or replaced one: the kernel forgets its bytes, the log
//! names its files, and the session is marked.

use std::error::Error;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use attachfs_fetch::Doubt;
use attachfs_session::Taint;

use crate::served::ServedMount;

/// What was given out reaches the kernel's cache well within this time.
const READ_ARRIVES: Duration = Duration::from_secs(1);

impl ServedMount {
    /// Begins to listen to the read side, in a thread that ends with it.
    pub(crate) fn watch_doubts(self: &Arc<Self>) {
        let (sender, doubts) = channel();
        self.session.vfs().fetcher().on_doubt(move |doubt| {
            // Once the mount has ended there is nothing to be done.
            let _ = sender.send(*doubt);
        });
        let mount = Arc::downgrade(self);
        let thread = std::thread::Builder::new().name("attachfs-doubts".to_owned());
        if let Err(error) = thread.spawn(move || listen(&doubts, &mount)) {
            tracing::error!(%error, "the kernel will not be told of wrong objects");
        }
    }

    fn meet(&self, doubt: &Doubt) {
        let vfs = self.session.vfs();
        vfs.drop_cached(doubt);
        let Some(found) = doubt.found else {
            return;
        };
        let files = vfs.files_of(doubt.hash, doubt.len);
        tracing::error!(object = %doubt.hash, %found, ?files, given = doubt.was_given,
            "files of a wrong object cannot be read any more");
        if !doubt.was_given || self.session.meta.read_only {
            return;
        }
        let taint = Taint {
            object: doubt.hash,
            found,
            files,
        };
        if let Err(error) = self.session.session.session().taint(taint) {
            // A commit by this process knows it from the read side.
            tracing::error!(
                error = &error as &dyn Error,
                "the session cannot be marked: another process would commit it"
            );
        }
    }
}

/// Handles each doubt at once, and has the kernel forget again a moment later: bytes may have been on their way.
fn listen(doubts: &Receiver<Doubt>, mount: &Weak<ServedMount>) {
    while let Ok(doubt) = doubts.recv() {
        match mount.upgrade() {
            Some(mount) => mount.meet(&doubt),
            None => return,
        }
        std::thread::sleep(READ_ARRIVES);
        if let Some(mount) = mount.upgrade() {
            mount.session.vfs().drop_cached(&doubt);
        }
    }
}
