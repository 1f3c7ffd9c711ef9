//! How to reach a bucket, and how patient to be with it.

use std::fmt;
use std::time::Duration;

use attachfs_store::{BucketName, RootPrefix, S3Access};

/// How to reach a store in S3. What is `None` comes from the standard AWS places: environment,
/// profile files, the machine's role.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The bucket.
    pub bucket: BucketName,
    /// Where in it the store begins.
    pub prefix: RootPrefix,
    /// How to reach it.
    pub access: S3Access,
    /// Keys that the caller has, instead of the standard places.
    pub credentials: Option<S3Credentials>,
    /// How many attempts a request has in all. `None`: as in the AWS configuration, or 3. Answers that
    /// ask for slower requests and connections that fail for a few seconds do not count, as long as
    /// time is left.
    pub max_attempts: Option<u32>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one attempt of a request may take, beside its body.
    pub attempt_timeout: Duration,
    /// How long a request may take with all its attempts, beside its bodies and the time for which
    /// it waits for other requests of this store.
    pub operation_timeout: Duration,
    /// The most that is waited before a request is made again; doubled with each failure, up to 20
    /// seconds.
    pub first_wait: Duration,
    /// How long a body may carry nothing.
    pub stall_timeout: Duration,
    /// The time over which the rate of a body is measured for [`S3Access::min_rate`].
    pub min_rate_window: Duration,
}

impl S3Options {
    /// Options for a bucket with everything else as usual.
    pub fn new(bucket: BucketName, prefix: RootPrefix) -> Self {
        Self {
            bucket,
            prefix,
            access: S3Access::default(),
            credentials: None,
            max_attempts: None,
            connect_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(20),
            operation_timeout: Duration::from_mins(1),
            first_wait: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(20),
            min_rate_window: Duration::from_mins(1),
        }
    }
}

/// Keys for S3. Never shown.
#[derive(Clone)]
pub struct S3Credentials {
    /// The access key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// For temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials").finish_non_exhaustive()
    }
}
