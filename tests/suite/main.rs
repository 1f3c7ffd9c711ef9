//! The suites across crates, in one program so that they are linked once.
//!
//! `architecture` holds the borders between crates. The others drive the real programs: `example` the renderer in a plain folder;
//! `manifests` the operations on manifests; `scanning` what is taken of a folder; `uploading` and `downloading` folders and manifests into stores and back; `fetching` the files of jobs; `stores` and `moto` whole stores; `peers` asks the reference implementations, where they are there;
//! `answers` what the verbs on sessions say is so; `seeing` what a mount tells of itself, `reporting` what it says was used of it; `early` what is sent before a commit; `passthrough` what the kernel reads without its process, `writers` who writes so, `late` what it keeps of what is written;
//! `journey`, `committing`, `resuming`, `selecting`, `ending`, `everyday`, `crash`, `walk`, `databases`, `power`, `failure` and `mounts` drive `attachfs` over real mounts on a [`machine::Machine`] made for each test.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in the parts that its tests share too"
)]

mod adding;
mod answers;
mod architecture;
mod browsing;
mod cache;
mod committing;
mod copying;
mod corpus;
mod crash;
mod databases;
mod downloading;
mod early;
mod ending;
mod endpoints;
mod everyday;
mod example;
mod facts;
mod failure;
#[allow(dead_code, reason = "it has what several modules need")]
mod farm;
mod fetching;
mod foreign;
mod fsck;
mod garage;
mod golden;
mod guide;
mod identity;
mod jobs;
mod journey;
mod late;
mod layers;
mod machine;
mod manifests;
mod moto;
mod mounts;
mod parity;
mod passthrough;
mod peers;
mod posix;
mod power;
mod process;
mod programs;
mod random;
mod reporting;
mod resuming;
mod scanning;
mod seeing;
mod selecting;
mod semantics;
mod server;
mod sessions;
mod spelling;
mod stores;
mod submitting;
mod syncing;
mod telling;
mod traces;
mod tree;
mod trouble;
mod unopened;
mod uploading;
mod walk;
mod writers;
