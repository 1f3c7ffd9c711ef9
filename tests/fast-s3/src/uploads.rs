//! Uploads in parts, put together without copying.
//!
//! Parts nearly always have one length, the last excepted, so each is written where it will be: part `n` at `(n - 1) * length` of one
//! staged file, with the length of the first part that came. When all are there the file is cut to its end and renamed. It can turn
//! out that the first one to come was the short last one: the next, which is longer, begins another file, and at the end what is not
//! in its place is copied there.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::copy_file_range;

use crate::headers::ObjectHeaders;
use crate::objects::{Condition, Objects, Place, Published, Staged};
use crate::spare::Room;

/// All uploads that were begun and not ended.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    next: AtomicU64,
    open: Mutex<HashMap<String, Arc<PartedUpload>>>,
}

/// One upload.
#[derive(Debug)]
pub(crate) struct PartedUpload {
    pub(crate) bucket: String,
    pub(crate) key: String,
    place: Place,
    headers: ObjectHeaders,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    main: Arc<Staged>,
    /// Of the slots in the main file; nothing before the first part.
    slot: Option<u64>,
    received: BTreeMap<u32, Part>,
}

/// A part that is there, or a place for one that is coming.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) staged: Arc<Staged>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// How an upload ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Completed {
    Published(Published),
    /// A part that was named is not there, or they are not in order.
    InvalidParts,
}

impl Uploads {
    /// Gives the upload's id.
    pub(crate) fn begin(
        &self,
        objects: &Objects,
        (bucket, key): (&str, &str),
        place: Place,
        headers: ObjectHeaders,
    ) -> io::Result<String> {
        let main = Arc::new(objects.stage_over(&place, Room::Large)?);
        let id = format!("upload-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let upload = PartedUpload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            place,
            headers,
            parts: Mutex::new(Parts {
                main,
                slot: None,
                received: BTreeMap::new(),
            }),
        };
        self.open.lock().insert(id.clone(), Arc::new(upload));
        Ok(id)
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<PartedUpload>> {
        self.open.lock().get(id).cloned()
    }

    /// Whether it was there. Its bytes go when nobody is sending parts of it any more.
    pub(crate) fn end(&self, id: &str) -> bool {
        self.open.lock().remove(id).is_some()
    }

    /// Ids and uploads of a bucket.
    pub(crate) fn of_bucket(&self, bucket: &str) -> Vec<(String, Arc<PartedUpload>)> {
        let open = self.open.lock();
        let of_bucket = open.iter().filter(|(_, upload)| upload.bucket == bucket);
        let mut found: Vec<_> = of_bucket
            .map(|(id, upload)| (id.clone(), Arc::clone(upload)))
            .collect();
        found.sort_by(|a, b| (&a.1.key, &a.0).cmp(&(&b.1.key, &b.0)));
        found
    }
}

impl PartedUpload {
    /// Where the bytes of a part go. One whose length is not known beforehand gets a file of its own.
    pub(crate) fn reserve(
        &self,
        objects: &Objects,
        number: u32,
        length: Option<u64>,
    ) -> io::Result<Part> {
        let Some(length) = length else {
            return Ok(Part {
                staged: Arc::new(objects.stage(&self.place)?),
                offset: 0,
                length: 0,
            });
        };
        let mut parts = self.parts.lock();
        let slot = match parts.slot {
            Some(slot) if length <= slot => slot,
            None => length,
            Some(_) => {
                // What came first was the short last part.
                parts.main = Arc::new(objects.stage(&self.place)?);
                length
            }
        };
        parts.slot = Some(slot);
        Ok(Part {
            staged: Arc::clone(&parts.main),
            offset: u64::from(number.saturating_sub(1)) * slot,
            length,
        })
    }

    /// Keeps a part, all of whose bytes are where [`Self::reserve`] said.
    pub(crate) fn keep(&self, number: u32, part: Part) {
        self.parts.lock().received.insert(number, part);
    }

    /// Numbers and lengths of the parts that are there.
    pub(crate) fn received(&self) -> Vec<(u32, u64)> {
        let parts = self.parts.lock();
        let received = parts.received.iter();
        received
            .map(|(&number, part)| (number, part.length))
            .collect()
    }

    /// Makes an object of these parts, in this order.
    pub(crate) fn complete(
        &self,
        objects: &Objects,
        numbers: &[u32],
        condition: Condition<'_>,
    ) -> io::Result<Completed> {
        let mut parts = self.parts.lock();
        let found = numbers
            .iter()
            .map(|number| parts.received.get(number).cloned());
        let Some(found) = found.collect::<Option<Vec<_>>>() else {
            return Ok(Completed::InvalidParts);
        };
        if found.is_empty() || !numbers.is_sorted_by(|a, b| a < b) {
            return Ok(Completed::InvalidParts);
        }
        let length = assemble(objects, &self.place, &mut parts.main, &found)?;
        parts.main.file.set_len(length)?;
        let published = objects.publish(&parts.main, &self.place, &self.headers, condition)?;
        Ok(Completed::Published(published))
    }
}

/// Brings all parts to their places in one file, which is another one if parts are in the way of each other. Gives its length.
fn assemble(
    objects: &Objects,
    place: &Place,
    main: &mut Arc<Staged>,
    parts: &[Part],
) -> io::Result<u64> {
    let mut length = 0;
    let mut placed = Vec::with_capacity(parts.len());
    for part in parts {
        placed.push((part, length));
        length += part.length;
    }
    let is_misplaced =
        |(part, wanted): &(&Part, u64)| Arc::ptr_eq(&part.staged, main) && part.offset != *wanted;
    if placed.iter().any(is_misplaced) {
        *main = Arc::new(objects.stage(place)?);
    }
    for (part, wanted) in placed {
        if !Arc::ptr_eq(&part.staged, main) {
            copy(part, main, wanted)?;
        }
    }
    Ok(length)
}

fn copy(part: &Part, to: &Staged, mut at: u64) -> io::Result<()> {
    let mut from = part.offset;
    let end = from + part.length;
    while from < end {
        let left = (end - from) as usize;
        let (source, target) = (&part.staged.file, &to.file);
        let copied = copy_file_range(source, Some(&mut from), target, Some(&mut at), left)?;
        if copied == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
