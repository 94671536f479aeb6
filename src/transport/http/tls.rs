//! Our own certificate, for clients that reach us by TLS.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, ready to be shown: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1.
#[derive(Clone)]
pub struct Identity(TlsAcceptor);

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file that cannot be used.
    #[error("{}: {source}", file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file of certificates without any.
    #[error("{}: no certificate in it", file.display())]
    Empty {
        /// Which one.
        file: PathBuf,
    },
    /// Files that do not go together.
    #[error("{} and {}: {source}", cert.display(), key.display())]
    Pair {
        /// The certificates.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

impl Identity {
    /// Reads a chain of certificates, our own first, and the key of the first. Both in PEM.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], which names the file.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, IdentityError> {
        let broken = |file: &Path| {
            let file = file.to_owned();
            move |source| IdentityError::File { file, source }
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).map_err(broken(cert))?.collect();
        let chain = chain.map_err(broken(cert))?;
        if chain.is_empty() {
            return Err(IdentityError::Empty { file: cert.to_owned() });
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(broken(key))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
        let mut config = config.map_err(|source| {
            let (cert, key) = (cert.to_owned(), key.to_owned());
            IdentityError::Pair { cert, key, source }
        })?;
        config.alpn_protocols = vec![HTTP_2.into(), b"http/1.1".into()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.0
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// HTTP/2, as ALPN names it.
pub(super) const HTTP_2: &[u8] = b"h2";
