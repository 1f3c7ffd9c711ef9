//! The session that is mounted, and the tree of what it shows.

use std::path::{Path, PathBuf};

use attachfs_session::{NewSession, Session, SessionId, SessionMeta, StoreSettings};
use attachfs_tree::LayerOptions;
use tokio_util::sync::CancellationToken;

use super::left::log_left_sessions;
use super::request::{MountSession, check_no_open};
use crate::copying::OpenManifest;
use crate::error::Error;
use crate::holder::take;
use crate::index::{MountBase, base_of, open_base};
use crate::outputs::{check_in_base, check_output_dirs};
use crate::places::Places;

/// A session that there is, or the manifests of a new one, which were found.
pub(super) enum Found {
    Session { max_scratch: Option<u64> },
    Manifests(Vec<OpenManifest>, New),
}

/// What a new session is to be, beside its manifests.
pub(super) struct New {
    layers: LayerOptions,
    read_only: bool,
    case_insensitive: bool,
    protect_inputs: bool,
    scratch_dir: Option<PathBuf>,
    max_scratch: Option<u64>,
    commit: bool,
    output_dirs: Vec<String>,
}

impl Found {
    /// Finds the manifests of a new session. Makes nothing.
    pub(super) async fn find(
        session: MountSession,
        access: &StoreSettings,
        cancel: &CancellationToken,
    ) -> Result<Self, Error> {
        let (manifests, new) = match session {
            MountSession::Resume { max_scratch, .. } => return Ok(Self::Session { max_scratch }),
            MountSession::New {
                manifests,
                layers,
                read_only,
                case_insensitive,
                protect_inputs,
                session_dir: _,
                scratch_dir,
                max_scratch,
                commit,
                output_dirs,
            } => {
                let new = New {
                    layers,
                    read_only,
                    case_insensitive,
                    protect_inputs,
                    scratch_dir,
                    max_scratch,
                    commit,
                    output_dirs,
                };
                (manifests, new)
            }
        };
        let mut found = Vec::new();
        for manifest in manifests {
            found.push(manifest.open(access, cancel).await?);
        }
        Ok(Self::Manifests(found, new))
    }
}

/// Where and how a session is opened.
pub(super) struct Opening<'a> {
    pub(super) id: SessionId,
    pub(super) dir: &'a Path,
    pub(super) mount_point: &'a Path,
    pub(super) owner: u32,
    pub(super) store: &'a StoreSettings,
    pub(super) places: &'a Places,
    pub(super) no_open: bool,
    pub(super) before_making: Option<fn()>,
}

/// A session with its tree.
pub(super) struct Opened {
    pub(super) session: Session,
    pub(super) base: MountBase,
    /// Whether the process that had it before had died, and left a mount that was taken away.
    pub(super) had_died: bool,
}

impl Opening<'_> {
    pub(super) async fn open(self, found: Found) -> Result<Opened, Error> {
        match found {
            Found::Session { max_scratch } => self.resume(max_scratch),
            Found::Manifests(manifests, new) => self.make(manifests, new).await,
        }
    }

    fn resume(self, max_scratch: Option<u64>) -> Result<Opened, Error> {
        let mut session = take(self.dir)?;
        if let Some(jobs) = &session.meta().browses {
            let sentence = format!("session {} shows outputs of {jobs}", session.meta().id);
            let advice = "`attachfs browse` mounts them anew";
            return Err(Error::usage(sentence).advise(advice));
        }
        if let Some(bytes) = max_scratch {
            session.bound_scratch(bytes);
        }
        check_no_open(self.no_open, session.meta().read_only)?;
        let base = base_of(&session, self.places)?;
        self.before_making();
        let had_died = attachfs_mount::detach_dead(&session)?;
        Ok(Opened {
            session,
            base,
            had_died,
        })
    }

    /// Copies the manifests into a new session, and looks at them there. If nothing comes of it, nothing is left.
    async fn make(self, manifests: Vec<OpenManifest>, new: New) -> Result<Opened, Error> {
        check_no_open(self.no_open, new.read_only)?;
        check_output_dirs(&new.output_dirs)?;
        log_left_sessions(self.places, self.mount_point);
        self.before_making();
        let mut session = Session::begin(self.dir)?;
        let mut described = Vec::new();
        for manifest in manifests {
            described.push(manifest.copy_into(&mut session).await?);
        }
        let mapped = || NewSession::map_manifests(&session);
        let base = open_base(&described, &new.layers, mapped, self.dir, self.places)?;
        check_in_base(&new.output_dirs, &base.tree)?;
        let meta = SessionMeta {
            format: SessionMeta::FORMAT,
            id: self.id,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            created: attachfs_vfs::now(),
            mount_point: self.mount_point.to_owned(),
            owner: self.owner,
            manifests: described,
            parent: base.parent,
            layers: new.layers,
            store: self.store.clone(),
            scratch_dir: new.scratch_dir,
            max_scratch: new.max_scratch,
            output_dirs: new.output_dirs,
            commit_on_unmount: new.commit,
            read_only: new.read_only,
            case_insensitive: new.case_insensitive,
            protect_inputs: new.protect_inputs,
            browses: None,
        };
        Ok(Opened {
            session: session.finish(meta)?,
            base,
            had_died: false,
        })
    }

    fn before_making(&self) {
        if let Some(hook) = self.before_making {
            hook();
        }
    }
}
