//! Texts that are almost an address in S3, and the address that was probably meant.
//!
//! Any text may be the name of a directory, so a mistyped `s3://` would make one: the upload would then be on
//! this machine, where no worker looks. So such texts are refused, and the error names the address that was
//! probably meant. A directory of such a name can be given with `./` before it.

use super::S3_SCHEME;

/// The address that was probably meant, if the text is almost one.
pub(super) fn meant(text: &str) -> Option<String> {
    let trimmed = text.trim();
    if text.starts_with(S3_SCHEME) {
        return None;
    }
    of_scheme(trimmed)
        .or_else(|| of_arn(trimmed))
        .or_else(|| of_url(trimmed))
}

fn s3(rest: &str) -> String {
    format!("{S3_SCHEME}{}", rest.trim_start_matches('/'))
}

/// The text after a prefix that is compared without regard to case.
fn after<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let head = text.get(..beginning.len())?;
    head.eq_ignore_ascii_case(beginning)
        .then(|| &text[beginning.len()..])
}

/// `s3:/b/p`, `S3://b`, `s3:b`, `s3//b`, `s3a://b`, and the right one with blanks around it.
fn of_scheme(text: &str) -> Option<String> {
    ["s3:", "s3//", "s3a:", "s3n:"]
        .iter()
        .find_map(|beginning| after(text, beginning))
        .map(s3)
}

/// `arn:aws:s3:::bucket/prefix`
fn of_arn(text: &str) -> Option<String> {
    let rest = after(text, "arn:")?;
    let mut parts = rest.splitn(5, ':').skip(1);
    let (service, bucket) = (parts.next()?, parts.nth(2)?);
    service.eq_ignore_ascii_case("s3").then(|| s3(bucket))
}

/// `https://bucket.s3.us-west-2.amazonaws.com/prefix`, with the bucket in the path too, and without the scheme.
fn of_url(text: &str) -> Option<String> {
    let text = after(text, "https://")
        .or_else(|| after(text, "http://"))
        .unwrap_or(text);
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let host = host.to_ascii_lowercase();
    let host = host
        .strip_suffix(".amazonaws.com")
        .or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let is_service = |label: &str| label == "s3" || label.starts_with("s3-");
    if host.split('.').next().is_some_and(is_service) {
        return Some(s3(path));
    }
    let at = host.match_indices('.').map(|(at, _)| at);
    let mut ends = at.filter(|at| host[at + 1..].split('.').next().is_some_and(is_service));
    let bucket = &host[..ends.next_back()?];
    let slash = if path.is_empty() { "" } else { "/" };
    Some(format!("{S3_SCHEME}{bucket}{slash}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_almost_an_address_is_refused_with_the_address_meant() {
        for (text, address) in [
            ("s3:/b/p", "s3://b/p"),
            ("s3:b/p", "s3://b/p"),
            ("s3:///b/p", "s3://b/p"),
            ("S3://b/p/", "s3://b/p/"),
            ("s3//b/p", "s3://b/p"),
            ("s3a://b/p", "s3://b/p"),
            (" s3://b/p", "s3://b/p"),
            ("arn:aws:s3:::b/p", "s3://b/p"),
            ("https://b.c.s3.us-west-2.amazonaws.com/p", "s3://b.c/p"),
            ("https://b.s3.amazonaws.com", "s3://b"),
            ("https://s3.eu-west-1.amazonaws.com/b/p", "s3://b/p"),
            ("http://s3-eu-west-1.amazonaws.com/b", "s3://b"),
            ("b.s3.cn-north-1.amazonaws.com.cn/p", "s3://b/p"),
        ] {
            let expected = (text != address).then(|| address.to_owned());
            // Three slashes begin as an address does.
            let expected = expected.filter(|_| !text.starts_with("s3://"));
            assert_eq!(meant(text), expected, "{text}");
        }
    }

    #[test]
    fn directories_and_addresses_are_left_alone() {
        for text in [
            "s3",
            "s3/b",
            "./s3:/b",
            "/srv/s3:/b",
            "s3://b/p",
            "s3-mirror",
            "arn",
            "amazonaws.com",
            "ünï",
            "ſ3:",
        ] {
            assert_eq!(meant(text), None, "{text}");
        }
    }
}
