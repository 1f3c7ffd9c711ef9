//! What is in which folder, and what happens when a job writes more.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attachfs_manifest::{Change, Content, LinkTarget};
use attachfs_tree::Kind;
use attachfs_vfs::Access;

use super::*;
use crate::JobInput;

#[test]
fn a_job_has_its_outputs_by_task_by_time_and_the_latest_of_all() {
    run(async {
        let store = Arc::new(Slow::default());
        let old = FIRST;
        let new = Made { run: 3, ..FIRST };
        let other = Made {
            task: Some(1),
            run: 2,
            ..FIRST
        };
        let together = Made {
            step: 2,
            task: None,
            run: 4,
            ..FIRST
        };
        for (made, text) in [(old, "old"), (other, "other"), (new, "new")] {
            let name = format!("out/frame{}", made.task.unwrap());
            store.publish_file(made, &name, text).await;
        }
        store.publish_file(together, "out/all", "together").await;
        let client = Client::over(&store);
        assert_eq!(client.ls("").await, ["by-step", "by-time", "latest"]);
        assert_eq!(client.ls("latest").await, ["project"]);
        assert_eq!(
            client.ls("latest/project/out").await,
            ["all", "frame0", "frame1"]
        );
        assert_eq!(client.cat("latest/project/out/frame0").await, "new");
        assert_eq!(client.ls("by-step").await, [step(1), step(2)]);
        let tasks = format!("by-step/{}", step(1));
        assert_eq!(client.ls(&tasks).await, [task(1, 0), task(1, 1)]);
        let first = format!("{tasks}/{}/project/out/frame0", task(1, 0));
        assert_eq!(client.cat(&first).await, "new");
        let chunked = format!("by-step/{}", step(2));
        assert_eq!(client.ls(&chunked).await, [together.run_folder()]);
        let runs = [old, other, new, together].map(|made| made.run_folder());
        assert_eq!(client.ls("by-time").await, runs);
        let before = format!("by-time/{}/project/out/frame0", old.run_folder());
        assert_eq!(client.cat(&before).await, "old");
        for missing in [
            "inputs",
            "latest/x",
            "by-step/step-1",
            "latest/project/out/frame2",
        ] {
            assert_eq!(client.find(missing).await.unwrap(), None, "{missing}");
        }
    });
}

#[test]
fn a_queue_has_a_folder_for_each_job_and_lists_a_job_where_somebody_looks() {
    run(async {
        let store = Arc::new(Slow::default());
        for number in 1..=3 {
            let made = Made {
                job: number,
                ..FIRST
            };
            store
                .publish_file(made, "f", &format!("job {number}"))
                .await;
        }
        let scope = Scope::Queue(job(1).farm, job(1).queue);
        let client = Client::of(browse(&store, options(scope)));
        let names: Vec<_> = (1..=3).map(|number| job(number).job.to_string()).collect();
        assert_eq!(client.ls("").await, names);
        assert_eq!(store.manifests.load(Ordering::Relaxed), 0);
        let f = format!("{}/latest/project/f", names[1]);
        assert_eq!(client.cat(&f).await, "job 2");
        // The root's name, and the root's one manifest.
        assert_eq!(store.manifests.load(Ordering::Relaxed), 2);
        let several = options(Scope::Jobs(vec![job(3), job(1)]));
        let client = Client::of(browse(&store, several));
        assert_eq!(client.ls("").await, [&*names[0], &*names[2]]);
    });
}

#[test]
fn inputs_are_shown_where_they_are_known() {
    run(async {
        let store = Arc::new(Slow::default());
        let key: ManifestKey = "somewhere/scene_input".parse().unwrap();
        let bytes = encode(&snapshot([("scene", file("scene"))]), Format::V2023_03_03).unwrap();
        let metadata = Metadata::new();
        let put = store.put_manifest_if_absent(&key, bytes.into(), &metadata);
        put.await.unwrap();
        store.memory.insert(&b"scene"[..]);
        let input = JobInput {
            key,
            root: "C:\\Work".to_owned(),
            location: None,
        };
        let options = BrowseOptions {
            inputs: HashMap::from([(job(1), vec![input])]),
            ..options(Scope::Job(job(1)))
        };
        let client = Client::of(browse(&store, options));
        assert_eq!(
            client.ls("").await,
            ["by-step", "by-time", "inputs", "latest"]
        );
        assert_eq!(client.ls("inputs").await, ["Work"]);
        assert_eq!(client.cat("inputs/Work/scene").await, "scene");
    });
}

#[test]
fn later_manifests_lie_over_earlier_ones_with_deletions_links_and_modes() {
    run(async {
        let store = Arc::new(Slow::default());
        let first = snapshot([("a", file("a")), ("gone/f", file("f")), ("d/x", file("x"))]);
        store.publish(FIRST, &first).await;
        let runnable = match file("tool") {
            Node::File(file) => Node::File(File {
                runnable: true,
                ..file
            }),
            other => other,
        };
        let second = diff([
            ("gone/f", Change::DeleteFile),
            ("gone", Change::DeleteDir),
            ("input", Change::DeleteFile),
            ("bin/tool", Change::Put(runnable)),
            (
                "d/l",
                Change::Put(Node::Symlink(LinkTarget::Below(path("a")))),
            ),
        ]);
        let made = Made {
            task: Some(1),
            run: 2,
            ..FIRST
        };
        store.publish(made, &second).await;
        let client = Client::over(&store);
        assert_eq!(client.ls("latest/project").await, ["a", "bin", "d"]);
        let perm = async |path: &str| client.stat(path).await.attr.perm;
        assert_eq!(perm("latest/project/bin/tool").await, 0o555);
        assert_eq!(perm("latest/project/a").await, 0o444);
        assert_eq!(perm("latest/project").await, 0o555);
        let link = client.stat("latest/project/d/l").await;
        assert_eq!(link.attr.kind, Kind::Symlink);
        let text = asked(|to| client.fs.readlink(link.node, Copied(to))).await;
        assert_eq!(text.unwrap(), b"../a");
        let a = client.stat("latest/project/a").await.attr;
        assert_eq!((a.mtime.seconds, a.size), (1_600_000_000, 1));
    });
}

#[test]
fn what_is_new_is_seen_within_the_refresh_and_numbers_stay() {
    run(async {
        let store = Arc::new(Slow::default());
        store.publish_file(FIRST, "out/1", "one").await;
        let client = Client::over(&store);
        assert_eq!(client.ls("latest/project/out").await, ["1"]);
        let before = client.stat("latest/project/out/1").await;
        let dir = client.stat("latest/project/out").await;
        // The kernel keeps answers for a part of it.
        let kept = client.fs.keeps_for().unwrap();
        for round in 2..12_u64 {
            let made = Made {
                task: Some(round),
                run: round,
                ..FIRST
            };
            store
                .publish_file(made, &format!("out/{round}"), "more")
                .await;
            tokio::time::sleep(REFRESH.checked_sub(kept).unwrap()).await;
            let name = format!("latest/project/out/{round}");
            let found = client.find(&name).await.unwrap();
            assert!(found.is_some(), "{name}");
        }
        assert_eq!(client.stat("latest/project/out/1").await, before);
        let now = client.stat("latest/project/out").await;
        assert_eq!((now.node, now.attr.ino), (dir.node, dir.attr.ino));
        // Each manifest was read once, and one of them for the root's name.
        assert_eq!(store.manifests.load(Ordering::Relaxed), 12);
        let again = Client::over(&store);
        assert_eq!(again.stat("latest/project/out/1").await.node, before.node);
    });
}

#[test]
fn a_listing_that_nobody_waits_for_brings_what_is_new() {
    run(async {
        let store = Arc::new(Slow {
            takes: Duration::from_millis(500),
            ..Slow::default()
        });
        store.publish_file(FIRST, "1", "one").await;
        let client = Client::over(&store);
        client.ls("latest/project").await;
        for round in 2..6_u64 {
            let made = Made {
                task: Some(round),
                run: round,
                ..FIRST
            };
            store.publish_file(made, &round.to_string(), "more").await;
            let begun = tokio::time::Instant::now();
            for _ in 0..40 {
                let looked = tokio::time::Instant::now();
                client.ls("latest/project").await;
                assert_eq!(looked.elapsed(), Duration::ZERO, "somebody waited");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            assert_eq!(begun.elapsed(), REFRESH);
            assert_eq!(client.ls("latest/project").await.len() as u64, round);
        }
    });
}

#[test]
fn who_reads_a_directory_or_a_file_keeps_what_it_had() {
    run(async {
        let store = Arc::new(Slow::default());
        let all: Vec<_> = (0..20).map(|number| format!("f{number:02}")).collect();
        let entries = all.iter().map(|name| (path(name), file("old")));
        let first = Snapshot::new(ChunkSize::WholeFile, None, entries).unwrap();
        store.memory.insert(&b"old"[..]);
        store.publish(FIRST, &Manifest::Snapshot(first)).await;
        let client = Client::over(&store);
        let handle = client.opendir("latest/project").await.unwrap();
        let mut seen = client.some(handle, 0, 7).await.unwrap();
        let opened = client.open("latest/project/f10").await.unwrap();
        let before = client.stat("latest/project/f10").await;
        let again = Made { run: 5, ..FIRST };
        store.publish_file(again, "f10", "new").await;
        tokio::time::sleep(REFRESH).await;
        assert_eq!(client.ls("latest/project").await, ["f10"]);
        while let Some((_, _, offset)) = seen.last() {
            let more = client.some(handle, *offset, 4).await.unwrap();
            if more.is_empty() {
                break;
            }
            seen.extend(more);
        }
        let seen: Vec<_> = seen.into_iter().map(|(name, ..)| name).skip(2).collect();
        assert_eq!(seen, all);
        assert_eq!(client.read_open(opened).await.unwrap(), "old");
        assert_eq!(client.cat("latest/project/f10").await, "new");
        let now = client.stat("latest/project/f10").await;
        assert_ne!(now.node, before.node, "the kernel keeps pages by node");
        let known = asked::<FileAttr>(|to| client.fs.getattr(before.node, Answered(to)));
        assert_eq!(known.await.unwrap().size, 3);
    });
}

#[test]
fn a_file_tells_where_it_comes_from() {
    run(async {
        let store = Arc::new(Slow::default());
        store.publish_file(FIRST, "d/f", "text").await;
        let client = Client::over(&store);
        let f = "latest/project/d/f";
        let hash = ContentHash::of(b"text").to_string();
        assert_eq!(client.xattr(f, "user.attachfs.hash").await, Ok(hash));
        let key = FIRST.key().to_string();
        assert_eq!(client.xattr(f, "user.attachfs.manifest").await, Ok(key));
        for path in ["latest/project", "latest/project/d", f] {
            let root = client.xattr(path, "user.attachfs.asset_root").await;
            assert_eq!(root.as_deref(), Ok(ROOT), "{path}");
        }
        let absent = Err(FsErrorKind::NoAttribute);
        assert_eq!(
            client.xattr("latest", "user.attachfs.asset_root").await,
            absent
        );
        assert_eq!(client.xattr(f, "user.other").await, absent);
        let unknown = client.xattr(f, "security.selinux").await;
        assert_eq!(unknown, Err(FsErrorKind::NotSupported));
    });
}

#[test]
fn nothing_can_be_written_and_nodes_are_forgotten() {
    run(async {
        let store = Arc::new(Slow::default());
        store.publish_file(FIRST, "f", "text").await;
        let client = Client::over(&store);
        let node = client.stat("latest/project/f").await.node;
        assert!(client.fs.known_nodes() > 1);
        let access = Access {
            read: true,
            write: true,
            sync: false,
        };
        let opened = asked::<OpenedFile>(|to| client.fs.open(node, access, false, Answered(to)));
        assert_eq!(opened.await.unwrap_err().kind(), FsErrorKind::ReadOnly);
        let removed = asked(|to| client.fs.unlink(NodeId::ROOT, b"latest", Answered(to)));
        assert_eq!(removed.await.unwrap_err().kind(), FsErrorKind::ReadOnly);
        for path in ["latest/project/f", "latest/project", "latest"] {
            let node = client.stat(path).await.node;
            client.fs.forget(node, 10);
        }
        assert_eq!(client.fs.known_nodes(), 1);
    });
}

#[test]
fn a_file_without_hashes_is_shown_and_cannot_be_opened() {
    run(async {
        let store = Arc::new(Slow::default());
        let unhashed = match file("text") {
            Node::File(file) => Node::File(File {
                content: Content::Unhashed,
                ..file
            }),
            other => other,
        };
        store
            .publish(FIRST, &diff([("f", Change::Put(unhashed))]))
            .await;
        let client = Client::over(&store);
        assert_eq!(client.ls("latest/project").await, ["f"]);
        let error = client.open("latest/project/f").await.unwrap_err();
        assert_eq!(error.kind(), FsErrorKind::Io);
    });
}

#[test]
fn what_is_longer_than_the_memory_is_kept_by_itself_and_read_once() {
    run(async {
        let store = Arc::new(Slow::default());
        for number in 0..50 {
            let made = Made {
                task: Some(number),
                run: number,
                ..FIRST
            };
            store
                .publish_file(made, &format!("f{number}"), "text")
                .await;
        }
        let options = BrowseOptions {
            memory_bytes: 4096,
            ..options(Scope::Job(job(1)))
        };
        let client = Client::of(browse(&store, options));
        for _ in 0..5 {
            assert_eq!(client.ls("latest/project").await.len(), 50);
        }
        // One for the root's name.
        assert_eq!(store.manifests.load(Ordering::Relaxed), 51);
    });
}

#[test]
fn many_who_look_at_once_list_and_read_once() {
    run(async {
        let store = Arc::new(Slow {
            takes: Duration::from_millis(20),
            ..Slow::default()
        });
        store.publish_file(FIRST, "f", "text").await;
        let client = Client::over(&store);
        let looks = (0..20).map(|_| client.ls("latest/project"));
        for names in futures::future::join_all(looks).await {
            assert_eq!(names, ["f"]);
        }
        assert_eq!(store.lists.load(Ordering::Relaxed), 1);
        assert_eq!(store.manifests.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn of_many_jobs_that_were_looked_at_a_bounded_number_is_listed_in_the_background() {
    run(async {
        let store = Arc::new(Slow::default());
        let jobs: Vec<_> = (1..=300).map(job).collect();
        for number in 1..=300 {
            let made = Made {
                job: number,
                ..FIRST
            };
            store.publish(made, &snapshot([("f", file("text"))])).await;
        }
        let client = Client::of(browse(&store, options(Scope::Jobs(jobs.clone()))));
        for job in &jobs {
            let latest = format!("{}/latest", job.job);
            assert_eq!(client.ls(&latest).await, ["project"]);
        }
        store.lists.store(0, Ordering::Relaxed);
        tokio::time::sleep(REFRESH * 5).await;
        let listed = store.lists.load(Ordering::Relaxed);
        // Ten periods.
        assert!((10..=64 * 11).contains(&listed), "{listed}");
        assert_eq!(
            client.ls(&format!("{}/latest", jobs[0].job)).await,
            ["project"]
        );
    });
}
