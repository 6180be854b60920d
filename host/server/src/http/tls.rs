//! Accepting connections: at most so many at once, and with TLS where there is a certificate.
//!
//! Handshakes run beside each other and each has its time, so that no client holds up another.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, Sleep},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

use crate::failure::{Explain, Failure};

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A connection to which nothing was written for so long is closed: idle ones, and those that never finish a request.
/// Longer than any request should take; streams write every ten seconds.
const SILENCE: Duration = Duration::from_secs(600);
/// Pause after an error of accepting, such as too many open files.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Reads certificate chain and key.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    let attempted = |path: &Path| format!("reading `{}`", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .attempt(attempted(certificate))?
        .collect::<Result<Vec<_>, _>>()
        .attempt(attempted(certificate))?;
    let secret = PrivateKeyDer::from_pem_file(key).attempt(attempted(key))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .attempt("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .attempt(format!("using certificate `{}` with key `{}`", certificate.display(), key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection, which holds its place until it is closed.
pub(super) struct Connection {
    stream: Stream,
    silence: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: Stream, place: OwnedSemaphorePermit) -> Self {
        Self { stream, silence: Box::pin(tokio::time::sleep(SILENCE)), _place: place }
    }
}

/// Hands out connections that are ready to be read.
pub(super) struct Accepting {
    ready: mpsc::Receiver<(Connection, SocketAddr)>,
    address: io::Result<SocketAddr>,
}

impl Accepting {
    /// Starts to accept.
    pub(super) fn start(listener: TcpListener, tls: Option<TlsAcceptor>, most: usize) -> Self {
        let address = listener.local_addr();
        let places = Arc::new(Semaphore::new(most));
        let (sender, ready) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (stream, peer) = tokio::select! {
                    // The server has ended.
                    () = sender.closed() => return,
                    accepted = listener.accept() => match accepted {
                        Ok(accepted) => accepted,
                        Err(error) => {
                            tracing::warn!("could not accept a connection: {error}");
                            tokio::time::sleep(ERROR_PAUSE).await;
                            continue;
                        }
                    },
                };
                // Small answers go out at once.
                let _ = stream.set_nodelay(true);
                let (sender, tls) = (sender.clone(), tls.clone());
                tokio::spawn(async move {
                    let stream = match tls {
                        None => Stream::Plain(stream),
                        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
                            Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                            Ok(Err(error)) => {
                                tracing::debug!("a handshake failed: {error}");
                                return;
                            }
                            Err(_) => return,
                        },
                    };
                    // Without a receiver the server has ended, and the connection with it.
                    let _ = sender.send((Connection::new(stream, place), peer)).await;
                });
            }
        });
        Self { ready, address }
    }
}

impl Listener for Accepting {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(error) => Err(error.kind().into()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.silence.as_mut().reset(Instant::now() + SILENCE);
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
