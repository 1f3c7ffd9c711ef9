//! JSON as Python's `json.dumps` writes it: in ASCII, a space behind each comma and colon.

/// A text.
pub(crate) fn text(text: &str) -> String {
    let mut json = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'"') => json += "\\\"",
            Ok(b'\\') => json += "\\\\",
            Ok(b'\n') => json += "\\n",
            Ok(b'\r') => json += "\\r",
            Ok(b'\t') => json += "\\t",
            Ok(8) => json += "\\b",
            Ok(12) => json += "\\f",
            Ok(byte @ b' '..=b'~') => json.push(char::from(byte)),
            _ => json += &format!("\\u{unit:04x}"),
        }
    }
    json.push('"');
    json
}

/// A list of what is JSON already.
pub(crate) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// An object: names, which need no escapes, and what is JSON already.
pub(crate) fn object(fields: &[(&str, String)]) -> String {
    let fields = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\": {value}"));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}
