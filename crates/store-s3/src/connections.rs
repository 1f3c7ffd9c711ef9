//! Connections: TLS, the certificates that are trusted, proxies.
//!
//! One set of them serves the direct requests and those that the SDK makes, because both go through
//! the SDK's own HTTP client (hyper). So a certificate bundle or a proxy counts for both, and for
//! the services that give credentials.
//!
//! The URL of each request decides which proxy it takes ([`Proxies::way`]).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attachfs_store::StoreError;
use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::NoAnswer;
use crate::settings::{Proxies, Way, read_some};

/// How long an idle connection is kept. S3 closes it earlier.
const IDLE: Duration = Duration::from_mins(1);

/// Connections of a store. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tls: TlsContext,
    proxies: Proxies,
    /// By the proxy that they use, and by their timeouts for connecting and reading: some services that give
    /// credentials get short ones. Locked while a connector is made.
    connectors: Mutex<HashMap<(Way, Times), SharedHttpConnector>>,
}

type Times = (Option<Duration>, Option<Duration>);

/// Sends each request through the proxy that it has to take, or none.
#[derive(Debug)]
struct Switch {
    connections: Connections,
    settings: HttpConnectorSettings,
}

impl HttpConnector for Switch {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let way = self.connections.0.proxies.way(request.uri());
        let connector = self.connections.connector(way, &self.settings);
        connector.call(request)
    }
}

impl Connections {
    /// Connections that trust the system's certificates, or those of the bundle instead.
    pub(crate) async fn new(
        ca_bundle: Option<&Path>,
        proxies: Proxies,
    ) -> Result<Self, StoreError> {
        let trusted = match ca_bundle {
            None => of_the_system().await,
            Some(path) => {
                let pem = read_bundle(path)
                    .await
                    .map_err(|source| StoreError::Other {
                        what: format!("using the certificates in {}", path.display()),
                        source: Box::new(source),
                    })?;
                TrustStore::empty().with_pem_certificate(pem)
            }
        };
        let tls = TlsContext::builder().with_trust_store(trusted).build();
        let tls = tls.map_err(|error| StoreError::Other {
            what: "preparing TLS".to_owned(),
            source: Box::new(error),
        })?;
        Ok(Self(Arc::new(Shared {
            tls,
            proxies,
            connectors: Mutex::default(),
        })))
    }

    /// A client whose connections are made within a time.
    pub(crate) fn within(&self, connect: Duration) -> SharedHttpConnector {
        let times = HttpConnectorSettings::builder().connect_timeout(connect);
        self.switch(times.build())
    }

    /// These connections for the SDK.
    pub(crate) fn client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    fn switch(&self, settings: HttpConnectorSettings) -> SharedHttpConnector {
        SharedHttpConnector::new(Switch {
            connections: self.clone(),
            settings,
        })
    }

    fn connector(&self, way: Way, settings: &HttpConnectorSettings) -> SharedHttpConnector {
        let times = (settings.connect_timeout(), settings.read_timeout());
        let mut connectors = self.0.connectors.lock();
        let connector = connectors.entry((way, times)).or_insert_with(|| {
            let connector = Connector::builder()
                .connector_settings(settings.clone())
                .pool_idle_timeout(IDLE)
                .proxy_config(self.0.proxies.config(way))
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(self.0.tls.clone())
                .build();
            SharedHttpConnector::new(connector)
        });
        connector.clone()
    }
}

impl HttpClient for Connections {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.switch(settings.clone())
    }
}

/// How long finding the system's certificates may take.
const FOUND_WITHIN: Duration = Duration::from_secs(10);

/// The system's certificates. The SDK would look for them while it makes a connection: it would wait for ever if
/// a pipe is named, and it expects that there are some.
async fn of_the_system() -> TrustStore {
    let looking = tokio::task::spawn_blocking(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let mut pem = String::new();
        for certificate in found.certs {
            // Systems have certificates that cannot be used any more.
            if roots.add(certificate.clone()).is_ok() {
                push_pem(&certificate, &mut pem);
            }
        }
        (pem, found.errors.first().map(ToString::to_string))
    });
    let (pem, error) = match tokio::time::timeout(FOUND_WITHIN, looking).await {
        Ok(Ok(found)) => found,
        Ok(Err(ended)) => (String::new(), Some(ended.to_string())),
        Err(late) => (String::new(), Some(late.to_string())),
    };
    if pem.is_empty() {
        tracing::warn!(
            error = error.unwrap_or_default(),
            "this system has no certificates to trust in TLS: --ca-bundle names some; SSL_CERT_FILE and \
             SSL_CERT_DIR, if they are set, have to name what is there"
        );
        return TrustStore::empty();
    }
    TrustStore::empty().with_pem_certificate(pem)
}

/// Reads a bundle and keeps what TLS can use: the SDK would panic at the rest. The bundles of
/// systems have certificates that cannot be used any more.
async fn read_bundle(path: &Path) -> Result<String, NoAnswer> {
    const NOT_PEM: &str = "the file given by --ca-bundle, AWS_CA_BUNDLE or ca_bundle has to hold certificates \
                           in PEM (-----BEGIN CERTIFICATE-----)";
    let unreadable =
        "the file given by --ca-bundle, AWS_CA_BUNDLE or ca_bundle in a profile cannot be read";
    let read = {
        let path = path.to_owned();
        move || read_some(&path)
    };
    let pem = tokio::task::spawn_blocking(read).await;
    let pem = pem.unwrap_or_else(|ended| Err(ended.into()));
    let pem = pem.map_err(|error| NoAnswer::because(unreadable, &error))?;
    let mut usable = String::new();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| NoAnswer::because(NOT_PEM, &error))?;
        match roots.add(certificate.clone()) {
            Ok(()) => push_pem(&certificate, &mut usable),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                bundle = %path.display(),
                "a certificate in the bundle cannot be used and is left out"
            ),
        }
    }
    if roots.is_empty() {
        return Err(NoAnswer::new(NOT_PEM));
    }
    Ok(usable)
}

fn push_pem(certificate: &[u8], pem: &mut String) {
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    // 48 bytes are a line of 64 characters.
    for line in certificate.chunks(48) {
        BASE64.encode_string(line, pem);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
}
