//! How S3 is reached: options of every verb.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroU64, ParseIntError};

use attachfs::{AccountId, Addressing, Encryption, KmsKey, S3Access};
use clap::{Args as ClapArgs, ValueEnum};

use super::values::{parse_rate, parse_size};

/// Options of every verb that say how S3 is reached. What is not said comes from the variables and the
/// configuration files of the AWS tools; docs/s3-settings.md lists them. Proxies are taken from the
/// environment: HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "S3")]
pub(crate) struct S3 {
    /// Talk to this S3 endpoint instead of AWS's. Default: the standard AWS chain.
    #[arg(long, global = true, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The AWS region. Default: the standard AWS chain, else us-east-1.
    #[arg(long, global = true, value_name = "REGION")]
    region: Option<String>,
    /// The profile in the AWS configuration. Default: the standard AWS chain.
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// Where URLs have the bucket: in the path, in the host name (virtual), or as the profile says, else in
    /// the path only with an endpoint other than AWS's (auto).
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "STYLE",
        default_value = "auto"
    )]
    addressing_style: AddressingStyle,
    /// Use AWS's endpoints that answer on IPv6 too.
    #[arg(long, global = true)]
    dual_stack: bool,
    /// Use AWS's endpoints whose cryptography is validated by FIPS 140.
    #[arg(long, global = true)]
    fips: bool,
    /// Trust the certificates in this PEM file instead of the system's, for TLS.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "AWS_CA_BUNDLE",
        hide_env_values = true
    )]
    ca_bundle: Option<OsString>,
    /// Go on only if this AWS account (12 digits) owns the bucket.
    #[arg(long, global = true, value_name = "ACCOUNT")]
    expected_bucket_owner: Option<AccountId>,
    /// Pay for the requests, where the bucket's owner does not.
    #[arg(long, global = true)]
    request_payer: bool,
    /// How S3 encrypts what is stored. Default: as the bucket says.
    #[arg(long, global = true, value_enum, value_name = "HOW")]
    sse: Option<Sse>,
    /// The KMS key for it: an id, an ARN or an alias. Means --sse aws:kms.
    #[arg(long, global = true, value_name = "KEY")]
    sse_kms_key_id: Option<KmsKey>,
    /// Requests at a time, at most. A server that asks for slower requests gets fewer. Default: 128.
    #[arg(long, global = true, value_name = "NUMBER", value_parser = parse_connections)]
    max_connections: Option<NonZeroU32>,
    /// Bytes a second, at most, up and down together; such as 10MB or 1GiB. Default: no limit.
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_rate)]
    max_bandwidth: Option<NonZeroU64>,
    /// Give up a transfer that moves fewer bytes a second than this for 60 seconds; 0 never does,
    /// as long as anything moves. Default: 10KB.
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size)]
    min_rate: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AddressingStyle {
    Auto,
    Path,
    Virtual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sse {
    /// With a key of S3's own.
    #[value(name = "AES256")]
    Aes256,
    /// With a key in KMS.
    #[value(name = "aws:kms")]
    Kms,
}

impl S3 {
    /// What was typed: without what variables say.
    pub(crate) fn typed(&self) -> Result<S3Access, attachfs::Error> {
        let access = self.access()?;
        let of_variable = std::env::var_os("AWS_CA_BUNDLE");
        let ca_bundle = access.ca_bundle.filter(|_| self.ca_bundle != of_variable);
        Ok(S3Access {
            ca_bundle,
            ..access
        })
    }

    /// What was said.
    pub(crate) fn access(&self) -> Result<S3Access, attachfs::Error> {
        let encryption = match (self.sse, &self.sse_kms_key_id) {
            (Some(Sse::Aes256), Some(_)) => {
                let text = "--sse-kms-key-id goes with --sse aws:kms, not with AES256";
                return Err(attachfs::Error::usage(text));
            }
            (_, Some(key)) => Some(Encryption::Kms {
                key: Some(key.clone()),
            }),
            (Some(Sse::Kms), None) => Some(Encryption::Kms { key: None }),
            (Some(Sse::Aes256), None) => Some(Encryption::Aes256),
            (None, None) => None,
        };
        // An empty variable says nothing. A session is taken up in other directories.
        let bundle = self.ca_bundle.as_ref();
        let bundle = bundle.filter(|path| !path.is_empty());
        let ca_bundle = bundle.map(std::path::absolute).transpose();
        let ca_bundle = ca_bundle.map_err(|error| {
            attachfs::Error::usage("--ca-bundle cannot be made absolute").because(error)
        })?;
        Ok(S3Access {
            endpoint_url: self.endpoint_url.clone(),
            region: self.region.clone(),
            profile: self.profile.clone(),
            addressing: match self.addressing_style {
                AddressingStyle::Auto => Addressing::Auto,
                AddressingStyle::Path => Addressing::Path,
                AddressingStyle::Virtual => Addressing::Virtual,
            },
            dual_stack: self.dual_stack,
            fips: self.fips,
            ca_bundle,
            expected_bucket_owner: self.expected_bucket_owner,
            requester_pays: self.request_payer,
            encryption,
            max_connections: self.max_connections,
            max_bandwidth: self.max_bandwidth,
            min_rate: self.min_rate,
        })
    }
}

fn parse_connections(text: &str) -> Result<NonZeroU32, String> {
    let number: u32 = text
        .parse()
        .map_err(|error: ParseIntError| format!("not a number of requests: {error}"))?;
    NonZeroU32::new(number).ok_or_else(|| "at least one request has to be possible".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn said(options: &[&str]) -> Result<S3Access, attachfs::Error> {
        let line = ["attachfs", "list"].iter().chain(options);
        let args = crate::args::Args::try_parse_from(line).unwrap();
        args.globals.s3.access()
    }

    #[test]
    fn a_key_of_kms_means_encryption_with_kms() {
        let access = said(&["--sse-kms-key-id", "alias/k"]).unwrap();
        let key = "alias/k".parse().ok();
        assert_eq!(access.encryption, Some(Encryption::Kms { key }));
        said(&["--sse", "AES256", "--sse-kms-key-id", "alias/k"]).unwrap_err();
    }

    #[test]
    fn a_bundle_is_known_by_its_whole_path_and_an_empty_name_is_none() {
        let bundle = said(&["--ca-bundle", "certs.pem"]).unwrap().ca_bundle;
        assert!(bundle.unwrap().is_absolute());
        let bundle = said(&["--ca-bundle="]).unwrap().ca_bundle;
        assert_eq!(bundle, None);
    }

    #[test]
    fn at_least_one_request_is_possible() {
        assert!(parse_connections("0").unwrap_err().contains("at least one"));
        assert_eq!(parse_connections("7").map(NonZeroU32::get), Ok(7));
    }
}
