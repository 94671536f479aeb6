//! Whom we believe to be the upstream: the system's root certificates, and those of `--ca`.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// A TLS configuration that believes the system's roots and the ones in these PEM files. Where no TLS is to be
/// spoken, nothing is read: the system's roots are many.
///
/// # Errors
///
/// If a file cannot be read or holds no certificate, or nobody at all would be believed.
pub(super) fn tls(is_needed: bool, files: &[PathBuf]) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for file in files {
        let unusable = |what: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", file.display()))
        };
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| unusable(&error))?;
        let mut count = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
            count += 1;
        }
        if count == 0 {
            return Err(unusable(&"holds no certificate"));
        }
    }
    if is_needed {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("the system's root certificates: {why}")));
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
