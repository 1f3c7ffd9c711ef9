//! What an answer is: one function for each operation of S3 that clients of job attachments use.
//!
//! Anything else is answered with 501, so that a measurement cannot silently leave something out.

mod lists;
mod object;
mod upload;

use std::io;
use std::time::Duration;

use crate::Shared;
use crate::answer::{Answer, Body};
use crate::connection::Upload;
use crate::counters::Counters;
use crate::http::Head;
use crate::pace::Pace;
use crate::target::Target;

/// How a request is counted.
pub(crate) fn counter(head: &Head) -> impl FnOnce(&mut Counters) + use<> {
    let Target { bucket, key, .. } = &head.target;
    let has = |name| head.target.has(name);
    let count: fn(&mut Counters) = match head.method.as_str() {
        "GET" if !key.is_empty() && !has("uploadId") => |counters| counters.get += 1,
        "GET" if !bucket.is_empty() && has("list-type") => |counters| counters.list += 1,
        "HEAD" if !key.is_empty() => |counters| counters.head += 1,
        "PUT" if has("uploadId") => |counters| counters.part += 1,
        "PUT" if !key.is_empty() => |counters| counters.put += 1,
        "POST" if has("uploads") => |counters| counters.create += 1,
        "POST" if has("uploadId") => |counters| counters.complete += 1,
        "DELETE" => |counters| counters.delete += 1,
        _ => |counters| counters.other += 1,
    };
    count
}

/// Answers a request to S3.
pub(crate) fn answer(shared: &Shared, head: &Head, upload: &mut Upload<'_>) -> Answer {
    let done = if head.target.bucket.is_empty() {
        of_server(head, upload)
    } else if shared.objects.bucket(&head.target.bucket).is_none() {
        Ok(Answer::error(404, "NoSuchBucket", &head.target.bucket))
    } else if head.target.key.is_empty() {
        of_bucket(shared, head)
    } else {
        of_object(shared, head, upload)
    };
    done.unwrap_or_else(|error| Answer::error(500, "InternalError", &error.to_string()))
}

fn not_implemented(head: &Head) -> Answer {
    Answer::error(501, "NotImplemented", &format!("{} of this", head.method))
}

/// Clients ask whose keys they have before they name the owner of a bucket.
fn of_server(head: &Head, upload: &mut Upload<'_>) -> io::Result<Answer> {
    if head.method != "POST" {
        return Ok(not_implemented(head));
    }
    let mut asked = Vec::new();
    upload.receive(|piece| {
        asked.extend_from_slice(piece);
        Ok(())
    })?;
    if !String::from_utf8_lossy(&asked).contains("Action=GetCallerIdentity") {
        return Ok(not_implemented(head));
    }
    let text = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                <GetCallerIdentityResult><Arn>arn:aws:iam::000000000000:root</Arn>\
                <UserId>000000000000</UserId><Account>000000000000</Account>\
                </GetCallerIdentityResult></GetCallerIdentityResponse>";
    Ok(Answer {
        body: Body::Text(text.to_owned()),
        ..Answer::empty(200)
    }
    .with("Content-Type", "text/xml"))
}

fn of_bucket(shared: &Shared, head: &Head) -> io::Result<Answer> {
    let target = &head.target;
    match head.method.as_str() {
        "HEAD" => Ok(Answer::empty(200).with("x-amz-bucket-region", "us-east-1")),
        "GET" if target.has("location") => Ok(Answer::xml("LocationConstraint", "")),
        "GET" if target.has("uploads") => Ok(lists::list_uploads(shared, target)),
        "GET" if target.value("list-type") == Some("2") => lists::list_objects(shared, target),
        _ => Ok(not_implemented(head)),
    }
}

fn of_object(shared: &Shared, head: &Head, upload: &mut Upload<'_>) -> io::Result<Answer> {
    let target = &head.target;
    let reads = matches!(head.method.as_str(), "GET" | "HEAD");
    let Some(place) = shared.objects.place(&target.bucket, &target.key) else {
        return Ok(if reads {
            Answer::error(404, "NoSuchKey", &target.key)
        } else {
            Answer::error(400, "InvalidArgument", "no file can have this key")
        });
    };
    match (head.method.as_str(), target.value("uploadId")) {
        ("GET" | "HEAD", None) => object::get(shared, head, &place),
        ("PUT", None) if head.header("x-amz-copy-source").is_none() => {
            object::put(shared, head, &place, upload)
        }
        ("DELETE", None) => {
            place.delete()?;
            Ok(Answer::empty(204))
        }
        ("POST", None) if target.has("uploads") => upload::begin(shared, head, place),
        (_, Some(id)) => match shared.uploads.find(id) {
            Some(found) if found.bucket == target.bucket && found.key == target.key => {
                upload::of_upload(shared, head, (id, &found), upload)
            }
            _ => Ok(Answer::error(404, "NoSuchUpload", id)),
        },
        _ => Ok(not_implemented(head)),
    }
}

/// Answers a request to the server itself, below `/-/`.
pub(crate) fn control(shared: &Shared, head: &Head) -> Answer {
    let number = |name: &str| head.target.value(name).and_then(|text| text.parse().ok());
    match (head.method.as_str(), head.target.key.as_str()) {
        ("GET", "counters") => match serde_json::to_string(&shared.counting.read()) {
            Ok(text) => Answer {
                body: Body::Text(text),
                ..Answer::empty(200)
            }
            .with("Content-Type", "application/json"),
            Err(error) => Answer::error(500, "InternalError", &error.to_string()),
        },
        ("POST", "reset") => {
            shared.counting.reset();
            Answer::empty(204)
        }
        ("POST", "pace") => {
            *shared.pace.lock() = Pace {
                delay: Duration::from_millis(number("delay_ms").unwrap_or(0)),
                bytes_per_s: number("bytes_per_s").unwrap_or(0),
            };
            Answer::empty(204)
        }
        ("POST", "faults") => {
            shared.faults.set(number);
            Answer::empty(204)
        }
        ("GET", "faults") => match serde_json::to_string(&shared.faults.told()) {
            Ok(text) => Answer {
                body: Body::Text(text),
                ..Answer::empty(200)
            }
            .with("Content-Type", "application/json"),
            Err(error) => Answer::error(500, "InternalError", &error.to_string()),
        },
        ("POST", "recycle") => {
            let value = |name| head.target.value(name).unwrap_or_default();
            match shared.objects.recycle(value("bucket"), value("prefix")) {
                Ok(true) => Answer::empty(204),
                Ok(false) => Answer::error(404, "NoSuchKey", "nothing is there"),
                Err(error) => Answer::error(500, "InternalError", &error.to_string()),
            }
        }
        _ => not_implemented(head),
    }
}
