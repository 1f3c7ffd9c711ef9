//! Objects, parts and uploads as lists.

use std::io;

use super::Answer;
use super::upload::part_etag;
use crate::Shared;
use crate::answer::xml_time;
use crate::listing::{self, Asked, Entry};
use crate::target::{Target, encoded};
use crate::uploads::PartedUpload;
use crate::xml::escaped;

pub(super) fn list_parts(id: &str, found: &PartedUpload) -> Answer {
    let mut inside = format!(
        "<Bucket>{}</Bucket><Key>{}</Key><UploadId>{id}</UploadId><IsTruncated>false</IsTruncated>",
        found.bucket,
        escaped(&found.key)
    );
    for (number, length) in found.received() {
        let etag = part_etag(number, length);
        inside.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag><Size>{length}</Size></Part>"
        ));
    }
    Answer::xml("ListPartsResult", &inside)
}

pub(super) fn list_uploads(shared: &Shared, target: &Target) -> Answer {
    let prefix = target.value("prefix").unwrap_or_default();
    let mut inside = format!(
        "<Bucket>{}</Bucket><IsTruncated>false</IsTruncated>",
        target.bucket
    );
    for (id, upload) in shared.uploads.of_bucket(&target.bucket) {
        if upload.key.starts_with(prefix) {
            let key = escaped(&upload.key);
            inside.push_str(&format!(
                "<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>"
            ));
        }
    }
    Answer::xml("ListMultipartUploadsResult", &inside)
}

pub(super) fn list_objects(shared: &Shared, target: &Target) -> io::Result<Answer> {
    const MOST: usize = 1000;
    let value = |name| target.value(name).unwrap_or_default();
    let most = target.value("max-keys").map(str::parse);
    let Ok(most) = most.unwrap_or(Ok(MOST)) else {
        return Ok(Answer::error(400, "InvalidArgument", "max-keys"));
    };
    let (prefix, delimiter) = (value("prefix"), value("delimiter"));
    if !matches!(delimiter, "" | "/") {
        return Ok(Answer::error(
            501,
            "NotImplemented",
            "a delimiter that is not /",
        ));
    }
    let asked = Asked {
        prefix,
        delimiter,
        after: target
            .value("continuation-token")
            .unwrap_or(value("start-after")),
        most: most.min(MOST),
    };
    let bucket = shared.objects.bucket(&target.bucket);
    let Some(bucket) = bucket else {
        return Ok(Answer::error(404, "NoSuchBucket", &target.bucket));
    };
    let page = listing::list(&bucket, &asked)?;
    let is_encoded = value("encoding-type") == "url";
    let shown = |text: &str| {
        if is_encoded {
            encoded(text)
        } else {
            escaped(text)
        }
    };
    let mut inside = format!(
        "<Name>{}</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount><MaxKeys>{}</MaxKeys><IsTruncated>{}</IsTruncated>",
        target.bucket,
        shown(prefix),
        page.entries.len(),
        asked.most,
        page.is_truncated,
    );
    if !delimiter.is_empty() {
        inside.push_str("<Delimiter>/</Delimiter>");
    }
    if is_encoded {
        inside.push_str("<EncodingType>url</EncodingType>");
    }
    if page.is_truncated
        && let Some(last) = page.entries.last()
    {
        let token = escaped(last.name());
        inside.push_str(&format!(
            "<NextContinuationToken>{token}</NextContinuationToken>"
        ));
    }
    for entry in &page.entries {
        inside.push_str(&match entry {
            Entry::CommonPrefix(prefix) => {
                let prefix = shown(prefix);
                format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>")
            }
            Entry::Object {
                key,
                size,
                modified,
                etag,
            } => format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                shown(key),
                xml_time(*modified),
            ),
        });
    }
    Ok(Answer::xml("ListBucketResult", &inside))
}
