//! FIFOs and sockets, which no manifest can hold.

use std::sync::Arc;

use attachfs_manifest::Change;
use attachfs_store::MemoryStore;
use attachfs_tree::Special;

use crate::testing::{CUT, Fs, Given, World, bytes, committed, tempdir};
use crate::{Account, CommitOptions, touched, uncommitted};

async fn world() -> World {
    let base = [
        ("input", Given::File(bytes(1, 10))),
        ("d/below", Given::File(bytes(2, 10))),
    ];
    World::new(Arc::new(MemoryStore::new()), CUT, &base).await
}

async fn commit(world: &World, fs: &Fs) -> (Account, Vec<String>) {
    let outcome = committed(world, fs, &CommitOptions::default())
        .await
        .unwrap();
    let Some(published) = outcome.published else {
        return (outcome.account, Vec::new());
    };
    let diff = world.diff(&published.committed.key).await;
    let changes = diff.changes().map(|(at, change)| match change {
        Change::Put(_) => format!("+{at}"),
        Change::DeleteDir | Change::DeleteFile => format!("-{at}"),
    });
    (outcome.account, changes.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_leaves_out_fifos_and_sockets_says_so_and_is_otherwise_whole() {
    let (world, dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    fs.mkdir("out").unwrap();
    fs.make_special("out/fifo", Special::Fifo).unwrap();
    fs.make_special("socket", Special::Socket).unwrap();
    fs.write("out/frame", 0, b"pixels").unwrap();
    let seen = touched(&fs.session, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(seen.account.special, ["out/fifo", "socket"]);
    let (account, changes) = commit(&world, &fs).await;
    assert_eq!(account.special, ["out/fifo", "socket"]);
    assert!(!account.is_partial());
    assert_eq!(changes, ["+out", "+out/frame"]);
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 0);
    let (account, changes) = commit(&world, &fs).await;
    assert_eq!((account.special.len(), changes.len()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_fifo_took_the_place_of_is_gone_for_readers() {
    let (world, dir) = (world().await, tempdir());
    let fs = world.create(dir.path());
    fs.write("new", 0, b"new").unwrap();
    commit(&world, &fs).await;
    for name in ["input", "new", "d/below"] {
        fs.unlink(name).unwrap();
    }
    fs.rmdir("d").unwrap();
    for name in ["input", "new", "d"] {
        fs.make_special(name, Special::Fifo).unwrap();
    }
    let (account, changes) = commit(&world, &fs).await;
    assert_eq!(account.special, ["d", "input", "new"]);
    assert_eq!(changes, ["-d", "-d/below", "-input", "-new"]);
    fs.unlink("input").unwrap();
    fs.write("input", 0, b"again").unwrap();
    assert_eq!(commit(&world, &fs).await.1, ["+input"]);
}
