//! What it takes to reach an S3 server of somebody else's that runs on this machine.

use std::ffi::OsString;

use attachfs_store::{RootPrefix, S3Access};
use attachfs_store_s3::{S3Credentials, S3Options};

use crate::machine::Machine;
use crate::process::{Said, said};

/// The bucket that each of them has.
pub(crate) const BUCKET: &str = "bucket";

/// How a server is reached.
pub(crate) struct ForeignS3 {
    pub(crate) endpoint: String,
    pub(crate) region: &'static str,
    pub(crate) access_key: &'static str,
    pub(crate) secret_key: &'static str,
}

impl ForeignS3 {
    /// A store below a prefix.
    pub(crate) fn options(&self, prefix: &str) -> S3Options {
        let prefix: RootPrefix = prefix.parse().unwrap();
        S3Options {
            access: S3Access {
                region: Some(self.region.to_owned()),
                endpoint_url: Some(self.endpoint.clone()),
                ..S3Access::default()
            },
            credentials: Some(S3Credentials {
                access_key_id: self.access_key.to_owned(),
                secret_access_key: self.secret_key.to_owned(),
                session_token: None,
            }),
            ..S3Options::new(BUCKET.parse().unwrap(), prefix)
        }
    }

    /// Runs `attachfs`, which succeeds, with this server.
    pub(crate) fn ok(&self, machine: &Machine, arguments: &[OsString]) -> Said {
        let mut command = machine.attachfs(arguments);
        command
            .args(["--endpoint-url", &self.endpoint, "--region", self.region])
            .env("AWS_ACCESS_KEY_ID", self.access_key)
            .env("AWS_SECRET_ACCESS_KEY", self.secret_key);
        said(&mut command).with_code(0)
    }
}
