use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn string(text: &str) -> Result<Vec<u8>, &'static str> {
    let read = Reader::new(text, Rules::Strict).string();
    read.map(Cow::into_owned).map_err(|error| error.problem)
}

#[test]
fn escapes_are_the_characters_they_stand_for() {
    assert_eq!(
        string(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\u0041""#).unwrap(),
        "a\"\\/\u{8}\u{c}\n\r\t\u{e9}\u{1f600}A".as_bytes()
    );
    assert_eq!(
        string("\"\u{e9}\\n\u{e9}\"").unwrap(),
        "\u{e9}\n\u{e9}".as_bytes()
    );
}

#[test]
fn a_lone_surrogate_is_the_byte_that_was_not_utf8() {
    assert_eq!(
        string(r#""bad\udcff\udcfename""#).unwrap(),
        b"bad\xff\xfename"
    );
    assert_eq!(string(r#""\udcc3\u00e9""#).unwrap(), b"\xc3\xc3\xa9");
}

#[test]
fn a_string_that_would_be_written_differently_is_refused() {
    let spelled = Err("surrogates that spell a character");
    assert_eq!(string(r#""\udcc3\udca9""#), spelled);
    let nothing = Err("a surrogate that stands for no character and no byte");
    for text in [
        r#""\ud83d""#,
        r#""\ud83dx""#,
        r#""\ud83d\u0041""#,
        r#""\ud83d\ud83d\ude00""#,
        r#""\udc41""#,
        r#""\udd00""#,
    ] {
        assert_eq!(string(text), nothing, "{text}");
    }
}

#[test]
fn integers_have_no_fraction_no_exponent_and_no_leading_zero() {
    let read = |text: &str| Reader::new(text, Rules::Strict).integer();
    assert_eq!(read("-1").map(i64::try_from), Ok(Ok(-1)));
    assert_eq!(read("-0").map(u64::try_from), Ok(Ok(0)));
    let least = i64::MIN.to_string();
    assert_eq!(read(&least).map(i64::try_from), Ok(Ok(i64::MIN)));
    let most = u64::MAX.to_string();
    assert_eq!(read(&most).map(u64::try_from), Ok(Ok(u64::MAX)));
    assert!(i64::try_from(read(&most).unwrap()).is_err());
    assert!(u64::try_from(read("-1").unwrap()).is_err());
    assert!(u64::try_from(read("18446744073709551616").unwrap()).is_err());
    for text in ["1.0", "1e3", "01", "-", "", "true", "\"1\""] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn the_first_character_that_does_not_stand_for_itself_is_found_wherever_it_is() {
    for special in ["\"", "\\", "\n", "\0", "\u{1f}"] {
        for before in 0..40 {
            let text = format!("{}{special}\"\u{e9}~\u{7f} !", "\u{7f}".repeat(before));
            assert_eq!(plain_len(text.as_bytes()), before, "{text:?}");
        }
    }
    assert_eq!(plain_len("\u{e9}\u{1f600}\u{80} #[]~".as_bytes()), 13);
}

#[test]
fn values_nested_without_end_are_refused() {
    let text = "[".repeat(1_000_000);
    let error = Reader::new(&text, Rules::Strict).skip().unwrap_err();
    assert_eq!(error.problem, "values nested too deeply");
}

fn accepts(text: &str) -> bool {
    let mut reader = Reader::new(text, Rules::Strict);
    reader.skip().and_then(|()| reader.end()).is_ok()
}

proptest! {
    #[test]
    fn the_reader_takes_what_serde_json_takes(
        text in r#"([\[\]{}:, ]|"[a\\/u0-9]{0,6}"|-?[0-9.eE+-]{1,4}|true|false|nul{1,2}|"a":){0,12}"#
    ) {
        let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        prop_assert_eq!(accepts(&text), expected);
    }

    #[test]
    fn an_altered_document_is_taken_where_serde_json_takes_it(
        at in 0..80_usize, put in "[\\[\\]{}:,\"\\\\0-9a-z ]{0,2}", cut in 0..3_usize
    ) {
        let mut text = r#"{"a":[1,-2.5e+3,true,null,"x\u00e9\n"],"b":{"c":{},"d":[]},"e":0,"f":""}"#.to_owned();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &put);
        let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        prop_assert_eq!(accepts(&text), expected, "{}", text);
    }
}
