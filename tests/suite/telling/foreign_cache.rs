//! A directory of somebody's files that is named as the cache.

use std::fs;

use crate::machine::{Machine, args};
use crate::tree::{Detail, Tree};

#[test]
fn a_folder_of_somebodys_files_is_refused_as_a_cache_by_every_verb_and_stays_as_it_is() {
    Machine::mounting_from_s3(|machine| {
        machine.file("input/a", "of the input");
        let input = machine.path("input");
        let manifest = machine.snapshot(&input, "base.manifest");
        let store = machine.store();
        machine.file("art/scene.blend", "of an artist");
        machine.file("art/textures/wood.exr", "of an artist");
        let art = machine.path("art");
        let before = Tree::read(&art, Detail::Live);
        let at = machine.dir("mnt");
        let cache = |verb: &str| args!["cache", verb, "--cache-dir", &art];
        let of_store = args!["--store", &store, &manifest];
        for verb in [
            args![
                "mount",
                "--store",
                &store,
                "--cache-dir",
                &art,
                &manifest,
                &at
            ]
            .to_vec(),
            args![
                "download",
                &manifest,
                "--root",
                "to",
                "--store",
                &store,
                "--cache-dir",
                &art
            ]
            .to_vec(),
            args![
                "snapshot",
                &input,
                "-o",
                "m",
                "--store",
                &store,
                "--cache-dir",
                &art
            ]
            .to_vec(),
            cache("info").to_vec(),
            cache("gc").to_vec(),
            cache("verify").to_vec(),
            [&cache("warm")[..], &of_store].concat(),
            [&cache("pin")[..], &of_store].concat(),
            [&cache("unpin")[..], &args![&manifest]].concat(),
        ] {
            let refused = machine.says(&verb).with_code(2);
            refused.saying("is not empty and is no cache");
            before.assert_is(&Tree::read(&art, Detail::Live));
        }
        // An empty directory becomes one, and stays one with what somebody puts into it.
        let own = machine.dir("own");
        let warm = args![
            "cache",
            "warm",
            "--cache-dir",
            &own,
            "--store",
            &store,
            &manifest
        ];
        machine.ok(&warm);
        fs::write(own.join("notes"), "of the user").unwrap();
        machine.ok(&warm).printing("present    1 object");
        assert_eq!(fs::read(own.join("notes")).unwrap(), b"of the user");
    });
}
