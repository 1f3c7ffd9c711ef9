use std::path::Path;

use attachfs_store::S3Access;

use super::*;

/// A home with these configuration files.
fn home(config: &str, credentials: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(".aws");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("config"), config).unwrap();
    std::fs::write(dir.join("credentials"), credentials).unwrap();
    home
}

fn options(access: S3Access) -> S3Options {
    S3Options {
        access,
        ..S3Options::new("bucket".parse().unwrap(), "p".parse().unwrap())
    }
}

async fn read_as(
    access: S3Access,
    home: &Path,
    given: &[(&str, &str)],
) -> Result<Settings, SettingError> {
    let mut all = vec![("HOME", home.to_str().unwrap())];
    all.extend(given);
    Settings::read(&options(access), Variables::of(&all)).await
}

async fn read(home: &Path, given: &[(&str, &str)]) -> Result<Settings, SettingError> {
    read_as(S3Access::default(), home, given).await
}

/// Each variable that is read, with a malformed value.
const MALFORMED: [(&str, &str); 27] = [
    ("AWS_MAX_ATTEMPTS", "abc"),
    ("AWS_MAX_ATTEMPTS", "0"),
    ("AWS_MAX_ATTEMPTS", "99999999999999999999"),
    ("AWS_RETRY_MODE", "abc"),
    ("AWS_REGION", "us west"),
    ("AWS_DEFAULT_REGION", "a/b"),
    ("AWS_ENDPOINT_URL", "localhost:9000"),
    ("AWS_ENDPOINT_URL_S3", "http://a b"),
    ("AWS_ENDPOINT_URL_STS", "abc"),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "1"),
    ("AWS_USE_DUALSTACK_ENDPOINT", "yes"),
    ("AWS_USE_FIPS_ENDPOINT", "abc"),
    ("AWS_EC2_METADATA_DISABLED", "1"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "abc"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv5"),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", "never"),
    ("AWS_RESPONSE_CHECKSUM_VALIDATION", "never"),
    ("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "abc"),
    ("AWS_S3_USE_ARN_REGION", "abc"),
    ("AWS_EXECUTION_ENV", "a\nb"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "abc"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "abc"),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\nb"),
    ("AWS_PROFILE", "nobody"),
    ("AWS_DEFAULT_PROFILE", "nobody"),
    ("HTTPS_PROXY", "a b"),
    ("http_proxy", "socks5://p:1"),
];

#[tokio::test]
async fn a_malformed_variable_is_an_error_that_names_it() {
    let home = home("", "");
    for (name, value) in MALFORMED {
        let error = read(home.path(), &[(name, value)]).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(name), "{name}={value}: {said}");
    }
}

#[tokio::test]
async fn an_empty_variable_is_unset() {
    let home = home("[default]\nregion = eu-west-1\nmax_attempts = 7\n", "");
    let empty: Vec<(&str, &str)> = MALFORMED.iter().map(|(name, _)| (*name, "")).collect();
    let settings = read(home.path(), &empty).await.unwrap();
    assert_eq!(settings.region.as_deref(), Some("eu-west-1"));
    assert_eq!(settings.attempts, Some(7));
    assert!(settings.checksums && settings.checked_answers && !settings.path_style);
    assert_eq!(settings.profile.name, "default");
}

#[cfg(unix)]
#[tokio::test]
async fn a_variable_that_is_no_text_is_an_error_that_names_it() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = home("", "");
    let bytes = std::ffi::OsStr::from_bytes(b"\xff");
    let mut variables = Variables::of(&[("HOME", home.path().to_str().unwrap())]);
    variables.set("AWS_REGION", bytes);
    let read = Settings::read(&options(S3Access::default()), variables).await;
    let said = read.unwrap_err().to_string();
    assert!(
        said.contains("AWS_REGION") && said.contains("UTF-8"),
        "{said}"
    );
}

#[tokio::test]
async fn a_malformed_key_of_a_profile_is_an_error_that_names_key_profile_and_file() {
    for line in [
        "max_attempts = abc",
        "retry_mode = abc",
        "region = a b",
        "endpoint_url = abc",
        "use_fips_endpoint = 1",
        "request_checksum_calculation = abc",
        "ec2_metadata_service_endpoint_mode = abc",
    ] {
        let home = home(&format!("[profile x]\n{line}\n"), "");
        let error = read(home.path(), &[("AWS_PROFILE", "x")])
            .await
            .unwrap_err();
        let said = error.to_string();
        let key = line.split(' ').next().unwrap();
        let file = home.path().join(".aws/config");
        for part in [key, "\"x\"", file.to_str().unwrap()] {
            assert!(said.contains(part), "{line}: {said}");
        }
    }
    let home = home("[default]\ns3 =\n  addressing_style = abc\n", "");
    let said = read(home.path(), &[]).await.unwrap_err().to_string();
    assert!(said.contains("addressing_style"), "{said}");
}

#[tokio::test]
async fn a_file_that_is_no_configuration_is_an_error_that_names_it_and_the_line() {
    let home = home("[default]\nregion = x\nnonsense\n", "");
    let said = read(home.path(), &[]).await.unwrap_err().to_string();
    assert!(
        said.contains(".aws/config") && said.contains("line 3"),
        "{said}"
    );
    std::fs::write(home.path().join(".aws/config"), b"\xff").unwrap();
    let said = read(home.path(), &[]).await.unwrap_err().to_string();
    assert!(said.contains("utf-8"), "{said}");
    let endless = read(home.path(), &[("AWS_CONFIG_FILE", "/dev/zero")]).await;
    assert!(endless.unwrap_err().to_string().contains("longer than"));
    let dir = home.path().to_str().unwrap();
    let error = read(home.path(), &[("AWS_CONFIG_FILE", dir)]).await;
    assert!(error.unwrap_err().to_string().contains("cannot be read"));
}

#[tokio::test]
async fn half_of_a_pair_of_keys_is_an_error_that_shows_no_secret() {
    let home = home("", "");
    for (given, missing) in [
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ] {
        let error = read(home.path(), &[(given, "geheim"), (missing, "")]).await;
        let said = error.unwrap_err().to_string();
        assert!(said.contains(missing) && !said.contains("geheim"), "{said}");
    }
    let keys = [
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "ge\nheim"),
    ];
    let said = read(home.path(), &keys).await.unwrap_err().to_string();
    assert!(
        said.contains("AWS_SECRET_ACCESS_KEY") && !said.contains("heim"),
        "{said}"
    );
}

#[tokio::test]
async fn the_endpoint_is_found_in_the_order_of_boto3() {
    let home = home(
        "[default]\nendpoint_url = http://profile\nservices = local\n\
         [profile plain]\nendpoint_url = http://plain\n\
         [services local]\ns3 =\n  endpoint_url = http://section\n",
        "",
    );
    let all = ("AWS_ENDPOINT_URL", "http://all");
    let s3 = ("AWS_ENDPOINT_URL_S3", "http://s3/");
    let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    let plain = ("AWS_PROFILE", "plain");
    for (given, endpoint) in [
        (&[][..], Some("http://section")),
        (&[plain], Some("http://plain")),
        (&[all], Some("http://all")),
        (&[all, s3], Some("http://s3")),
        (&[all, s3, ignored], None),
    ] {
        let settings = read(home.path(), given).await.unwrap();
        assert_eq!(settings.endpoint.as_deref(), endpoint, "{given:?}");
        assert_eq!(settings.path_style, endpoint.is_some(), "{given:?}");
    }
    let access = S3Access {
        endpoint_url: Some("http://option/storage/v1/s3".to_owned()),
        ..S3Access::default()
    };
    let settings = read_as(access, home.path(), &[all, s3, ignored])
        .await
        .unwrap();
    assert_eq!(
        settings.endpoint.as_deref(),
        Some("http://option/storage/v1/s3/")
    );
}

#[tokio::test]
async fn all_keys_that_boto3_reads_from_a_profile_are_read() {
    let home = home(
        "[profile studio]\nregion = eu-west-1\nca_bundle = /ca.pem\nmax_attempts = 9\nretry_mode = legacy\n\
         request_checksum_calculation = when_required\nresponse_checksum_validation = WHEN_REQUIRED\n\
         use_fips_endpoint = true\ns3 =\n  addressing_style = path\n  use_dualstack_endpoint = true\n\
         \x20 payload_signing_enabled = true\n",
        "[studio]\naws_access_key_id = a\naws_secret_access_key = b\nregion = eu-west-2\n",
    );
    let access = S3Access {
        profile: Some("studio".to_owned()),
        ..S3Access::default()
    };
    let settings = read_as(access, home.path(), &[]).await.unwrap();
    assert_eq!(settings.region.as_deref(), Some("eu-west-2"));
    assert_eq!(settings.ca_bundle.as_deref(), Some(Path::new("/ca.pem")));
    assert_eq!(settings.attempts, Some(9));
    assert!(!settings.checksums && !settings.checked_answers && settings.signed_bodies);
    assert!(settings.fips && settings.dual_stack && settings.path_style);
    assert!(settings.profile.has_keys() && settings.keys.profile_was_chosen);
}

#[tokio::test]
async fn an_empty_environment_sets_nothing() {
    let home = tempfile::tempdir().unwrap();
    let settings = read(home.path(), &[]).await.unwrap();
    assert_eq!((settings.region, settings.endpoint), (None, None));
    let nowhere = Settings::read(&options(S3Access::default()), Variables::of(&[])).await;
    nowhere.unwrap();
}
