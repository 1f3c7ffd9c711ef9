use super::*;

fn path(text: &[u8]) -> ManifestPath {
    ManifestPath::new(text).unwrap()
}

#[test]
fn a_path_that_could_leave_its_root_or_name_nothing_is_refused() {
    let long = vec![b'a'; 256];
    let deep = b"a/".repeat(2048);
    for (text, error) in [
        (b"".as_slice(), PathError::Empty),
        (b"/a", PathError::Absolute),
        (b"/", PathError::Absolute),
        (b"a//b", PathError::EmptyComponent),
        (b"a/", PathError::EmptyComponent),
        (b".", PathError::Dot),
        (b"a/./b", PathError::Dot),
        (b"..", PathError::DotDot),
        (b"a/..", PathError::DotDot),
        (b"a\0b", PathError::Nul),
        (&long, PathError::ComponentTooLong(256)),
        (&deep, PathError::TooLong(4096)),
    ] {
        assert_eq!(
            ManifestPath::new(text),
            Err(error),
            "{}",
            EscapedBytes(text)
        );
    }
    for text in [
        b"...".as_slice(),
        b"..\\x",
        b"a b",
        b"\xff",
        b"$0/x",
        b"c:/x",
    ] {
        assert_eq!(path(text).as_bytes(), text);
    }
}

#[test]
fn a_name_is_one_component() {
    assert_eq!(Name::new(b"a/b"), Err(PathError::Slash));
    assert_eq!(Name::new(b".."), Err(PathError::DotDot));
    assert_eq!(Name::new(b""), Err(PathError::Empty));
    assert_eq!(Name::new(b"a").unwrap().as_bytes(), b"a");
}

#[test]
fn joining_and_taking_apart_are_opposites() {
    let deep = path(b"a/b/c");
    assert_eq!(deep.parent().unwrap().join(&deep.name()), Ok(deep.clone()));
    assert_eq!(path(b"b/c").below(&path(b"a")), Ok(deep.clone()));
    assert_eq!(
        deep.ancestors().collect::<Vec<_>>(),
        [path(b"a/b"), path(b"a")]
    );
    assert_eq!(path(b"a").parent(), None);
}

#[test]
fn joining_stops_at_the_longest_path() {
    let directory = path(&b"a/".repeat(2047)[..4093]);
    assert!(directory.join(&Name::new(b"b").unwrap()).is_ok());
    let error = directory.join(&Name::new(b"bb").unwrap());
    assert_eq!(error, Err(PathError::TooLong(4096)));
}

#[test]
fn a_path_is_not_below_itself_or_below_a_name_it_begins_with() {
    assert!(path(b"a/b").is_below(&path(b"a")));
    assert!(!path(b"a").is_below(&path(b"a")));
    assert!(!path(b"ab").is_below(&path(b"a")));
}

#[test]
fn files_sort_by_utf16_units_and_dirs_by_code_points() {
    let astral = "\u{1f600}".as_bytes();
    let private = "\u{e000}".as_bytes();
    assert_eq!(utf16_order(astral, private), Ordering::Less);
    assert_eq!(code_point_order(astral, private), Ordering::Greater);
    for order in [utf16_order, code_point_order] {
        assert_eq!(order(b"a-b", b"a/b"), Ordering::Less);
        assert_eq!(order(b"a", b"a/b"), Ordering::Less);
        // Not UTF-8: U+DCFF, before U+E000 though its byte is larger.
        assert_eq!(order(b"\xff", private), Ordering::Less);
        // The first byte of "e acute" alone is U+DCC3, the whole letter U+00E9.
        assert_eq!(order(b"\xc3", b"\xc3\xa9"), Ordering::Greater);
    }
}

#[test]
fn a_difference_is_found_wherever_it_is() {
    for same in 0..50 {
        let (mut a, mut b) = (vec![b'x'; 50], vec![b'x'; 50]);
        assert_eq!(utf16_order(&a[..same], &b), Ordering::Less);
        (a[same], b[same]) = (b'b', b'a');
        assert_eq!(utf16_order(&a, &b), Ordering::Greater);
    }
}

#[test]
fn text_from_outside_is_shown_without_control_characters() {
    let shown = EscapedBytes("a\u{1b}[31m\u{202e}\\\u{e9}".as_bytes()).to_string();
    assert_eq!(shown, "a\\u{1b}[31m\\u{202e}\\\\\u{e9}");
    assert_eq!(EscapedBytes(b"\xff\n").to_string(), "\\xff\\n");
}

#[test]
fn a_stored_path_is_checked_when_it_is_read_back() {
    let stored = postcard::to_allocvec(&path(b"a/b")).unwrap();
    assert_eq!(
        postcard::from_bytes::<ManifestPath>(&stored),
        Ok(path(b"a/b"))
    );
    let bad = postcard::to_allocvec(b"../b".as_slice()).unwrap();
    assert!(postcard::from_bytes::<ManifestPath>(&bad).is_err());
    assert!(postcard::from_bytes::<Name>(&stored).is_err());
}
