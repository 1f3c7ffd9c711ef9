//! [`Verifier`]: verifies an object while its bytes pass in order.

use std::sync::Arc;

use attachfs_manifest::{ContentHash, Hasher};

use crate::FetchError;

/// Verifies an object whose bytes all pass, from the first to the last.
#[derive(Debug)]
pub struct Verifier {
    hash: ContentHash,
    len: u64,
    /// Bytes that passed.
    at: u64,
    hasher: Hasher,
    version: Option<Arc<str>>,
}

impl Verifier {
    /// A verifier for an object of `len` bytes.
    pub fn new(hash: ContentHash, len: u64) -> Self {
        Self {
            hash,
            len,
            at: 0,
            hasher: Hasher::new(),
            version: None,
        }
    }

    /// Takes the next bytes, and the version of the object that they come from, if the store tells it. Fails
    /// if the object was replaced since the first bytes, and at the last bytes if the hash is wrong.
    pub fn add(&mut self, bytes: &[u8], version: Option<&Arc<str>>) -> Result<(), FetchError> {
        if let Some(version) = version {
            if self.version.as_ref().is_some_and(|first| first != version) {
                return Err(FetchError::Replaced { hash: self.hash });
            }
            self.version = Some(Arc::clone(version));
        }
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        if self.at < self.len {
            return Ok(());
        }
        let (hash, found) = (self.hash, self.hasher.finish());
        if found == hash {
            Ok(())
        } else {
            Err(FetchError::Damaged { hash, found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"in two parts";

    fn verifier() -> Verifier {
        Verifier::new(ContentHash::of(TEXT), TEXT.len() as u64)
    }

    #[test]
    fn bytes_that_are_right_pass_in_any_parts() {
        for cut in 0..TEXT.len() {
            let mut verifier = verifier();
            verifier.add(&TEXT[..cut], None).unwrap();
            verifier.add(&TEXT[cut..], None).unwrap();
        }
    }

    #[test]
    fn damage_anywhere_is_found_with_the_last_bytes() {
        let mut verifier = verifier();
        verifier.add(b"In two", None).unwrap();
        let error = verifier.add(&TEXT[6..], None).unwrap_err();
        assert!(matches!(error, FetchError::Damaged { .. }), "{error}");
    }

    #[test]
    fn parts_of_two_versions_are_not_put_together() {
        let mut verifier = verifier();
        let versions: [Arc<str>; 2] = ["1".into(), "2".into()];
        verifier.add(&TEXT[..3], Some(&versions[0])).unwrap();
        verifier.add(&TEXT[3..6], None).unwrap();
        let error = verifier.add(&TEXT[6..], Some(&versions[1])).unwrap_err();
        assert!(matches!(error, FetchError::Replaced { .. }), "{error}");
    }
}
