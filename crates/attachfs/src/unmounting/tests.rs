//! What `umount` says of a session whose process has answered.

use std::ops::ControlFlow;
use std::sync::Arc;

use attachfs_commit::CommitStep;
use attachfs_session::{
    ControlServer, ControlService, EventSink, Peer, Response, ServiceFuture, SessionId,
    SessionList, SessionMeta,
};
use attachfs_transfer::{Progress, ProgressEvent};
use tokio::runtime::Handle;

use super::*;
use crate::session::ENDS_WITHIN;

/// Answers that the session was unmounted, and that nothing of it is needed any more.
struct Unmounted(SessionId);

impl ControlService for Unmounted {
    fn handle(&self, request: Request, _: Peer, _: EventSink) -> ServiceFuture<'_> {
        assert!(matches!(request, Request::Unmount { .. }), "{request:?}");
        let report = UnmountReport {
            kept: false,
            ..UnmountReport::of(&self.0, "/m".into())
        };
        Box::pin(async move { Ok(value(&report).unwrap()) as Response })
    }
}

/// Nobody listens.
struct Quiet;

impl Progress for Quiet {
    fn update(&self, _: &ProgressEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Observer for Quiet {
    fn step(&self, _: CommitStep) {}
}

struct Fixture {
    folder: tempfile::TempDir,
    meta: SessionMeta,
}

impl Fixture {
    fn new() -> Self {
        let meta = SessionMeta {
            manifests: Vec::new(),
            ..attachfs_fixtures::session_meta(b"")
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            meta,
        }
    }

    /// Takes the session, as the process that serves it does.
    fn begin(&self) -> Session {
        let dir = self.folder.path().join("session");
        Session::create(&dir, self.meta.clone(), &[]).unwrap()
    }

    async fn unmount(&self) -> UnmountReport {
        let dir = self.folder.path().join("session");
        let service = Arc::new(Unmounted(self.meta.id.clone()));
        let server = ControlServer::start(&dir, &Handle::current(), service).unwrap();
        let found = SessionList::in_dir(&dir).unwrap().unwrap();
        let at = |name: &str| self.folder.path().join(name);
        let places = Places {
            state: at("state"),
            cache: attachfs_durable::CacheDir::new(at("cache")),
            data: at("data"),
        };
        let (how, never) = (UnmountRequest::default(), CancellationToken::new());
        let access = S3Access::default();
        let unmounted = unmount(&found, &places, &access, &how, None, &Quiet, &never);
        let report = unmounted.await.unwrap();
        server.shut_down().await;
        report
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_its_process_goes_on_deleting_is_said_to_be_deleted_still() {
    let fixture = Fixture::new();
    let _held = fixture.begin();
    let report = fixture.unmount().await;
    assert!(report.still_deleting && !report.kept, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_its_process_has_left_is_kept_if_it_is_still_there() {
    for is_deleted in [true, false] {
        let fixture = Fixture::new();
        let held = fixture.begin();
        let ends = tokio::spawn(async move {
            tokio::time::sleep(ENDS_WITHIN / 2).await;
            if is_deleted {
                std::fs::remove_file(held.dir().join("control.sock")).unwrap();
                held.discard().unwrap();
            }
        });
        let report = fixture.unmount().await;
        ends.await.unwrap();
        assert!(!report.still_deleting, "{report:?}");
        assert_eq!(report.kept, !is_deleted, "{report:?}");
    }
}
