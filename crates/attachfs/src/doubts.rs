//! What a mount does when the store turns out to have a wrong object, or replaced one: the kernel forgets its bytes, the log
//! names its files, and a session to which something can be written is marked.

use std::error::Error;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use attachfs_fetch::{Doubt, Fetcher};
use attachfs_session::Taint;

use crate::served::ServedMount;

/// What was given out reaches the kernel's cache well within this time.
const READ_ARRIVES: Duration = Duration::from_secs(1);

/// A mount that this process serves, as far as it reads objects.
pub(crate) trait Doubted: Send + Sync + 'static {
    /// Its read side.
    fn fetcher(&self) -> &Fetcher;

    /// Has the kernel drop what it has cached of the files that a doubted object is part of.
    fn drop_cached(&self, doubt: &Doubt);

    /// Names files that a doubted object is part of, ten at most.
    fn files_of(&self, doubt: &Doubt) -> Vec<String>;

    /// Notes durably that programs were given bytes of a wrong object, of these files.
    fn taint(&self, taint: Taint);
}

/// Begins to listen to the read side of a mount, in a thread that ends with it.
pub(crate) fn watch_doubts(mount: &Arc<impl Doubted>) {
    let (sender, doubts) = channel();
    mount.fetcher().on_doubt(move |doubt| {
        // Once the mount has ended there is nothing to be done.
        let _ = sender.send(*doubt);
    });
    let mount = Arc::downgrade(mount);
    let thread = std::thread::Builder::new().name("attachfs-doubts".to_owned());
    if let Err(error) = thread.spawn(move || listen(&doubts, &mount)) {
        tracing::error!(%error, "the kernel will not be told of wrong objects");
    }
}

fn meet(mount: &impl Doubted, doubt: &Doubt) {
    mount.drop_cached(doubt);
    let Some(found) = doubt.found else {
        return;
    };
    let files = mount.files_of(doubt);
    tracing::error!(object = %doubt.hash, %found, ?files, given = doubt.was_given,
        "files of a wrong object cannot be read any more");
    if doubt.was_given {
        mount.taint(Taint {
            object: doubt.hash,
            found,
            files,
        });
    }
}

/// Handles each doubt at once, and has the kernel forget again a moment later: bytes may have been on their way.
fn listen(doubts: &Receiver<Doubt>, mount: &Weak<impl Doubted>) {
    while let Ok(doubt) = doubts.recv() {
        match mount.upgrade() {
            Some(mount) => meet(&*mount, &doubt),
            None => return,
        }
        std::thread::sleep(READ_ARRIVES);
        if let Some(mount) = mount.upgrade() {
            mount.drop_cached(&doubt);
        }
    }
}

impl Doubted for ServedMount {
    fn fetcher(&self) -> &Fetcher {
        self.session.vfs().fetcher()
    }

    fn drop_cached(&self, doubt: &Doubt) {
        self.session.vfs().drop_cached(doubt);
    }

    fn files_of(&self, doubt: &Doubt) -> Vec<String> {
        self.session.vfs().files_of(doubt.hash, doubt.len)
    }

    fn taint(&self, taint: Taint) {
        if self.session.meta.read_only {
            return;
        }
        if let Err(error) = self.session.session.session().taint(taint) {
            // A commit by this process knows it from the read side.
            tracing::error!(
                error = &error as &dyn Error,
                "the session cannot be marked: another process would commit it"
            );
        }
    }
}
