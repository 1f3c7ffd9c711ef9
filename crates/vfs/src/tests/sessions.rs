//! A session's directory: made once, used by one process, deleted only with what is its own.

use std::fs;
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt as _;

use attachfs_manifest::ContentHash;
use attachfs_store::{Encryption, S3Access};

use crate::testing::{Given, World, bytes, path, tempdir};
use crate::{BaseManifest, Session, SessionError, SessionId, StoreSettings, Vfs};

fn world() -> World {
    World::new(&[("a", Given::File(bytes(10)))])
}

#[test]
fn a_session_is_found_again_as_it_was_made() {
    let (world, dir) = (world(), tempdir());
    let mut meta = world.meta();
    meta.manifests.push(BaseManifest {
        source: "s3://bucket/x".to_owned(),
        hash: ContentHash::of(b"second"),
        at: Some(path("sub/\u{e9}")),
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
    let manifests = [world.manifest(), b"second".to_vec()];
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
fn what_a_session_holds_is_for_its_owner_only() {
    let (world, dir) = (world(), tempdir());
    let place = dir.path().join("new/session");
    let kernel = world.create(&place);
    kernel.put("f", b"secret");
    let ino = kernel.stat("f").unwrap().ino;
    let mode = |part: &str| fs::metadata(place.join(part)).unwrap().permissions().mode() & 0o777;
    for part in ["", "base", "commits", "scratch"] {
        assert_eq!(mode(part), 0o700, "{part}");
    }
    let scratch = format!("scratch/{:016x}", ino.raw());
    for part in [
        "session.json",
        "base/0",
        "journal",
        "reserve",
        "lock",
        &scratch,
    ] {
        assert_eq!(mode(part), 0o600, "{part}");
    }
}

#[test]
fn a_session_has_one_process_at_a_time() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    assert!(Session::is_in_use(dir.path()).unwrap());
    match Session::open(dir.path()) {
        Err(SessionError::InUse(named)) => assert_eq!(named, dir.path()),
        other => panic!("{other:?}"),
    }
    assert_eq!(Session::read_meta(dir.path()).unwrap(), world.meta());
    drop(kernel);
    assert!(!Session::is_in_use(dir.path()).unwrap());
    Session::open(dir.path()).unwrap();
}

#[test]
fn a_session_is_not_made_over_another_one() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"x");
    drop(kernel);
    match Session::create(dir.path(), world.meta(), &[world.manifest()]) {
        Err(SessionError::Exists(named)) => assert_eq!(named, dir.path()),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.recover(dir.path()).unwrap().cat("f"), b"x");
}

#[test]
fn a_journal_that_is_there_is_not_overwritten() {
    let (world, dir) = (world(), tempdir());
    fs::write(dir.path().join("journal"), "precious").unwrap();
    let session = Session::create(dir.path(), world.meta(), &[world.manifest()]).unwrap();
    let settings = crate::testing::settings();
    Vfs::create(session, world.tree.clone(), world.fetcher(), settings).unwrap_err();
    assert_eq!(fs::read(dir.path().join("journal")).unwrap(), b"precious");
}

#[test]
fn no_session_an_unreadable_one_and_one_of_another_time_are_different_errors() {
    let (world, dir) = (world(), tempdir());
    match Session::open(dir.path()) {
        Err(SessionError::Missing(named)) => assert_eq!(named, dir.path()),
        other => panic!("{other:?}"),
    }
    assert!(!dir.path().join("lock").exists(), "asking leaves no trace");
    drop(world.create(dir.path()));
    let description = dir.path().join("session.json");
    let sound = fs::read_to_string(&description).unwrap();

    fs::write(&description, r#"{"format": 3, "all": "different"}"#).unwrap();
    match Session::open(dir.path()) {
        Err(SessionError::Format { path, found: 3, .. }) => assert_eq!(path, dir.path()),
        other => panic!("{other:?}"),
    }
    for damaged in [&sound[..sound.len() / 2], "", "[]", r#"{"format": 2}"#] {
        fs::write(&description, damaged).unwrap();
        match Session::open(dir.path()) {
            Err(SessionError::Description { path, .. }) => assert_eq!(path, description),
            other => panic!("{damaged}: {other:?}"),
        }
    }
    let hash = world.meta().parent.to_string();
    fs::write(&description, sound.replace(&hash, "../../../etc")).unwrap();
    assert!(matches!(
        Session::open(dir.path()),
        Err(SessionError::Description { .. })
    ));
    fs::write(&description, sound).unwrap();
    Session::open(dir.path()).unwrap();
}

#[test]
fn a_damaged_manifest_is_named_with_both_hashes() {
    let (world, dir) = (world(), tempdir());
    drop(world.create(dir.path()));
    let base = dir.path().join("base/0");
    fs::write(&base, "damaged").unwrap();
    match Session::open(dir.path()).unwrap().manifests() {
        Err(SessionError::DamagedBase {
            path,
            expected,
            found,
        }) => {
            assert_eq!(path, base);
            assert_eq!(expected, world.meta().parent);
            assert_eq!(found, ContentHash::of(b"damaged"));
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(&base).unwrap();
    let error = Session::open(dir.path()).unwrap().manifests().unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read {}", base.display()));
}

#[test]
fn a_session_whose_files_have_other_numbers_is_refused_with_the_program_that_made_it() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create(dir.path());
    kernel.put("f", b"precious");
    drop(kernel);
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
            "the session {} has format 1, this program reads 2: commit or discard it with the \
             attachfs 0.0.9 that made it",
            dir.path().display()
        )
    );
    assert_eq!(fs::read(dir.path().join("journal")).unwrap(), journal);
}

#[test]
fn discarding_deletes_what_is_the_sessions_and_leaves_the_rest() {
    let (world, dir) = (world(), tempdir());
    let (place, elsewhere) = (dir.path().join("session"), dir.path().join("fast"));
    let mut meta = world.meta();
    meta.scratch_dir = Some(elsewhere.clone());
    let session = Session::create(&place, meta, &[world.manifest()]).unwrap();
    let settings = crate::testing::settings();
    let vfs = Vfs::create(session, world.tree.clone(), world.fetcher(), settings).unwrap();
    let kernel = crate::testing::Kernel::new(vfs);
    kernel.put("f", b"x");
    fs::write(place.join("notes.txt"), "the user's").unwrap();
    fs::write(elsewhere.join("other"), "another's").unwrap();
    let scratch = elsewhere.join(world.meta().id.as_str());
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 1);

    kernel.vfs.discard().unwrap();
    drop(kernel);
    let left = |dir| {
        let entries = fs::read_dir(dir).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    assert_eq!(left(&place), ["notes.txt"]);
    assert_eq!(left(&elsewhere), ["other"]);
}

#[test]
fn a_session_that_was_deleted_halfway_is_not_taken_for_whole_and_can_be_deleted_again() {
    let (world, dir) = (world(), tempdir());
    let place = dir.path().join("session");
    let kernel = world.create(&place);
    kernel.put("f", b"x");
    drop(kernel);
    fs::remove_file(place.join("journal")).unwrap();
    world.recover(&place).unwrap_err();
    Session::open(&place).unwrap().discard().unwrap();
    assert!(!place.exists());
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
