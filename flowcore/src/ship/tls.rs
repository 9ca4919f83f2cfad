//! TLS: version 1.2 or later, the server's certificate always verified.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::options::ShipOptions;

/// The files that say who is trusted and who we are.
///
/// They are read anew for each connection, so that a renewed certificate needs no restart.
#[derive(Clone, Debug)]
pub(super) struct TlsFiles {
    ca: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    pub(super) fn of(options: &ShipOptions) -> Self {
        TlsFiles {
            ca: options.ca_file.clone(),
            client: options.client_cert.clone().zip(options.client_key.clone()),
        }
    }

    /// Makes the client's end of a connection with a host of that name.
    ///
    /// # Errors
    /// `InvalidInput` with the name of the file that cannot be read or has not in it what it should.
    pub(super) fn client(&self, host: &str) -> io::Result<ClientConnection> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| wrong(format!("{host} is no name of a host")))?;
        let config = self.config()?;
        ClientConnection::new(Arc::new(config), name).map_err(|error| wrong(error.to_string()))
    }

    fn config(&self) -> io::Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(self.roots()?);
        let Some((certificate, key_file)) = &self.client else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| wrong(format!("client_key {}: {error}", key_file.display())))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| wrong(format!("client_cert {}: {error}", certificate.display())))
    }

    fn roots(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(file) => {
                for certificate in certificates(file)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| wrong(format!("ca_file {}: {error}", file.display())))?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
                    return Err(wrong(format!(
                        "this system has no certificate authorities (install ca-certificates, or name a ca_file){why}"
                    )));
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| wrong(format!("{}: {error}", file.display())))?;
    match read.is_empty() {
        true => Err(wrong(format!("{}: no certificate in it", file.display()))),
        false => Ok(read),
    }
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
