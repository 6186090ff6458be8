//! Nodes that prove by certificates who they are.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::PeerError;
use crate::settings;

/// Both ends.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) connector: TlsConnector,
}

/// `None`: the settings name no certificate.
pub(super) fn load(settings: &settings::Peers) -> Result<Option<Tls>, PeerError> {
    if !settings.has_certificate() {
        return Ok(None);
    }
    let wrong = |path: &Path, setting: &str, error: &dyn fmt::Display| {
        PeerError::Certificate(format!("fleet.{setting} = {}: {error}", path.display()))
    };
    let (certificate, key) = (&settings.certificate, &settings.key);
    let chain =
        certificates(certificate).map_err(|error| wrong(certificate, "certificate", &error))?;
    let private_key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, "key", &error))?;
    let authority = &settings.authority;
    let refused = |error: &dyn fmt::Display| wrong(authority, "authority", error);
    let mut roots = RootCertStore::empty();
    for root in certificates(authority).map_err(|error| refused(&error))? {
        roots.add(root).map_err(|error| refused(&error))?;
    }
    let (roots, provider) = (Arc::new(roots), Arc::new(aws_lc_rs::default_provider()));
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider.clone())
        .build()
        .map_err(|error| refused(&error))?;
    let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| refused(&error))?;
    let pair = |error: Error| wrong(certificate, "certificate", &error);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.clone(), private_key.clone_key())
        .map_err(pair)?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyMember(servers)))
        .with_client_auth_cert(chain, private_key)
        .map_err(pair)?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(Tls {
        acceptor: TlsAcceptor::from(Arc::new(server)),
        connector: TlsConnector::from(Arc::new(client)),
    }))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(chain) if chain.is_empty() => Err("no certificate in it".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

/// A server whose certificate is of the fleet's authority, whatever name stands in it: nodes come
/// and go with their addresses, and each is as good as another. The same holds for clients.
#[derive(Debug)]
struct AnyMember(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyMember {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last, when the chain has been found right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
