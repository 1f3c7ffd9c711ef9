#![no_main]

use attachfs_manifest::PathFilter;
use attachfs_manifest::wire::decode_globs;
use libfuzzer_sys::fuzz_target;

// A list of patterns, a NUL, and paths to try: whatever a walk would not go into holds nothing that is
// chosen, and what matches is the same from the text and from its parts.
fuzz_target!(|bytes: &[u8]| {
    let (config, paths) = match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &bytes[..0]),
    };
    let Ok(globs) = decode_globs(config) else {
        return;
    };
    let Ok(filter) = PathFilter::new(&globs.include, &globs.exclude) else {
        return;
    };
    for path in paths.split(|&byte| byte == 0).filter(|path| is_path(path)) {
        let matches = filter.matches(path);
        let mut state = filter.start();
        let mut is_reached = true;
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        let (name, above) = names.split_last().expect("a path has a name");
        for directory in above {
            state = filter.enter(&state, directory);
            is_reached &= filter.may_take_below(&state);
        }
        assert_eq!(matches, filter.takes_file(&state, name));
        assert!(!matches || is_reached, "{:?}", String::from_utf8_lossy(path));
    }
});

fn is_path(path: &[u8]) -> bool {
    attachfs_manifest::ManifestPath::new(path).is_ok()
}
