//! What is read leniently is what Python reads, less what docs/formats.md lists, and with the same meaning.

use std::collections::BTreeMap;

use attachfs_manifest::wire::{
    DecodeError, Format, Manifest, decode, decode_lenient, encode_snapshot,
};
use attachfs_manifest::{ContentHash, ManifestPath, Node};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::entries::{any_name, files_only};
use super::{base64, bytes_of, python};

/// What to do to the text of a valid manifest.
#[derive(Debug, Clone)]
enum Damage {
    /// A field of the manifest, or of one of its entries, has another value.
    Value(Field, String),
    /// It is not there.
    Missing(Field),
    /// It is there twice, the second time with this value.
    Twice(Field, String),
    /// A field that nobody knows.
    Unknown(String),
    /// The last entry is there again, with another hash.
    EntryTwice,
    /// The text ends here, as a share of its length.
    CutOff(u8),
    /// One byte of it is another.
    Byte(u16, u8),
}

/// A field of the manifest, or of its last entry.
#[derive(Debug, Clone, Copy)]
struct Field {
    of_entry: bool,
    name: &'static str,
}

fn field() -> impl Strategy<Value = Field> {
    let of_manifest = ["hashAlg", "manifestVersion", "paths", "totalSize"];
    let of_entry = ["hash", "mtime", "path", "size"];
    let all = of_manifest
        .map(|name| (false, name))
        .into_iter()
        .chain(of_entry.map(|name| (true, name)));
    let all: Vec<_> = all
        .map(|(of_entry, name)| Field { of_entry, name })
        .collect();
    prop::sample::select(all)
}

fn value() -> impl Strategy<Value = String> {
    let fixed = vec![
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "-1",
        "1.0",
        "1.5",
        "1e2",
        "1e400",
        "NaN",
        "-Infinity",
        "01",
        "+1",
        "\"\"",
        "\"x\"",
        "\"1\"",
        "[]",
        "{}",
        "[[]]",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "123456789012345678901234567890",
        "\"xxh128\"",
        "\"xxh64\"",
        "\"2023-03-03\"",
        "\"2025-12\"",
        "\"a/./b\"",
        "\"./a\"",
        "\"a//b\"",
        "\"a/\"",
        "\"a/../b\"",
        "\"a/b/../../c\"",
        "\"../a\"",
        "\"a/../../b\"",
        "\"/a\"",
        "\".\"",
        "\"..\"",
        "\"a\\u0000b\"",
        "\"\\ud800\"",
        "\"\\udc80\"",
        "\"\\udcc3\\udca4\"",
        "\"C:/a\"",
        "\"a\\\\b\"",
        "\"0123456789abcdef0123456789abcdef\"",
        "\"0123456789ABCDEF0123456789ABCDEF\"",
        "\"0123456789abcdef\"",
        "\"0123456789abcdef0123456789abcdeg\"",
        "\"0123456789abcdef0123456789abcde/\"",
        "\"\\u0661\"",
    ];
    prop_oneof![
        8 => prop::sample::select(fixed).prop_map(str::to_owned),
        1 => (254..258_usize).prop_map(|len| format!("\"{}\"", "n".repeat(len))),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        6 => (field(), value()).prop_map(|(field, value)| Damage::Value(field, value)),
        1 => field().prop_map(Damage::Missing),
        3 => (field(), value()).prop_map(|(field, value)| Damage::Twice(field, value)),
        1 => value().prop_map(Damage::Unknown),
        1 => Just(Damage::EntryTwice),
        1 => any::<u8>().prop_map(Damage::CutOff),
        3 => (any::<u16>(), 0x20..0x7f_u8).prop_map(|(at, byte)| Damage::Byte(at, byte)),
    ]
}

/// Where a field of the last entry, or of the manifest, stands in a canonical text: its name, and its value after the colon.
fn place(text: &str, field: Field) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let paths = text.find("\"paths\":[")?;
    let end = text.rfind("],\"totalSize\":")?;
    let name = format!("\"{}\":", field.name);
    let start = match (field.of_entry, field.name) {
        (true, _) => text[paths..end].rfind(&name)? + paths,
        (false, "totalSize") => text.rfind(&name)?,
        (false, _) => text.find(&name)?,
    };
    let value = start + name.len();
    let len = match (field.of_entry, field.name) {
        (false, "paths") => end + 1 - value,
        (_, "totalSize" | "size") => text[value..].find('}')?,
        // In a string, a quotation mark that ends it comes before the next field.
        (true, "path") => text[value..].rfind(",\"size\":")?,
        _ => text[value..].find(',')?,
    };
    Some((start..value, value..value + len))
}

fn damaged(text: &str, damage: &Damage) -> Option<Vec<u8>> {
    let mut damaged = text.to_owned();
    match damage {
        Damage::Value(field, new) => {
            let (_, value) = place(text, *field)?;
            damaged.replace_range(value, new);
        }
        Damage::Missing(field) => {
            let (name, value) = place(text, *field)?;
            damaged.replace_range(name.start..value.end, "\"unknown\":0");
        }
        Damage::Twice(field, new) => {
            let (name, value) = place(text, *field)?;
            let again = format!(",{}{new}", &text[name]);
            damaged.insert_str(value.end, &again);
        }
        Damage::Unknown(value) => {
            // Nothing may be left of a text that was cut off before.
            text.get(..1)?;
            damaged.insert_str(1, &format!("\"unknown\":{value},"));
        }
        Damage::EntryTwice => {
            let end = text.rfind("],\"totalSize\":")?;
            let start = text[..end].rfind("{\"hash\":")?;
            let mut entry = text[start..end].to_owned();
            // Something else was damaged before.
            entry.get(9..41)?;
            entry.replace_range(9..41, &ContentHash::of(b"another").to_string());
            damaged.insert_str(end, &format!(",{entry}"));
        }
        // The cut may fall inside a character: the bytes are cut, not the text.
        Damage::CutOff(share) => {
            let len = text.len() * usize::from(*share) / 256;
            return Some(text.as_bytes()[..len].to_vec());
        }
        Damage::Byte(at, byte) => {
            let mut bytes = damaged.into_bytes();
            let at = usize::from(*at).checked_rem(bytes.len())?;
            bytes[at] = *byte;
            return Some(bytes);
        }
    }
    Some(damaged.into_bytes())
}

/// Whether a field is there twice that counts as it stands first: "Refused all the same" of "`--lenient`" in docs/formats.md.
fn repeats(damages: &[Damage]) -> bool {
    damages.iter().any(|damage| match damage {
        // With another damage the first one may be wrong too.
        Damage::Twice(field, _) => {
            damages.len() > 1 || matches!(field.name, "paths" | "manifestVersion")
        }
        _ => false,
    })
}

/// Numbers that JSON does not have, and surrogates that stand for no byte: "Refused all the same" of "`--lenient`" in docs/formats.md.
fn is_no_text(text: &str, error: &DecodeError) -> bool {
    let is_no_number = ["NaN", "Infinity"].iter().any(|part| text.contains(part));
    is_no_number || format!("{error:?}").contains("surrogate")
}

/// What [`decode_lenient`] refuses of what Python reads: "Refused all the same" of "`--lenient`" in docs/formats.md.
fn is_refused_all_the_same(entries: &[Value]) -> bool {
    let mut paths: Vec<Vec<u8>> = Vec::new();
    for entry in entries {
        let hash = entry["hash"].as_str().unwrap();
        if hash.parse::<ContentHash>().is_err() {
            return true;
        }
        // Larger numbers than these are floating-point ones here.
        let fits = |name: &str, least: i64| {
            let value = &entry[name];
            value.is_boolean() || value.as_i64().is_some_and(|number| number >= least)
        };
        if !fits("size", 0) || !fits("mtime", i64::MIN) {
            return true;
        }
        let path = bytes_of(&entry["path"]);
        match normalised(&path) {
            Some(path) => paths.push(path),
            None => return true,
        }
    }
    let is_file = |path: &[u8]| paths.iter().any(|other| other == path);
    paths.iter().any(|path| {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.into_iter().any(|(at, _)| is_file(&path[..at]))
    })
}

/// As text, if it stays below the root and is a path there.
fn normalised(path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    if path.first() == Some(&b'/') {
        return None;
    }
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let path = ManifestPath::new(&parts.join(&b'/')).ok()?;
    Some(path.as_bytes().to_vec())
}

/// What Python's entries mean: of a path that is there twice the last counts.
fn meant(entries: &[Value]) -> BTreeMap<Vec<u8>, Value> {
    let number = |value: &Value| match value.as_bool() {
        Some(truth) => i64::from(truth),
        None => value.as_i64().unwrap(),
    };
    let entries = entries.iter().map(|entry| {
        let path = normalised(&bytes_of(&entry["path"])).unwrap();
        (
            path,
            json!([
                entry["hash"],
                number(&entry["size"]),
                number(&entry["mtime"])
            ]),
        )
    });
    entries.collect()
}

#[test]
fn a_damaged_manifest_is_read_as_python_reads_it() {
    let Some(python) = python() else { return };
    let names = any_name().prop_map(|mut name| {
        // A quotation mark or a brace would be taken for the end of a value by this test.
        name.retain(|byte| !matches!(byte, b'"' | b',' | b'}' | b'{'));
        if name.is_empty() || name == b"." || name == b".." {
            vec![b'n']
        } else {
            name
        }
    });
    let damages = prop::collection::vec(damage(), 1..3);
    let config = ProptestConfig {
        cases: ProptestConfig::default().cases * 8,
        ..ProptestConfig::default()
    };
    proptest!(config, |(tree in files_only(names.boxed()), damages in damages)| {
        let mut text = encode_snapshot(&tree, Format::V2023_03_03).unwrap();
        for damage in &damages {
            if let Ok(valid) = str::from_utf8(&text)
                && let Some(damaged) = damaged(valid, damage)
            {
                text = damaged;
            }
        }
        let shown = String::from_utf8_lossy(&text).into_owned();
        let theirs = python.ask(&json!({ "op": "decode", "manifest": base64(&text) }));
        let ours = decode_lenient(&text);
        match (theirs, ours) {
            (Ok(told), Ok(ours)) => {
                let Manifest::Snapshot(snapshot) = &ours.manifest else { panic!("{shown}") };
                let entries = snapshot.entries().filter_map(|(path, node)| match node {
                    Node::File(file) => Some((path.as_bytes().to_vec(), json!([
                        file.content.hashes()[0].to_string(), file.size, file.mtime.0,
                    ]))),
                    Node::Dir | Node::Symlink(_) => None,
                });
                let entries: BTreeMap<_, _> = entries.collect();
                prop_assert_eq!(entries, meant(told["entries"].as_array().unwrap()), "{}", shown);
                prop_assert_eq!(decode(&text).err(), ours.fault, "{}", shown);
            }
            (Ok(told), Err(error)) => {
                let listed = repeats(&damages) || is_no_text(&shown, &error) || is_refused_all_the_same(told["entries"].as_array().unwrap());
                prop_assert!(listed, "{error:?} where Python reads {shown}");
            }
            (Err(refusal), Ok(_)) => {
                // "2023-03-03 with an empty `paths`" of "More lenient than a reference" in docs/formats.md.
                let is_empty = refusal.text == "paths must have a least one item";
                prop_assert!(is_empty, "{refusal} where this is read: {shown}");
            }
            (Err(_), Err(_)) => {}
        }
    });
}
