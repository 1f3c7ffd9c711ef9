//! How to reach a bucket.

use std::fmt;
use std::time::Duration;

use attachfs_store::{BucketName, KeyPrefix};

/// How to reach a store in S3. What is `None` comes from the standard AWS places: environment,
/// profile files, the machine's role.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The bucket.
    pub bucket: BucketName,
    /// Where in it the store begins.
    pub prefix: KeyPrefix,
    /// The bucket's region. If no place names one: `us-east-1`, as the AWS tools do.
    pub region: Option<String>,
    /// The profile in the AWS configuration files.
    pub profile: Option<String>,
    /// A server other than AWS's.
    pub endpoint_url: Option<String>,
    /// The bucket in the path of URLs and not in the host name. `None`: if there is an endpoint.
    pub force_path_style: Option<bool>,
    /// Keys that the caller has, instead of the standard places.
    pub credentials: Option<S3Credentials>,
    /// How often a request is made in all. `None`: as the AWS configuration says, which is 3.
    pub max_attempts: Option<u32>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long one attempt of a request may take, beside its body.
    pub attempt_timeout: Duration,
    /// How long a request may take with all its attempts, beside its body.
    pub operation_timeout: Duration,
    /// How long a body may carry nothing.
    pub stall_timeout: Duration,
}

impl S3Options {
    /// For a bucket, everything else as usual.
    pub fn new(bucket: BucketName, prefix: KeyPrefix) -> Self {
        Self {
            bucket,
            prefix,
            region: None,
            profile: None,
            endpoint_url: None,
            force_path_style: None,
            credentials: None,
            max_attempts: None,
            connect_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(20),
            operation_timeout: Duration::from_mins(1),
            stall_timeout: Duration::from_secs(20),
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
