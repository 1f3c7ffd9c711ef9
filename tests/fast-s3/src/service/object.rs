//! One object: reading it or a range of it, and putting it there whole.

use std::io::{self, Write as _};

use super::{Answer, Body};
use crate::Shared;
use crate::answer::http_time;
use crate::connection::Upload;
use crate::headers::ObjectHeaders;
use crate::http::Head;
use crate::objects::{Condition, Object, Place, Published};
use crate::spare::Room;

fn is_named(etag: &str, by: &str) -> bool {
    let mut names = by.split(',').map(|name| name.trim().trim_matches('"'));
    names.any(|name| name == "*" || name == etag)
}

pub(super) fn get(shared: &Shared, head: &Head, place: &Place) -> io::Result<Answer> {
    let Some(mut object) = place.open()? else {
        return Ok(Answer::error(404, "NoSuchKey", &head.target.key));
    };
    let version = shared.faults.version(&head.target.key);
    object.etag = version.etag(object.etag);
    if let Some(expected) = head.header("if-match")
        && !is_named(&object.etag, expected)
    {
        return Ok(Answer::error(412, "PreconditionFailed", "If-Match"));
    }
    if let Some(known) = head.header("if-none-match")
        && is_named(&object.etag, known)
    {
        return Ok(Answer::empty(304).with_etag(&object.etag));
    }
    let Object { size, .. } = object;
    let wanted = Wanted::of(head.header("range"), size);
    let (start, end) = match wanted {
        Wanted::Whole => (0, size),
        Wanted::Part(start, end) => (start, end),
        Wanted::Behind => {
            return Ok(Answer::error(416, "InvalidRange", "behind the end")
                .with("Content-Range", format!("bytes */{size}")));
        }
    };
    let mut answer = Answer::empty(200)
        .with("Accept-Ranges", "bytes")
        .with("Last-Modified", http_time(object.modified))
        .with_etag(&object.etag);
    if let Wanted::Part(start, end) = wanted {
        let last = end - 1;
        answer.status = 206;
        answer = answer.with("Content-Range", format!("bytes {start}-{last}/{size}"));
    }
    for (name, value) in object.headers.iter() {
        answer = answer.with(name.to_owned(), value);
    }
    if !object
        .headers
        .iter()
        .any(|(name, _)| name == "content-type")
    {
        answer = answer.with("Content-Type", "binary/octet-stream");
    }
    answer.body = Body::File {
        file: object.file,
        start,
        length: end - start,
        wrong: version
            .wrong_byte(size)
            .filter(|at| (start..end).contains(at)),
    };
    Ok(answer)
}

/// The part of an object that a `Range` asks for.
enum Wanted {
    /// Also for what is not understood, as S3 does it.
    Whole,
    /// From the first offset up to the second.
    Part(u64, u64),
    /// Nothing of the object: it lies behind its end.
    Behind,
}

impl Wanted {
    fn of(header: Option<&str>, size: u64) -> Self {
        match header.and_then(|text| parse_range(text, size)) {
            None => Self::Whole,
            Some((start, end)) if start < end => Self::Part(start, end),
            Some(_) => Self::Behind,
        }
    }
}

/// Start and end of a range of an object of this size; the end is not before the start only if there are such bytes.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    match (first, last) {
        ("", last) => Some((size.saturating_sub(last.parse().ok()?), size)),
        (first, "") => Some((first.parse().ok()?, size)),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            let end = last.saturating_add(1).min(size);
            (first <= last).then_some((first, end))
        }
    }
}

pub(super) fn condition(head: &Head) -> Condition<'_> {
    match (head.header("if-none-match"), head.header("if-match")) {
        (Some(_), _) => Condition::Absent,
        (None, Some(etag)) => Condition::Is(etag.trim().trim_matches('"')),
        (None, None) => Condition::Any,
    }
}

pub(super) fn refused() -> Answer {
    Answer::error(
        412,
        "PreconditionFailed",
        "the object is not as it should be",
    )
}

pub(super) fn put(
    shared: &Shared,
    head: &Head,
    place: &Place,
    upload: &mut Upload<'_>,
) -> io::Result<Answer> {
    let staged = match head.length() {
        Some(length) => shared.objects.stage_over(place, Room::Exactly(length))?,
        None => shared.objects.stage(place)?,
    };
    let received = upload.receive(|piece| (&staged.file).write_all(piece))?;
    shared
        .counting
        .record(|counters| counters.received += received);
    let headers = ObjectHeaders::of_request(head.headers());
    let published = shared
        .objects
        .publish(&staged, place, &headers, condition(head))?;
    Ok(match published {
        Published::Done { etag } => Answer::empty(200).with_etag(&etag),
        Published::Refused => refused(),
    })
}
