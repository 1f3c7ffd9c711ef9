//! A session's directory: made once, used by one process, deleted only if every file in it is the session's own.

#[cfg(unix)]
use std::ffi::OsString;
use std::fs;
use std::num::NonZeroU64;
#[cfg(unix)]
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use attachfs_manifest::{ContentHash, ManifestPath};
use attachfs_store::{Encryption, S3Access};
use attachfs_tree::{LayerOptions, Timestamp};
use tempfile::tempdir;

use super::*;

const MANIFEST: &[u8] = b"a manifest";

pub(super) fn meta() -> SessionMeta {
    let hash = ContentHash::of(MANIFEST);
    SessionMeta {
        format: SessionMeta::FORMAT,
        id: SessionId::from_random([7; 16]),
        program: "test".to_owned(),
        created: Timestamp::default(),
        mount_point: "/mnt".into(),
        owner: 0,
        manifests: vec![BaseManifest {
            source: "base".to_owned(),
            hash,
            at: None,
        }],
        parent: hash,
        layers: LayerOptions::default(),
        store: StoreSettings::default(),
        scratch_dir: None,
        max_scratch: None,
        output_dirs: Vec::new(),
        commit_on_unmount: false,
        read_only: false,
        case_insensitive: false,
        protect_inputs: false,
        browses: None,
    }
}

pub(super) fn create(dir: &Path) -> Session {
    Session::create(dir, meta(), &[MANIFEST.to_vec()]).unwrap()
}

#[test]
fn a_session_is_found_again_as_it_was_made() {
    let dir = tempdir().unwrap();
    let mut meta = meta();
    meta.manifests.push(BaseManifest {
        source: "s3://bucket/x".to_owned(),
        hash: ContentHash::of(b"second"),
        at: Some(ManifestPath::new("sub/\u{e9}".as_bytes()).unwrap()),
    });
    meta.store = StoreSettings {
        address: "s3://bucket/prefix".to_owned(),
        s3: S3Access {
            region: Some("eu-west-1".to_owned()),
            max_bandwidth: NonZeroU64::new(1_000_000),
            expected_bucket_owner: Some("111122223333".parse().unwrap()),
            encryption: Some(Encryption::Kms {
                key: Some("alias/key".parse().unwrap()),
            }),
            ..S3Access::default()
        },
    };
    let manifests = [MANIFEST.to_vec(), b"second".to_vec()];
    drop(Session::create(dir.path(), meta.clone(), &manifests).unwrap());
    let session = Session::open(dir.path()).unwrap();
    assert_eq!(*session.meta(), meta);
    assert_eq!(session.manifests().unwrap(), manifests);
    assert_eq!(Session::read_meta(dir.path()).unwrap(), meta);
}

#[test]
fn the_settings_of_an_older_session_are_read() {
    let old = r#"{"address":"s3://b/p","endpoint_url":"http://h","region":null,"profile":"p"}"#;
    let settings: StoreSettings = serde_json::from_str(old).unwrap();
    let expected = StoreSettings {
        address: "s3://b/p".to_owned(),
        s3: S3Access {
            endpoint_url: Some("http://h".to_owned()),
            profile: Some("p".to_owned()),
            ..S3Access::default()
        },
    };
    assert_eq!(settings, expected);
}

#[test]
fn a_session_is_not_made_over_another_one() {
    let dir = tempdir().unwrap();
    drop(create(dir.path()));
    match Session::create(dir.path(), meta(), &[MANIFEST.to_vec()]) {
        Err(SessionError::Exists(named)) => assert_eq!(named, dir.path()),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        Session::open(dir.path()).unwrap().manifests().unwrap(),
        [MANIFEST]
    );
}

#[cfg(unix)]
#[test]
fn a_session_is_made_only_in_an_empty_directory() {
    let dir = tempdir().unwrap();
    for name in ["journal", "lock", "notes.txt", "scratch/work"] {
        let place = dir.path().join("place");
        let precious = place.join(name);
        fs::create_dir_all(precious.parent().unwrap()).unwrap();
        fs::write(&precious, "precious").unwrap();
        match Session::create(&place, meta(), &[MANIFEST.to_vec()]) {
            Err(SessionError::NotEmpty { dir, names }) => {
                assert_eq!(dir, place);
                assert_eq!(names, [name.split('/').next().unwrap()]);
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(fs::read(&precious).unwrap(), b"precious");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
        assert_eq!(mode(&place), 0o755);
        fs::remove_dir_all(&place).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_directory_that_was_there_stays_when_its_session_is_discarded() {
    let dir = tempdir().unwrap();
    for there in [Some(0o755), Some(0o775), None] {
        let place = dir.path().join("place");
        if let Some(mode) = there {
            fs::create_dir(&place).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        }
        let session = create(&place);
        assert_eq!(mode(&place), 0o700);
        drop(session);
        Session::open(&place).unwrap().discard().unwrap();
        match there {
            Some(before) => {
                assert_eq!(mode(&place), before);
                fs::remove_dir(&place).unwrap();
            }
            None => assert!(!place.exists()),
        }
    }
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Windows removes a directory with an open file in it, Wine does not"
)]
fn a_session_that_cannot_be_made_whole_leaves_nothing() {
    let dir = tempdir().unwrap();
    let (place, elsewhere) = (dir.path().join("place"), dir.path().join("file"));
    fs::write(&elsewhere, "precious").unwrap();
    let mut meta = meta();
    meta.scratch_dir = Some(elsewhere.clone());
    Session::create(&place, meta, &[MANIFEST.to_vec()]).unwrap_err();
    assert!(!place.exists());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
fn distrusted<T: std::fmt::Debug>(result: Result<T, SessionError>) -> String {
    match result {
        Err(SessionError::Durable(error)) if error.doing == "trust" || error.doing == "open" => {
            error.source.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(unix)]
#[test]
fn a_session_that_somebody_else_may_have_prepared_is_not_opened() {
    let dir = tempdir().unwrap();
    let place = dir.path().join("place");
    drop(create(&place));
    let link = dir.path().join("link");
    symlink(&place, &link).unwrap();
    Session::open(&link).unwrap_err();
    Session::open(&link.join("")).unwrap_err();

    for (mode, part) in [
        (0o770, ""),
        (0o1777, ""),
        (0o666, "session.json"),
        (0o622, "lock"),
    ] {
        let part = place.join(part);
        let before = fs::metadata(&part).unwrap().permissions();
        fs::set_permissions(&part, fs::Permissions::from_mode(mode)).unwrap();
        let reason = distrusted(Session::open(&place));
        assert!(reason.contains("other users may write to it"), "{reason}");
        fs::set_permissions(&part, before).unwrap();
    }
    Session::open(&place).unwrap();
    for part in ["", "session.json", "lock"] {
        // Only root can give a file away.
        if std::os::unix::fs::chown(place.join(part), Some(65534), None).is_err() {
            return;
        }
        let reason = distrusted(Session::open(&place));
        assert!(reason.contains("it belongs to user 65534"), "{reason}");
        std::os::unix::fs::chown(place.join(part), Some(0), None).unwrap();
    }
    Session::open(&place).unwrap();
}

#[cfg(unix)]
#[test]
fn a_fifo_in_a_sessions_directory_keeps_nobody_waiting() {
    let dir = tempdir().unwrap();
    for name in ["session.json", "lock", "base/0"] {
        let place = dir.path().join("place");
        drop(create(&place));
        let at = place.join(name);
        fs::remove_file(&at).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &at, fifo, 0o600.into(), 0).unwrap();
        let opened = Session::open(&place).and_then(|session| session.manifests());
        assert_eq!(distrusted(opened), "it is no regular file", "{name}");
        fs::remove_dir_all(&place).unwrap();
    }
}

#[test]
fn no_session_an_unreadable_one_and_one_of_another_time_are_different_errors() {
    let dir = tempdir().unwrap();
    match Session::open(dir.path()) {
        Err(SessionError::Missing(named)) => assert_eq!(named, dir.path()),
        other => panic!("{other:?}"),
    }
    assert!(!dir.path().join("lock").exists(), "asking leaves no trace");
    drop(create(dir.path()));
    let description = dir.path().join("session.json");
    let sound = fs::read_to_string(&description).unwrap();

    fs::write(&description, r#"{"format": 5, "all": "different"}"#).unwrap();
    match Session::open(dir.path()) {
        Err(SessionError::Format { path, found: 5, .. }) => assert_eq!(path, dir.path()),
        other => panic!("{other:?}"),
    }
    for damaged in [&sound[..sound.len() / 2], "", "[]", r#"{"format": 4}"#] {
        fs::write(&description, damaged).unwrap();
        match Session::open(dir.path()) {
            Err(SessionError::Description { path, .. }) => assert_eq!(path, description),
            other => panic!("{damaged}: {other:?}"),
        }
    }
    let hash = meta().parent.to_string();
    fs::write(&description, sound.replace(&hash, "../../../etc")).unwrap();
    assert!(matches!(
        Session::open(dir.path()),
        Err(SessionError::Description { .. })
    ));
    fs::write(&description, sound).unwrap();
    Session::open(dir.path()).unwrap();
}

#[test]
fn a_session_that_shows_manifests_is_described_as_before() {
    let dir = tempdir().unwrap();
    drop(create(dir.path()));
    let description = dir.path().join("session.json");
    let text = fs::read_to_string(&description).unwrap();
    // A description of before there were sessions that show jobs has no such field, and a program of that time writes and reads the same.
    assert!(!text.contains("browses"), "{text}");
    assert_eq!(Session::read_meta(dir.path()).unwrap().browses, None);
    assert!(dir.path().join("commits").exists());
    let other = tempdir().unwrap();
    let jobs = SessionMeta {
        manifests: Vec::new(),
        read_only: true,
        browses: Some("deadline://farm".to_owned()),
        ..meta()
    };
    let session = Session::create(other.path(), jobs.clone(), &[]).unwrap();
    assert_eq!(Session::read_meta(other.path()).unwrap(), jobs);
    for part in ["commits", "layers", "journal", "scratch"] {
        assert!(!other.path().join(part).exists(), "{part}");
    }
    session.discard().unwrap();
    let gone = Session::read_meta(other.path());
    assert!(matches!(gone, Err(SessionError::Missing(_))), "{gone:?}");
}

#[test]
fn a_damaged_manifest_is_named_with_both_hashes() {
    let dir = tempdir().unwrap();
    drop(create(dir.path()));
    let base = dir.path().join("base").join("0");
    fs::write(&base, "damaged").unwrap();
    match Session::open(dir.path()).unwrap().manifests() {
        Err(SessionError::DamagedBase {
            path,
            expected,
            found,
        }) => {
            assert_eq!(path, base);
            assert_eq!(expected, meta().parent);
            assert_eq!(found, ContentHash::of(b"damaged"));
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(&base).unwrap();
    let error = Session::open(dir.path()).unwrap().manifests().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot open {}", base.display()));
}

#[test]
fn a_session_whose_files_have_other_numbers_is_refused_with_the_program_that_made_it() {
    let dir = tempdir().unwrap();
    drop(create(dir.path()));
    fs::write(dir.path().join("journal"), "precious").unwrap();
    let description = dir.path().join("session.json");
    let text = fs::read_to_string(&description).unwrap();
    let mut meta: serde_json::Value = serde_json::from_str(&text).unwrap();
    let parts = meta.as_object_mut().unwrap();
    parts.insert("format".to_owned(), 1.into());
    parts.insert("program".to_owned(), "0.0.9".into());
    parts.remove("layers").unwrap();
    fs::write(&description, serde_json::to_vec(&meta).unwrap()).unwrap();
    let journal = fs::read(dir.path().join("journal")).unwrap();
    let error = Session::open(dir.path()).unwrap_err();
    assert!(matches!(error, SessionError::Format { found: 1, .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "the session {} has format 1, this program reads 4: commit or discard it with the \
             attachfs 0.0.9 that made it",
            dir.path().display()
        )
    );
    assert_eq!(fs::read(dir.path().join("journal")).unwrap(), journal);
}

#[cfg(unix)]
fn names(dir: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn a_session_that_holds_something_unknown_is_not_discarded_and_says_what_it_is() {
    let dir = tempdir().unwrap();
    let elsewhere = dir.path().join("fast");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("4000000000000000"), "precious").unwrap();
    for (name, is_link) in [
        ("notes.txt", false),
        ("log.old", false),
        ("log", true),
        ("journal", true),
        ("base/0.bak", false),
        ("base/1", true),
        ("commits/1.manifest.orig", false),
        ("commits/work", true),
        ("mnt/frame", false),
        ("scratch", true),
        ("../fast/07070707070707070707070707070707/notes", false),
    ] {
        let place = dir.path().join("session");
        let mut meta = meta();
        meta.scratch_dir = name.starts_with("..").then(|| elsewhere.clone());
        let session = Session::create(&place, meta, &[MANIFEST.to_vec()]).unwrap();
        let at = place.join(name);
        if is_link {
            if fs::symlink_metadata(&at).is_ok() {
                fs::remove_dir(&at).unwrap();
            }
            symlink(&outside, &at).unwrap();
        } else {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(&at, "precious").unwrap();
        }
        let before = names(&place);
        let error = session.discard().unwrap_err();
        if name != "mnt/frame" {
            assert!(
                matches!(error, SessionError::Foreign { .. }),
                "{name}: {error}"
            );
            let shown = at.file_name().unwrap().to_str().unwrap();
            assert!(error.to_string().contains(shown), "{name}: {error}");
        }
        assert_eq!(names(&place), before, "{name}");
        assert_eq!(names(&outside), ["4000000000000000"], "{name}");
        // Once it is out of the way, the same goes on.
        fs::remove_file(&at).unwrap();
        session.discard().unwrap();
        assert!(!place.exists(), "{name}");
    }
}

#[test]
#[cfg_attr(
    windows,
    ignore = "Windows removes a directory with an open file in it, Wine does not"
)]
fn a_session_whose_deletion_was_interrupted_says_so_and_can_only_be_discarded() {
    let temp = tempdir().unwrap();
    let dir = temp.path().join("session");
    let session = create(&dir);
    assert!(!Session::is_ending(&dir).unwrap());
    // As far as a deletion came.
    session.dir.publish(ENDING, b"").unwrap();
    fs::remove_dir_all(dir.join(BASE)).unwrap();
    drop(session);
    assert!(Session::is_ending(&dir).unwrap());
    match Session::open(&dir) {
        Err(SessionError::Ending(named)) => assert_eq!(named, dir),
        other => panic!("{other:?}"),
    }
    Session::open_to_discard(&dir).unwrap().discard().unwrap();
    assert!(!dir.exists());
}

#[test]
fn a_session_id_is_32_digits_and_nothing_else() {
    let id = SessionId::from_random([0xab; 16]);
    assert_eq!(id.as_str().parse(), Ok(id.clone()));
    for text in [
        "",
        "ab",
        "../../../../../../../../etc/pass",
        &"g".repeat(32),
    ] {
        text.parse::<SessionId>().unwrap_err();
    }
}
