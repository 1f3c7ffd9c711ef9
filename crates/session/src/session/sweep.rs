//! Removes the unfinished files of a killed process when the next process takes the session over.
//!
//! ```text
//!     .staged-...                in any directory of the session: a file that never got its name
//!     commits/work/<inode>       what a commit was putting together
//!     layers/<hash>.manifest     a manifest that was to be added, and that no stack names
//! ```
//!
//! Only files of these names go, and nothing that is no file. The session's lock is held, so nobody is filling one of them; a
//! client that is just handing in a manifest finds it gone and is told so.
//!
//! A damaged journal that was set aside may name manifests, too: as long as it is there, none of them goes.

use std::collections::HashSet;
use std::io;

use attachfs_durable::steps::Step;
use attachfs_durable::{Kind, OwnDir};
use attachfs_manifest::ContentHash;
use attachfs_tree::Ino;

use super::layout::{
    BASE, COMMITS, LAYERS, WORK, hash_of_stacked, is_journal_aside, layer_of, stacked_manifest_name,
};
use super::{Session, SessionError};

impl Session {
    /// Removes what an earlier process left half done. `layers` is how many layers the journal has.
    pub fn sweep(&self, layers: u32) -> Result<(), SessionError> {
        // A client that hands in a manifest makes none: the session may be going away just then.
        self.dir.make_dir(LAYERS)?;
        self.dir.sweep()?;
        for name in [BASE, COMMITS, LAYERS] {
            if let Some(dir) = there(&self.dir, name)? {
                dir.sweep()?;
            }
        }
        if let Some(commits) = there(&self.dir, COMMITS)?
            && let Some(work) = there(&commits, WORK)?
        {
            remove_files(&work, |name| Ino::from_digits(name).is_some())?;
        }
        self.remove_unnamed(layers)
    }

    /// Removes the manifests that were to be added and are in no stack up to this layer. Nobody may be adding one.
    pub fn remove_unnamed(&self, layers: u32) -> Result<(), SessionError> {
        let Some(dir) = there(&self.dir, LAYERS)? else {
            return Ok(());
        };
        if self.has_set_aside_journal()? {
            return Ok(());
        }
        let mut named: HashSet<ContentHash> = HashSet::new();
        for layer in 1..=layers {
            let stack = self.stack(layer)?;
            named.extend(stack.manifests.iter().map(|one| one.manifest.hash));
        }
        remove_files(&dir, |name| {
            hash_of_stacked(name).is_some_and(|hash| {
                // A hash can be written in two ways; a file has one.
                name == stacked_manifest_name(hash) && !named.contains(&hash)
            })
        })
    }
}

impl Session {
    /// Whether a damaged journal was set aside.
    pub fn has_set_aside_journal(&self) -> Result<bool, SessionError> {
        let Some(scratch) = self.scratch_dir()? else {
            return Ok(false);
        };
        let Some(aside) = there(&scratch, OwnDir::ASIDE)? else {
            return Ok(false);
        };
        let names = aside.names()?;
        Ok(names
            .iter()
            .filter_map(|name| name.to_str())
            .any(is_journal_aside))
    }

    /// Moves the files of layers aside that the journal does not have, durably: one that is added later gets the number of one that a
    /// damaged journal named. `layers` is how many layers the journal has. Returns how many files were moved.
    pub fn set_layers_aside(&self, layers: u32) -> Result<usize, SessionError> {
        let Some(dir) = there(&self.dir, LAYERS)? else {
            return Ok(0);
        };
        let names = dir.names()?;
        let names = names.iter().filter_map(|name| name.to_str());
        let lost: Vec<&str> = names
            .filter(|name| layer_of(name).is_some_and(|layer| layer > layers))
            .collect();
        if lost.is_empty() {
            return Ok(0);
        }
        let aside = dir.make_dir(OwnDir::ASIDE)?;
        for name in &lost {
            let to = aside.free_name(name)?;
            dir.rename_into(name, &aside, &to, Step::AsideRename)?;
        }
        aside.sync(Step::AsideName)?;
        dir.sync(Step::AsideGone)?;
        Ok(lost.len())
    }
}

/// A directory in another one; `None` if it was not made.
fn there(dir: &OwnDir, name: &str) -> Result<Option<OwnDir>, SessionError> {
    match dir.dir(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        dir => Ok(Some(dir?)),
    }
}

/// Removes the files with such names.
fn remove_files(dir: &OwnDir, is_one: impl Fn(&str) -> bool) -> Result<(), SessionError> {
    for name in dir.names()? {
        if let Some(text) = name.to_str().filter(|name| is_one(name))
            && dir.kind(&name)? == Some(Kind::File)
        {
            dir.remove_file(text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::tests::create;
    use super::super::{BaseManifest, Stack};
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn added(source: &str) -> BaseManifest {
        BaseManifest {
            source: source.to_owned(),
            hash: ContentHash::of(source.as_bytes()),
            at: None,
        }
    }

    #[test]
    fn what_a_killed_process_left_half_done_goes_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let session = create(temp.path());
        let staged = ".staged-0123456789ab";
        for dir in ["", "base", "commits"] {
            fs::write(temp.path().join(dir).join(staged), "half").unwrap();
        }
        let work = temp.path().join("commits/work");
        fs::create_dir(&work).unwrap();
        fs::write(work.join("4000000000000001"), "half").unwrap();
        // What others may have put there.
        let others = ["commits/.staged-mine", "commits/work/notes"];
        for other in others {
            fs::write(temp.path().join(other), "precious").unwrap();
        }
        fs::create_dir(temp.path().join("commits/.staged-aDirectory00")).unwrap();
        let published = temp.path().join("commits/1.manifest");
        fs::write(&published, "published").unwrap();

        session.sweep(0).unwrap();
        assert_eq!(
            names(&temp.path().join("commits")),
            [".staged-aDirectory00", ".staged-mine", "1.manifest", "work"]
        );
        assert_eq!(names(&work), ["notes"]);
        assert_eq!(names(&temp.path().join("base")), ["0"]);
        assert!(!temp.path().join(staged).exists());
    }

    #[test]
    fn a_manifest_that_a_stack_names_stays_and_one_that_none_names_goes() {
        let temp = tempfile::tempdir().unwrap();
        let session = create(temp.path());
        for source in ["replaced", "shown", "refused"] {
            let bytes = source.as_bytes();
            let staged = Session::hand_in(temp.path(), bytes).unwrap();
            session.keep_added(&staged, ContentHash::of(bytes)).unwrap();
        }
        let handed = Session::hand_in(temp.path(), b"being handed in").unwrap();
        let first = Stack::first(&[]).with(&[added("replaced")], None, 1);
        session.keep_stack(1, &first).unwrap();
        session
            .keep_stack(2, &first.with(&[added("shown")], Some(0), 2))
            .unwrap();
        // The journal does not have this one.
        session
            .keep_stack(3, &first.with(&[added("refused")], None, 3))
            .unwrap();

        let layers = temp.path().join("layers");
        let file = |source: &str| format!("{}.manifest", ContentHash::of(source.as_bytes()));
        session.remove_unnamed(2).unwrap();
        let mut left = vec![handed, "1.json".into(), "2.json".into(), "3.json".into()];
        left.extend([file("replaced"), file("shown")]);
        left.sort();
        assert_eq!(names(&layers), left);
        // A stack that cannot be read may name any of them.
        fs::write(layers.join("2.json"), "{").unwrap();
        assert!(session.remove_unnamed(2).is_err());
        assert_eq!(names(&layers), left);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_of_a_layer_goes_that_a_set_aside_journal_may_name() {
        let temp = tempfile::tempdir().unwrap();
        let session = create(temp.path());
        let layers = temp.path().join("layers");
        let keep = |source: &str, layer: u32| {
            let staged = Session::hand_in(temp.path(), source.as_bytes()).unwrap();
            let added = added(source);
            session.keep_added(&staged, added.hash).unwrap();
            let stack = Stack::first(&[]).with(&[added], None, layer);
            session.keep_stack(layer, &stack).unwrap();
            fs::write(layers.join(layer.to_string()), source).unwrap();
        };
        keep("first", 1);
        keep("second", 2);
        let aside = session.scratch_dir().unwrap().unwrap();
        let aside = aside.make_dir(OwnDir::ASIDE).unwrap();
        aside.publish("journal", b"damaged").unwrap();
        let before = names(&layers);
        session.sweep(1).unwrap();
        assert_eq!(names(&layers), before);

        assert_eq!(session.set_layers_aside(1).unwrap(), 2);
        assert_eq!(session.set_layers_aside(1).unwrap(), 0);
        keep("third", 2);
        assert_eq!(session.set_layers_aside(1).unwrap(), 2);
        let expected = ["2", "2.1", "2.json", "2.json.1"];
        assert_eq!(names(&layers.join("aside")), expected);
        for (name, source) in [("2", "second"), ("2.1", "third")] {
            let kept = fs::read_to_string(layers.join("aside").join(name)).unwrap();
            assert_eq!(kept, source);
        }
        session.discard().unwrap();
        assert!(!temp.path().exists() || names(temp.path()).is_empty());
    }

    #[test]
    fn bytes_that_are_not_what_was_said_are_not_kept() {
        let temp = tempfile::tempdir().unwrap();
        let session = create(temp.path());
        let staged = Session::hand_in(temp.path(), b"other bytes").unwrap();
        let hash = ContentHash::of(b"a manifest");
        assert!(session.keep_added(&staged, hash).is_err());
        for name in ["../journal", "1.json", ".staged-short"] {
            assert!(session.keep_added(name, hash).is_err(), "{name}");
        }
        assert_eq!(names(&temp.path().join("layers")), [staged]);
    }
}
