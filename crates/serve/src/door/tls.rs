//! TLS by two files, which may be replaced while they are served: a handshake looks whether they are still those it knows.
//!
//! What cannot be read when it starts is an error; what cannot be read later, a certificate whose key has not been put in place
//! yet, is told once, and the one before serves on.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use pgwire::api::auth::sasl::scram::ScramServerAuth;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tracing::{info, warn};

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// In the system's words.
        cause: io::Error,
    },
    /// What is in it.
    #[error("{} has no {what} in PEM", path.display())]
    Empty {
        /// Which one.
        path: PathBuf,
        /// What it should have.
        what: &'static str,
    },
    /// Certificate and key are not one pair, or of a kind that is not known.
    #[error("the certificate {} and its key cannot be used: {cause}", path.display())]
    Unfit {
        /// The certificate's file.
        path: PathBuf,
        /// In the library's words.
        cause: rustls::Error,
    },
}

/// A certificate and its key, as the files have them.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    sealed: Arc<Sealed>,
    /// What the files were when they were last read, well or not.
    seen: Option<[Stamp; 2]>,
}

/// What tells one state of a file from another.
type Stamp = (Option<SystemTime>, u64, u64);

/// What clients of one certificate are served by.
pub(crate) struct Sealed {
    pub(crate) acceptor: TlsAcceptor,
    /// Checks logins that are bound to this certificate; where that cannot be, those that are not.
    pub(crate) scram: ScramServerAuth,
}

impl Tls {
    /// TLS by these files, in PEM. The chain begins with the server's own certificate.
    ///
    /// Errors: [`TlsError`].
    pub fn by_files(cert: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let seen = stamps(&cert, &key);
        let sealed = Arc::new(read(&cert, &key)?);
        Ok(Self { cert, key, current: Mutex::new(Current { sealed, seen }) })
    }

    /// What a client that comes now is served by.
    pub(crate) fn now(&self) -> Arc<Sealed> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.cert, &self.key);
        if stamps.is_some() && stamps != current.seen {
            current.seen = stamps;
            match read(&self.cert, &self.key) {
                Ok(sealed) => {
                    current.sealed = Arc::new(sealed);
                    info!(cert = %self.cert.display(), "the certificate was read anew");
                }
                Err(error) => warn!(%error, "the new certificate cannot be used; the one before serves on"),
            }
        }
        Arc::clone(&current.sealed)
    }
}

/// What the files are; none if one cannot be looked at.
fn stamps(cert: &Path, key: &Path) -> Option<[Stamp; 2]> {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |found: Metadata| (found.modified().ok(), found.len(), found.ino());
    Some([stamp(std::fs::metadata(cert).ok()?), stamp(std::fs::metadata(key).ok()?)])
}

fn read(cert: &Path, key: &Path) -> Result<Sealed, TlsError> {
    let bytes = |path: &Path| std::fs::read(path).map_err(|cause| TlsError::Read { path: path.to_path_buf(), cause });
    let empty = |path: &Path, what| TlsError::Empty { path: path.to_path_buf(), what };
    let pem = bytes(cert)?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| empty(cert, "certificate"))?;
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|_| empty(key, "private key"))?;
    let unfit = |cause| TlsError::Unfit { path: cert.to_path_buf(), cause };
    // TLS 1.2 and 1.3 are the library's defaults; it knows nothing older.
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(unfit)?;
    let mut scram = ScramServerAuth::new();
    if let Err(error) = scram.configure_certificate(&pem) {
        // Of an Ed25519 certificate nobody says what a login is bound to.
        info!(%error, "logins are not bound to this certificate");
    }
    Ok(Sealed { acceptor: TlsAcceptor::from(Arc::new(config)), scram })
}
