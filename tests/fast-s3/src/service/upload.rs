//! An object that comes in parts.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::lists::list_parts;
use super::object::{condition, refused};
use super::{Answer, not_implemented};
use crate::Shared;
use crate::connection::Upload;
use crate::headers::ObjectHeaders;
use crate::http::Head;
use crate::objects::{Place, Published};
use crate::target::Target;
use crate::uploads::{Completed, PartedUpload};
use crate::xml::{escaped, texts};

pub(super) fn begin(shared: &Shared, head: &Head, place: Place) -> io::Result<Answer> {
    let Target { bucket, key, .. } = &head.target;
    let headers = ObjectHeaders::of_request(head.headers());
    let id = shared
        .uploads
        .begin(&shared.objects, (bucket, key), place, headers)?;
    let inside = format!(
        "<Bucket>{bucket}</Bucket><Key>{}</Key><UploadId>{id}</UploadId>",
        escaped(key)
    );
    Ok(Answer::xml("InitiateMultipartUploadResult", &inside))
}

pub(super) fn of_upload(
    shared: &Shared,
    head: &Head,
    (id, found): (&str, &Arc<PartedUpload>),
    upload: &mut Upload<'_>,
) -> io::Result<Answer> {
    match head.method.as_str() {
        "PUT" => put_part(shared, head, found, upload),
        "POST" => complete(shared, head, (id, found), upload),
        "GET" => Ok(list_parts(id, found)),
        "DELETE" => {
            shared.uploads.end(id);
            Ok(Answer::empty(204))
        }
        _ => Ok(not_implemented(head)),
    }
}

/// The `ETag` of a part says which it is: they are not compared when the upload ends.
pub(super) fn part_etag(number: u32, length: u64) -> String {
    format!("part-{number}-{length:x}")
}

fn put_part(
    shared: &Shared,
    head: &Head,
    found: &PartedUpload,
    upload: &mut Upload<'_>,
) -> io::Result<Answer> {
    const MOST: u32 = 10_000;
    let number = head
        .target
        .value("partNumber")
        .and_then(|text| text.parse().ok());
    let Some(number) = number.filter(|number| (1..=MOST).contains(number)) else {
        return Ok(Answer::error(400, "InvalidArgument", "partNumber"));
    };
    let mut part = found.reserve(&shared.objects, number, head.length())?;
    let mut at = part.offset;
    let length = upload.receive(|piece| {
        part.staged.file.write_all_at(piece, at)?;
        at += piece.len() as u64;
        Ok(())
    })?;
    part.length = length;
    found.keep(number, part);
    shared
        .counting
        .record(|counters| counters.received += length);
    Ok(Answer::empty(200).with_etag(&part_etag(number, length)))
}

fn complete(
    shared: &Shared,
    head: &Head,
    (id, found): (&str, &PartedUpload),
    upload: &mut Upload<'_>,
) -> io::Result<Answer> {
    let mut asked = Vec::new();
    upload.receive(|piece| {
        asked.extend_from_slice(piece);
        Ok(())
    })?;
    let asked = String::from_utf8_lossy(&asked);
    let numbers = texts(&asked, "PartNumber").into_iter().map(str::parse);
    let Ok(numbers) = numbers.collect::<Result<Vec<u32>, _>>() else {
        return Ok(Answer::error(400, "MalformedXML", "PartNumber"));
    };
    match found.complete(&shared.objects, &numbers, condition(head))? {
        Completed::InvalidParts => Ok(Answer::error(
            400,
            "InvalidPart",
            "not there or not in order",
        )),
        Completed::Published(Published::Refused) => Ok(refused()),
        Completed::Published(Published::Done { etag }) => {
            shared.uploads.end(id);
            let inside = format!(
                "<Bucket>{}</Bucket><Key>{}</Key><ETag>&quot;{etag}&quot;</ETag>",
                found.bucket,
                escaped(&found.key)
            );
            Ok(Answer::xml("CompleteMultipartUploadResult", &inside))
        }
    }
}
