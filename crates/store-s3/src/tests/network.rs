//! TLS and proxies between a store and its server.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::child::Child;
use super::*;

/// Something that accepts connections until it is dropped.
struct Door {
    address: String,
    serving: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Door {
    async fn open<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Broken connections are for the client to handle.
                tokio::spawn(serve(stream));
            }
        });
        Self { address, serving }
    }

    /// Accepts TLS and passes on the bytes; the certificate of its authority is in a file.
    async fn tls(bench: &Bench, dir: &Path) -> (Self, PathBuf) {
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        let bundle = dir.join("authority.pem");
        std::fs::write(&bundle, authority.pem()).unwrap();

        let provider = tokio_rustls::rustls::crypto::ring::default_provider();
        let config = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = bench.server.endpoint().replace("http://", "");
        let door = Self::open(move |stream| {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            async move {
                let mut inside = acceptor.accept(stream).await?;
                let mut outside = TcpStream::connect(server).await?;
                copy_bidirectional(&mut inside, &mut outside).await?;
                Ok(())
            }
        })
        .await;
        (door, bundle)
    }

    /// A proxy that writes down the first request of each connection.
    async fn proxy() -> (Self, watch::Sender<Vec<String>>) {
        let asked = watch::Sender::<Vec<String>>::default();
        let log = asked.clone();
        let door = Self::open(move |stream| pass_on(stream, log.clone())).await;
        (door, asked)
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }
}

async fn pass_on(mut stream: TcpStream, asked: watch::Sender<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next().unwrap_or_default().to_owned();
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.send_modify(|asked| asked.push(line.clone()));
    let address = target.trim_start_matches("http://");
    let address = address.split('/').next().unwrap_or_default();
    let mut server = TcpStream::connect(address).await?;
    if line.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    } else {
        server.write_all(&head).await?;
    }
    copy_bidirectional(&mut stream, &mut server).await?;
    Ok(())
}

async fn connect(bench: &Bench, url: String, ca_bundle: Option<PathBuf>) -> S3Store {
    let options = S3Options {
        access: S3Access {
            endpoint_url: Some(url),
            ca_bundle,
            ..bench.options().access
        },
        ..bench.options()
    };
    S3Store::connect(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_authority_in_the_bundle_is_trusted() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (door, bundle) = Door::tls(&bench, dir.path()).await;
    let store = connect(&bench, door.url("https"), Some(bundle)).await;
    attachfs_store::conformance::run(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_is_a_refusal_that_names_the_option() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (door, _) = Door::tls(&bench, dir.path()).await;
    let (_other, bundle) = Door::tls(&bench, dir.path()).await;
    let store = connect(&bench, door.url("https"), Some(bundle)).await;
    let object = store.get(ContentHash::of(b""), 0..1).await.unwrap_err();
    let key: ManifestKey = "m".parse().unwrap();
    let manifest = store.get_manifest(&key).await.unwrap_err();
    for error in [object, manifest] {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains("--ca-bundle"), "{error}");
    }
    assert!(bench.server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_does_not_spoil_a_bundle() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (door, bundle) = Door::tls(&bench, dir.path()).await;
    let good = std::fs::read_to_string(&bundle).unwrap();
    let bad = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    std::fs::write(&bundle, format!("{bad}{good}{bad}")).unwrap();
    let store = connect(&bench, door.url("https"), Some(bundle)).await;
    put(&store, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_bundle_is_an_error_that_names_the_option() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.pem");
    let no_certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    for text in ["", "hello", no_certificate] {
        std::fs::write(&broken, text).unwrap();
        for path in [broken.clone(), dir.path().join("missing.pem")] {
            let options = S3Options {
                access: S3Access {
                    ca_bundle: Some(path),
                    ..bench.options().access
                },
                ..bench.options()
            };
            let error = S3Store::connect(options).await.unwrap_err();
            assert!(text_of(&error).contains("--ca-bundle"), "{error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_used() {
    let bench = Bench::new().await;
    let (proxy, asked) = Door::proxy().await;
    let home = tempfile::tempdir().unwrap();
    for name in ["HTTP_PROXY", "http_proxy"] {
        asked.send_modify(Vec::clear);
        let child = Child::new(&bench.server.endpoint(), home.path())
            .with_keys()
            .env(name, proxy.url("http"));
        child.run().await.unwrap();
        let asked = asked.borrow().clone();
        assert!(asked[0].starts_with("PUT http://127.0.0.1"), "{asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_through_a_tunnel_of_the_proxy() {
    let bench = Bench::new().await;
    let (proxy, asked) = Door::proxy().await;
    let home = tempfile::tempdir().unwrap();
    let (door, bundle) = Door::tls(&bench, home.path()).await;
    let child = Child::new(&door.url("https"), home.path())
        .with_keys()
        .trusts(&bundle)
        .env("HTTPS_PROXY", proxy.url("http"));
    child.run().await.unwrap();
    let expected = format!("CONNECT {} HTTP/1.1", door.address);
    assert_eq!(asked.borrow().first(), Some(&expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_in_no_proxy_are_reached_directly() {
    let bench = Bench::new().await;
    let (proxy, asked) = Door::proxy().await;
    let home = tempfile::tempdir().unwrap();
    let child = Child::new(&bench.server.endpoint(), home.path())
        .with_keys()
        .env("HTTP_PROXY", proxy.url("http"))
        .env("NO_PROXY", "example.com,127.0.0.1");
    child.run().await.unwrap();
    assert!(asked.borrow().is_empty());
    assert_eq!(bench.server.requests().len(), 2);
}
