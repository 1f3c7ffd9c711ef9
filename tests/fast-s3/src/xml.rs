//! The little XML that S3 speaks.

/// Text between two tags.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // What XML would not give back as it is.
            '\0'..='\x1f' => out.push_str(&format!("&#x{:X};", u32::from(character))),
            _ => out.push(character),
        }
    }
    out
}

/// A document whose outermost element has this name.
pub(crate) fn document(name: &str, inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{inside}</{name}>"
    )
}

/// What stands in all elements of this name that have nothing but text, in their order.
pub(crate) fn texts<'a>(document: &'a str, name: &str) -> Vec<&'a str> {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let parts = document.split(start.as_str()).skip(1);
    parts
        .filter_map(|part| Some(part.split_once(end.as_str())?.0.trim()))
        .collect()
}
