//! The way to a server: TCP, TLS or a Unix socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::RedisError;
use crate::settings::{self, HostPort, RedisServer};

/// A connection to a server.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects. With `tls` a server that is reached by TCP must prove that it has that name.
    pub(super) async fn open(server: &RedisServer, tls: Option<&TlsConnector>) -> io::Result<Self> {
        let HostPort { host, port } = match server {
            RedisServer::Unix(path) => return UnixStream::connect(path).await.map(Self::Unix),
            RedisServer::Tcp(address) => address,
        };
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(Self::Tcp(stream)) };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        tls.connect(name, stream).await.map(|stream| Self::Tls(Box::new(stream)))
    }
}

/// What proves to this server that the other one is who it should be; `None`: there is no TLS.
pub(super) fn connector(settings: &settings::Redis) -> Result<Option<TlsConnector>, RedisError> {
    if !settings.url.as_ref().is_some_and(|url| url.tls) {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    let authority = &settings.authority;
    if authority.as_os_str().is_empty() {
        // One that cannot be read is no reason to believe none.
        let (taken, _) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if taken == 0 {
            return Err(RedisError::Authority("this system names no authorities".to_owned()));
        }
    } else {
        let refused =
            |what: String| RedisError::Authority(format!("{}: {what}", authority.display()));
        let found = CertificateDer::pem_file_iter(authority)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refused(error.to_string()))?;
        for certificate in found {
            roots.add(certificate).map_err(|error| refused(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(refused("no certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| RedisError::Authority(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

macro_rules! each {
    ($stream:expr, $inner:ident => $what:expr) => {
        match $stream {
            Self::Tcp($inner) => $what,
            Self::Tls($inner) => $what,
            Self::Unix($inner) => $what,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, inner => inner.is_write_vectored())
    }
}
