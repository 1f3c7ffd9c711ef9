//! Where keys come from, and how they are renewed.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::child::Child;
use super::*;

/// A home directory with a profile whose keys come from a program that writes down each call.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn calls(&self) -> PathBuf {
        self.path().join("calls")
    }

    fn count(&self) -> usize {
        let calls = std::fs::read_to_string(self.calls()).unwrap_or_default();
        calls.lines().count()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Keys that expire this many seconds after the program gave them.
    fn with_program(self, seconds: u32) -> Self {
        let script = format!(
            "#!/bin/sh\necho called >> {}\n\
             end=$(date -u -d '+{seconds} seconds' +%Y-%m-%dT%H:%M:%SZ)\n\
             echo \"{{\\\"Version\\\": 1, \\\"AccessKeyId\\\": \\\"{ACCESS_KEY}\\\", \
             \\\"SecretAccessKey\\\": \\\"{SECRET_KEY}\\\", \\\"SessionToken\\\": \\\"token$(wc -l < {})\\\", \
             \\\"Expiration\\\": \\\"$end\\\"}}\"\n",
            self.calls().display(),
            self.calls().display()
        );
        let program = self.write("keys.sh", &script);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!("[default]\ncredential_process = {}\n", program.display());
        self.write(".aws/config", &config);
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_end_soon_are_renewed_and_no_request_fails() {
    let bench = Bench::new().await;
    let home = Home::new().with_program(2);
    let child = Child::new(&bench.server.endpoint(), home.path());
    child.until(&home.calls(), 3).run().await.unwrap();
    let requests = bench.server.requests();
    assert!(requests.len() > 6);
    let signed = |r: &attachfs_test_s3::Request| {
        let token = r.header("x-amz-security-token");
        token.is_some_and(|token| token.starts_with("token"))
    };
    assert!(requests.iter().all(signed));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_server_calls_expired_are_renewed_once_and_the_request_succeeds() {
    let bench = Bench::new().await;
    let home = Home::new().with_program(3600);
    let expired = Mishap::Error {
        status: 400,
        code: "ExpiredToken",
    };
    bench.server.add(Rule::on("GET", expired).times(1));
    let child = Child::new(&bench.server.endpoint(), home.path());
    child.run().await.unwrap();
    assert_eq!(home.count(), 2);
    assert_eq!(bench.count("GET", ""), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_expire_before_a_manifest_are_renewed_too() {
    let bench = Bench::new().await;
    let home = Home::new().with_program(3600);
    let expired = Mishap::Error {
        status: 400,
        code: "ExpiredToken",
    };
    for method in ["GET", "PUT"] {
        let rule = Rule::on(method, expired.clone()).of("farm/m");
        bench.server.add(rule.times(1));
    }
    let child = Child::new(&bench.server.endpoint(), home.path());
    child.with_manifest().run().await.unwrap();
    assert_eq!(home.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_stay_expired_are_a_refusal_that_says_to_log_in() {
    let bench = Bench::new().await;
    let home = Home::new().with_program(3600);
    bench.server.add(Rule::always(Mishap::Error {
        status: 400,
        code: "ExpiredToken",
    }));
    let child = Child::new(&bench.server.endpoint(), home.path());
    let said = child.run().await.unwrap_err();
    assert!(said.contains("log in again"), "{said}");
    assert_eq!(bench.server.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_asked_once_for_many_requests() {
    let bench = Bench::new().await;
    let home = Home::new().with_program(3600);
    let child = Child::new(&bench.server.endpoint(), home.path());
    child.run().await.unwrap();
    assert_eq!(home.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_is_not_there_is_a_refusal_that_names_the_option() {
    let bench = Bench::new().await;
    let home = Home::new();
    home.write(".aws/config", "[profile other]\nregion = us-west-2\n");
    let child = Child::new(&bench.server.endpoint(), home.path()).env("AWS_PROFILE", "nobody");
    let said = child.run().await.unwrap_err();
    assert!(said.contains("--profile"), "{said}");
}

/// A portal of single sign-on that knows one token and gives out the server's keys for it.
async fn portal(listener: TcpListener, asked: tokio::sync::watch::Sender<Vec<String>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                break;
            };
            head.push(byte);
        }
        asked.send_modify(|asked| asked.push(String::from_utf8_lossy(&head).into_owned()));
        let keys = format!(
            r#"{{"roleCredentials":{{"accessKeyId":"{ACCESS_KEY}","secretAccessKey":"{SECRET_KEY}","sessionToken":"token","expiration":4102444800000}}}}"#
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{keys}",
            keys.len()
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_single_sign_on_gives_keys() {
    let bench = Bench::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::sync::watch::Sender::default();
    let serving = tokio::spawn(portal(listener, asked.clone()));
    let home = Home::new();
    home.write(
        ".aws/config",
        "[default]\nsso_session = studio\nsso_account_id = 111122223333\nsso_role_name = Artist\n\
         [sso-session studio]\nsso_region = us-west-2\nsso_start_url = https://studio.example.com\n",
    );
    // The name of the file is the SHA-1 of the session's name.
    home.write(
        ".aws/sso/cache/9a12c50f2f23af9f1a313af952aee2b30627ac7b.json",
        r#"{"accessToken":"the-token","expiresAt":"2099-01-01T00:00:00Z","region":"us-west-2","startUrl":"https://studio.example.com"}"#,
    );
    let child = Child::new(&bench.server.endpoint(), home.path())
        .env("AWS_ENDPOINT_URL_SSO", format!("http://{address}"));
    child.run().await.unwrap();
    serving.abort();
    let asked = asked.borrow();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].contains("account_id=111122223333"), "{}", asked[0]);
    assert!(asked[0].contains("the-token"), "{}", asked[0]);
}
