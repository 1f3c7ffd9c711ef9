//! How to reach a bucket, as options give it and sessions keep it: never a secret, and nothing that
//! is particular to one machine except the path of a certificate bundle.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How to reach S3. Fields that are `None` (or false) come from the AWS configuration, or are as
/// usual.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct S3Access {
    /// A server other than AWS's, as a URL.
    pub endpoint_url: Option<String>,
    /// The bucket's region. If no place names one: `us-east-1`, as the AWS tools do.
    pub region: Option<String>,
    /// The profile in the AWS configuration files.
    pub profile: Option<String>,
    /// Where the bucket's name stands in URLs.
    pub addressing: Addressing,
    /// Use endpoints that answer on IPv6 too.
    pub dual_stack: bool,
    /// Use endpoints whose cryptography is validated by FIPS 140.
    pub fips: bool,
    /// A file of certificates in PEM that are trusted instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// The account that owns the bucket: S3 refuses every call if another one does.
    pub expected_bucket_owner: Option<AccountId>,
    /// The caller pays for requests, not the bucket's owner.
    pub requester_pays: bool,
    /// How S3 is to encrypt what is stored. `None`: as the bucket says.
    pub encryption: Option<Encryption>,
    /// The most requests at a time. `None`: 128.
    pub max_connections: Option<NonZeroU32>,
    /// The most bytes a second, in both directions together. `None`: no limit.
    pub max_bandwidth: Option<NonZeroU64>,
    /// A body that moves fewer bytes a second than this for a minute is given up. Zero: only one
    /// that moves none at all. `None`: 10,000.
    pub min_rate: Option<u64>,
}

impl S3Access {
    /// This access, with the fields that it does not set taken from `below`.
    #[must_use]
    pub fn over(&self, below: &Self) -> Self {
        let Self {
            endpoint_url,
            region,
            profile,
            addressing,
            dual_stack,
            fips,
            ca_bundle,
            expected_bucket_owner,
            requester_pays,
            encryption,
            max_connections,
            max_bandwidth,
            min_rate,
        } = self.clone();
        Self {
            endpoint_url: endpoint_url.or_else(|| below.endpoint_url.clone()),
            region: region.or_else(|| below.region.clone()),
            profile: profile.or_else(|| below.profile.clone()),
            addressing: match addressing {
                Addressing::Auto => below.addressing,
                said => said,
            },
            dual_stack: dual_stack || below.dual_stack,
            fips: fips || below.fips,
            ca_bundle: ca_bundle.or_else(|| below.ca_bundle.clone()),
            expected_bucket_owner: expected_bucket_owner.or(below.expected_bucket_owner),
            requester_pays: requester_pays || below.requester_pays,
            encryption: encryption.or_else(|| below.encryption.clone()),
            max_connections: max_connections.or(below.max_connections),
            max_bandwidth: max_bandwidth.or(below.max_bandwidth),
            min_rate: min_rate.or(below.min_rate),
        }
    }
}

impl S3Access {
    /// The options of this access, as the command line writes them, that would change something where `used` is in
    /// use. Options that this access leaves unset are not listed.
    pub fn options_beside(&self, used: &Self) -> Vec<&'static str> {
        let over = self.over(used);
        let Self {
            endpoint_url,
            region,
            profile,
            addressing,
            dual_stack,
            fips,
            ca_bundle,
            expected_bucket_owner,
            requester_pays,
            encryption,
            max_connections,
            max_bandwidth,
            min_rate,
        } = used;
        let differing = [
            ("--endpoint-url", over.endpoint_url != *endpoint_url),
            ("--region", over.region != *region),
            ("--profile", over.profile != *profile),
            ("--addressing-style", over.addressing != *addressing),
            ("--dual-stack", over.dual_stack != *dual_stack),
            ("--fips", over.fips != *fips),
            ("--ca-bundle", over.ca_bundle != *ca_bundle),
            (
                "--expected-bucket-owner",
                over.expected_bucket_owner != *expected_bucket_owner,
            ),
            ("--request-payer", over.requester_pays != *requester_pays),
            ("--sse", over.encryption != *encryption),
            (
                "--max-connections",
                over.max_connections != *max_connections,
            ),
            ("--max-bandwidth", over.max_bandwidth != *max_bandwidth),
            ("--min-rate", over.min_rate != *min_rate),
        ];
        let differing = differing.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(option, _)| option).collect()
    }
}

/// Where the bucket's name stands in URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// In the path if an endpoint is configured, else in the host.
    #[default]
    Auto,
    /// `https://host/bucket/key`.
    Path,
    /// `https://bucket.host/key`.
    Virtual,
}

/// The number of an AWS account: twelve digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId([u8; 12]);

impl AccountId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AccountId {
    type Err = ParseAccessError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: [u8; 12] = text
            .as_bytes()
            .try_into()
            .map_err(|_| ParseAccessError::AccountId)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(ParseAccessError::AccountId);
        }
        Ok(Self(digits))
    }
}

impl TryFrom<String> for AccountId {
    type Error = ParseAccessError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> Self {
        id.to_string()
    }
}

/// How S3 encrypts what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// With a key of S3's own (`AES256`).
    Aes256,
    /// With a key in KMS (`aws:kms`).
    Kms {
        /// Its id, ARN or alias. `None`: the bucket's, or the account's own key for S3.
        key: Option<KmsKey>,
    },
}

/// The id, ARN or alias of a key in KMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KmsKey(String);

impl KmsKey {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KmsKey {
    type Err = ParseAccessError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/:".contains(&byte);
        if text.is_empty() || text.len() > LONGEST_KMS_KEY || !text.bytes().all(fits) {
            return Err(ParseAccessError::KmsKey);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for KmsKey {
    type Error = ParseAccessError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KmsKey> for String {
    fn from(key: KmsKey) -> Self {
        key.0
    }
}

/// The longest that KMS takes.
const LONGEST_KMS_KEY: usize = 2048;

/// Why a text is not an account or a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseAccessError {
    /// Not the number of an account.
    #[error("an AWS account is twelve digits, such as 111122223333")]
    AccountId,
    /// Not the name of a key.
    #[error("a KMS key is an id, an ARN or an alias: letters, digits and `-_/:`")]
    KmsKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_twelve_digits() {
        let id: AccountId = "012345678901".parse().unwrap();
        assert_eq!(id.to_string(), "012345678901");
        for bad in ["", "12345678901", "1234567890123", "12345678901a", "１23"] {
            bad.parse::<AccountId>().unwrap_err();
        }
    }

    #[test]
    fn a_kms_key_has_only_characters_that_a_header_can_have() {
        for good in [
            "alias/aws/s3",
            "arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab",
        ] {
            assert_eq!(good.parse::<KmsKey>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\r\nb", "ä"] {
            bad.parse::<KmsKey>().unwrap_err();
        }
    }

    #[test]
    fn given_fields_replace_stored_ones() {
        let written = S3Access {
            region: Some("a".to_owned()),
            profile: Some("b".to_owned()),
            addressing: Addressing::Path,
            requester_pays: true,
            ..S3Access::default()
        };
        let said = S3Access {
            region: Some("c".to_owned()),
            ..S3Access::default()
        };
        let expected = S3Access {
            region: Some("c".to_owned()),
            ..written.clone()
        };
        assert_eq!(said.over(&written), expected);
        assert_eq!(S3Access::default().over(&written), written);
    }

    #[test]
    fn an_option_that_says_something_else_is_told_and_what_is_not_said_is_not() {
        let used = S3Access {
            region: Some("a".to_owned()),
            fips: true,
            ..S3Access::default()
        };
        let same = S3Access {
            region: Some("a".to_owned()),
            ..S3Access::default()
        };
        assert_eq!(same.options_beside(&used), [""; 0]);
        assert_eq!(S3Access::default().options_beside(&used), [""; 0]);
        let all = S3Access {
            endpoint_url: Some("u".to_owned()),
            region: Some("b".to_owned()),
            profile: Some("p".to_owned()),
            addressing: Addressing::Path,
            dual_stack: true,
            fips: true,
            ca_bundle: Some("f".into()),
            expected_bucket_owner: "012345678901".parse().ok(),
            requester_pays: true,
            encryption: Some(Encryption::Aes256),
            max_connections: NonZeroU32::new(1),
            max_bandwidth: NonZeroU64::new(1),
            min_rate: Some(0),
        };
        let told = all.options_beside(&used);
        assert_eq!(told.len(), 12, "all but --fips, which is in use: {told:?}");
        assert_eq!(all.options_beside(&S3Access::default()).len(), 13);
    }
}
