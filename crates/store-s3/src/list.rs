//! Listing, with the SDK's `ListObjectsV2`.

use std::time::Duration;

use attachfs_store::{Folder, Listed, Page, RequestKind, StoreError};

use crate::S3Store;
use crate::error::NoAnswer;
use crate::manifest::time;
use crate::via_sdk::Purpose;

impl S3Store {
    /// One request. A page begins after a key and not at a token, so that a listing can be taken up
    /// at any time.
    pub(crate) async fn list_page(
        &self,
        folder: &Folder,
        after: Option<&str>,
    ) -> Result<Page, StoreError> {
        let start = self.prefix.join(&folder.key_start());
        let below = self.prefix.join("");
        let mut last = after.unwrap_or_default().to_owned();
        let after = after.map(|after| self.prefix.join(after));
        let request = self.client.list_objects_v2().bucket(self.bucket.as_str());
        let request = request.prefix(&start).set_start_after(after);
        let purpose = Purpose {
            kind: RequestKind::List,
            doing: "listing",
            url: &self.url(&start),
        };
        let send = || request.clone().send();
        let answer = self.direct.call(purpose, Duration::ZERO, send).await;
        let answer = answer.map_err(|failure| failure.error)?;
        let strange = |what| StoreError::Other {
            what: format!("listing {}", self.url(&start)),
            source: Box::new(NoAnswer::new(what)),
        };
        let mut page = Page::default();
        for object in answer.contents() {
            let key = object.key().and_then(|key| key.strip_prefix(&below));
            let key = key.ok_or_else(|| strange("the answer has a key that was not asked for"))?;
            // Otherwise the listing could begin again with each page, and never end.
            if *key <= *last {
                return Err(strange(
                    "the answer's keys are not in order behind the one that was named",
                ));
            }
            key.clone_into(&mut last);
            let len = object.size().and_then(|len| len.try_into().ok());
            let len = len.ok_or_else(|| strange("the answer has an object without a length"))?;
            let modified = object.last_modified().and_then(time);
            page.entries
                .push(Listed::new(key.to_owned(), len, modified));
        }
        if answer.is_truncated() == Some(true) {
            let last = page.entries.last();
            let last =
                last.ok_or_else(|| strange("the answer has nothing, and says there is more"))?;
            page.next = Some(last.key.clone());
        }
        Ok(page)
    }
}
