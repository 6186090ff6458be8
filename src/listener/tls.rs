//! TLS 1.2 and 1.3 with rustls, and certificates that can be replaced while serving.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::validity::Validity;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{setting} = {}: {reason}", .path.display())]
    File {
        /// `tls.certificate` or `tls.key`.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not fit, or rustls cannot use them.
    #[error(
        "tls.certificate = {}, tls.key = {}: {}", .certificate.display(), .key.display(), misfit(.source)
    )]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The system gives no random numbers for session tickets.
    #[error("session tickets: {0}")]
    Tickets(rustls::Error),
}

/// A certificate and its key, ready for use.
#[derive(Debug)]
pub struct Loaded {
    /// What serves with them.
    pub config: Arc<ServerConfig>,
    certificate: PathBuf,
    chain: Vec<Option<Validity>>,
}

impl Loaded {
    /// What clients will not like about the chain at this time, one line each: certificates that
    /// have expired or are not valid yet. They can be served with, so that a clock which is wrong
    /// keeps nobody from starting.
    pub fn concerns(&self, now: SystemTime) -> Vec<String> {
        let place = self.certificate.display();
        let concern = |(at, validity): (usize, &Option<Validity>)| {
            let Validity { not_before, not_after } = (*validity)?;
            let (state, time) = if now > not_after {
                ("expired on", not_after)
            } else if now < not_before {
                ("is not valid before", not_before)
            } else {
                return None;
            };
            let time = httpdate::fmt_http_date(time);
            Some(format!("tls.certificate = {place}: certificate {} {state} {time}", at + 1))
        };
        self.chain.iter().enumerate().filter_map(concern).collect()
    }
}

/// Reads a certificate chain and its key, both PEM, and makes a configuration which offers
/// HTTP/2 and HTTP/1.1 by ALPN.
pub fn load(certificate: &Path, key: &Path) -> Result<Loaded, TlsError> {
    let chain = read_chain(certificate)?;
    let validities = chain.iter().map(|certificate| Validity::of(certificate)).collect();
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File {
        setting: "tls.key",
        path: key.to_owned(),
        reason: if is_encrypted(key) {
            "the key is encrypted, and nobody is there to type its passphrase: decrypt it with \
             `openssl pkey -in FILE -out NEW`, and keep that from others (mode 0600)"
                .to_owned()
        } else {
            describe(&error, "no private key in it")
        },
    })?;
    let pair = |source| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    };
    // The provider is named here, so that nothing depends on a process-wide default.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Tickets)?;
    Ok(Loaded { config: Arc::new(config), certificate: certificate.to_owned(), chain: validities })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed =
        |reason| TlsError::File { setting: "tls.certificate", path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(describe(&error, "no certificate in it")))?;
    if chain.is_empty() {
        return Err(failed("no certificate in it".to_owned()));
    }
    Ok(chain)
}

/// Is it a key with a passphrase? Its PEM says so, in the label or in a header.
fn is_encrypted(key: &Path) -> bool {
    std::fs::read_to_string(key).is_ok_and(|text| text.contains("ENCRYPTED"))
}

fn misfit(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            "the key is not that of the first certificate in the file".to_owned()
        }
        other => format!("{other}; RSA keys have 2048 bits at least"),
    }
}

fn describe(error: &pem::Error, nothing: &str) -> String {
    match error {
        pem::Error::NoItemsFound => nothing.to_owned(),
        pem::Error::Io(source) if source.kind() == std::io::ErrorKind::NotFound => {
            "no such file".to_owned()
        }
        pem::Error::Io(source) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            "permission denied".to_owned()
        }
        pem::Error::Io(source) => source.to_string(),
        other => format!("not PEM: {other}"),
    }
}

/// The configuration in force; new connections take the latest.
#[derive(Debug)]
pub struct TlsServer {
    current: ArcSwap<ServerConfig>,
}

impl TlsServer {
    /// Serves with `config`.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self { current: ArcSwap::new(config) }
    }

    /// Takes a new certificate into use, for connections to come.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.current.store(config);
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn pair() -> (String, String) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        (pair.cert.pem(), pair.signing_key.serialize_pem())
    }

    fn date(text: &str) -> SystemTime {
        httpdate::parse_http_date(text).expect("a date")
    }

    #[test]
    fn certificates_outside_their_time_are_named_and_loaded_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let key_pair = rcgen::KeyPair::generate().expect("a key");
        let made = |from: i32, to: i32| {
            let mut params = rcgen::CertificateParams::new(["a".to_owned()]).expect("names");
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
            params.self_signed(&key_pair).expect("made").pem()
        };
        let chain = [made(2010, 2030), made(2015, 2020)].concat();
        let path = written(directory.path(), "c.pem", &chain);
        let key = written(directory.path(), "k.pem", &key_pair.serialize_pem());
        let loaded = load(&path, &key).expect("loads");
        let place = path.display();
        for (now, expected) in [
            ("Sun, 01 Jan 2017 00:00:00 GMT", vec![]),
            (
                "Tue, 01 Jan 2013 00:00:00 GMT",
                vec!["certificate 2 is not valid before Thu, 01 Jan 2015 00:00:00 GMT"],
            ),
            (
                "Fri, 01 Jan 2021 00:00:00 GMT",
                vec!["certificate 2 expired on Wed, 01 Jan 2020 00:00:00 GMT"],
            ),
            (
                "Wed, 01 Jan 2031 00:00:00 GMT",
                vec![
                    "certificate 1 expired on Tue, 01 Jan 2030 00:00:00 GMT",
                    "certificate 2 expired on Wed, 01 Jan 2020 00:00:00 GMT",
                ],
            ),
        ] {
            let expected: Vec<_> = expected
                .into_iter()
                .map(|concern| format!("tls.certificate = {place}: {concern}"))
                .collect();
            assert_eq!(loaded.concerns(date(now)), expected);
        }
    }

    #[test]
    fn a_fitting_pair_loads() {
        let directory = tempfile::tempdir().expect("a directory");
        let (certificate, key) = pair();
        let certificate = written(directory.path(), "c.pem", &certificate);
        let key = written(directory.path(), "k.pem", &key);
        load(&certificate, &key).expect("loads");
    }

    #[test]
    fn each_mistake_names_its_file_and_what_is_wrong() {
        let directory = tempfile::tempdir().expect("a directory");
        let (certificate, key) = pair();
        let good = written(directory.path(), "c.pem", &certificate);
        let good_key = written(directory.path(), "k.pem", &key);
        let other_key = written(directory.path(), "other.pem", &pair().1);
        let empty = written(directory.path(), "empty.pem", "nothing here\n");
        let missing = directory.path().join("missing.pem");

        let message = |certificate: &Path, key: &Path| {
            load(certificate, key).expect_err("a mistake").to_string()
        };
        let said = message(&missing, &good_key);
        assert_eq!(said, format!("tls.certificate = {}: no such file", missing.display()));
        let said = message(&empty, &good_key);
        assert_eq!(said, format!("tls.certificate = {}: no certificate in it", empty.display()));
        let said = message(&good, &empty);
        assert_eq!(said, format!("tls.key = {}: no private key in it", empty.display()));
        let said = message(&good, &other_key);
        assert!(
            said.ends_with("other.pem: the key is not that of the first certificate in the file")
        );
        for armour in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n",
        ] {
            let locked = written(directory.path(), "locked.pem", armour);
            assert!(message(&good, &locked).contains("locked.pem: the key is encrypted"));
        }
    }
}
