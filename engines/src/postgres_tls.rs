//! How connections to PostgreSQL are encrypted: `sslmode` and `sslrootcert` of an address, as libpq names them.
//!
//! The client library knows `disable`, `prefer` and `require` and looks at no certificate; what is checked of one is decided
//! here. As with libpq `require` without `sslrootcert` takes any certificate, and with it asks what `verify-ca` asks.
//! Unlike libpq, no file is looked for where none is named: `verify-full` then trusts the public authorities.

use std::{error::Error, path::Path, sync::Arc};

use percent_encoding::percent_decode_str;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio_postgres::{
    Config,
    config::{SslMode, SslNegotiation},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What `sslrootcert` says for the public authorities.
const PUBLIC: &str = "system";
/// What the client library says of a server without TLS; it has no other mark.
const NO_TLS: &str = "server does not support TLS";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

const MODES: [(&str, Mode); 5] = [
    ("disable", Mode::Disable),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

/// What is asked of a server's certificate.
#[derive(Debug, PartialEq, Eq)]
enum Check<'a> {
    Nothing,
    /// Signed by an authority of this file.
    Chain(&'a str),
    /// Signed by an authority of this file, or by a public one, and valid for the host.
    ChainAndName(Option<&'a str>),
}

/// Reads an address, with what connects to it.
pub(crate) fn prepared(url: &str) -> Result<(Config, MakeRustlsConnect), String> {
    let (address, options) = taken(url)?;
    let expected = "postgres://USER@HOST:PORT/DATABASE";
    let mut config: Config =
        address.parse().map_err(|error| format!("`url`: expected {expected}: {}", with_cause(&error)))?;
    let said =
        |name: &str| options.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mode = match said("sslmode") {
        Some(word) => mode_of(word)?,
        // Of an address in libpq's other spelling, which the library reads itself.
        None => match config.get_ssl_mode() {
            SslMode::Disable => Mode::Disable,
            SslMode::Require => Mode::Require,
            _ => Mode::Prefer,
        },
    };
    config.ssl_mode(match mode {
        Mode::Disable => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        _ => SslMode::Require,
    });
    let mut tls = client(&check(mode, said("sslrootcert"))?)?;
    if config.get_ssl_negotiation() == SslNegotiation::Direct {
        // A server that is met without the question before is told by the handshake what is spoken.
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok((config, MakeRustlsConnect::new(tls)))
}

/// The client library says what was wrong in the cause alone.
fn with_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// The options of an address that are read here, and the address without them.
fn taken(url: &str) -> Result<(String, Vec<(String, String)>), String> {
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    // A password may hold a question mark.
    let behind_user = url.find('@').unwrap_or(0);
    let Some(mark) = url[behind_user..].find('?').map(|at| behind_user + at).filter(|_| is_url) else {
        return Ok((url.to_owned(), Vec::new()));
    };
    let (mut rest, mut options) = (Vec::new(), Vec::new());
    for part in url[mark + 1..].split('&') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "sslmode" | "sslrootcert" => {
                let value = percent_decode_str(value).decode_utf8();
                let value = value.map_err(|error| format!("`{key}` in `url`: {error}"))?;
                options.push((key.to_owned(), value.into_owned()));
            }
            other if other.starts_with("ssl") && other != "sslnegotiation" => {
                return Err(format!(
                    "`{other}` in `url` is not supported: there are sslmode, sslrootcert and sslnegotiation"
                ));
            }
            _ => rest.push(part),
        }
    }
    let rest = rest.join("&");
    let address = if rest.is_empty() { url[..mark].to_owned() } else { format!("{}?{rest}", &url[..mark]) };
    Ok((address, options))
}

fn mode_of(word: &str) -> Result<Mode, String> {
    let found = MODES.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode);
    found.ok_or_else(|| {
        let known: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
        format!("`sslmode` in `url`: expected one of {}, got `{word}`", known.join(", "))
    })
}

fn check(mode: Mode, roots: Option<&str>) -> Result<Check<'_>, String> {
    match (mode, roots) {
        (Mode::Disable | Mode::Prefer, Some(_)) => Err(
            "`sslrootcert` in `url`: expected `sslmode=verify-full` beside it, got a mode that looks at no certificate"
                .to_owned(),
        ),
        (Mode::Disable | Mode::Prefer | Mode::Require, None) => Ok(Check::Nothing),
        (Mode::Require | Mode::VerifyCa, Some(PUBLIC)) => Err(format!(
            "`sslrootcert={PUBLIC}` in `url`: expected `sslmode=verify-full` beside it, since anybody can have a \
             certificate of a public authority"
        )),
        (Mode::VerifyCa, None) => Err(
            "`sslmode=verify-ca` in `url`: expected `sslrootcert` beside it, the file with the authority's certificate"
                .to_owned(),
        ),
        (Mode::Require | Mode::VerifyCa, Some(file)) => Ok(Check::Chain(file)),
        (Mode::VerifyFull, file) => Ok(Check::ChainAndName(file.filter(|file| *file != PUBLIC))),
    }
}

fn client(check: &Check<'_>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("choosing TLS versions: {error}"))?;
    let roots = match check {
        Check::ChainAndName(None) => {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            return Ok(builder.with_root_certificates(roots).with_no_client_auth());
        }
        Check::ChainAndName(Some(file)) => {
            return Ok(builder.with_root_certificates(read(file)?).with_no_client_auth());
        }
        Check::Chain(file) => Some(read(file)?),
        Check::Nothing => None,
    };
    let weaker = Arc::new(Weaker { roots, provider });
    Ok(builder.dangerous().with_custom_certificate_verifier(weaker).with_no_client_auth())
}

/// The authorities' certificates in a file.
fn read(file: &str) -> Result<RootCertStore, String> {
    let failed = |error: &dyn std::fmt::Display| format!("reading `sslrootcert` `{file}`: {error}");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(Path::new(file)).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() {
        return Err(failed(&"expected certificates in PEM, got none"));
    }
    Ok(roots)
}

/// What `require` and `verify-ca` ask: less than TLS does, which looks at the name as well.
#[derive(Debug)]
struct Weaker {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl Weaker {
    /// Whether a certificate is taken though it cannot be read, as those of X.509's first version cannot, which commands in
    /// PostgreSQL's manual make with older releases of OpenSSL. Of all others the server has to hold the key, or binding a
    /// password to the channel would be worth nothing.
    fn takes_unread(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.is_none() && ParsedCertificate::try_from(certificate).is_err()
    }
}

impl ServerCertVerifier for Weaker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.takes_unread(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.takes_unread(certificate) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why no encrypted connection came about, where the next attempt would end alike, and what to do.
pub(crate) fn refusal(error: &tokio_postgres::Error) -> Option<String> {
    let cause = error.source()?;
    if cause.to_string() == NO_TLS {
        return Some(
            "the server does not speak TLS, which `sslmode` in `url` demands: set `ssl = on` in its postgresql.conf, or \
             `sslmode=disable` where the network is private"
                .to_owned(),
        );
    }
    let failed = cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(reason) = failed else { return None };
    Some(format!(
        "the server's certificate is not trusted: {reason}; `sslrootcert` in `url` has to name a file with the certificate of \
         the authority that signed it, and with `verify-full` the host has to be one that it names"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_is_checked() {
        let said = |options: &str| -> Result<(String, SslMode), String> {
            let url = format!("postgres://u:p%3F@h:1/d{options}");
            let (address, _) = taken(&url)?;
            prepared(&url).map(|(config, _)| (address, config.get_ssl_mode()))
        };
        let plain = "postgres://u:p%3F@h:1/d".to_owned();
        assert_eq!(said(""), Ok((plain.clone(), SslMode::Prefer)));
        assert_eq!(said("?sslmode=disable"), Ok((plain.clone(), SslMode::Disable)));
        assert_eq!(said("?sslmode=require"), Ok((plain.clone(), SslMode::Require)));
        assert_eq!(said("?sslmode=verify-full"), Ok((plain, SslMode::Require)));
        let kept = "?connect_timeout=3&sslmode=verify-full&sslrootcert=system&keepalives=0";
        let without = "postgres://u:p%3F@h:1/d?connect_timeout=3&keepalives=0".to_owned();
        assert_eq!(said(kept), Ok((without, SslMode::Require)));
        assert_eq!(
            prepared("host=h user=u sslmode=require").map(|(config, _)| config.get_ssl_mode()).ok(),
            Some(SslMode::Require)
        );

        let refused = |options: &str, expected: &str| assert_eq!(said(options).unwrap_err(), expected);
        refused(
            "?sslmode=allow",
            "`sslmode` in `url`: expected one of disable, prefer, require, verify-ca, verify-full, got `allow`",
        );
        refused(
            "?sslmode=require&sslrootcert=nowhere%20here.pem",
            "reading `sslrootcert` `nowhere here.pem`: I/O error: No such file or directory (os error 2)",
        );
        refused(
            "?sslrootcert=a.pem",
            "`sslrootcert` in `url`: expected `sslmode=verify-full` beside it, got a mode that looks at no certificate",
        );
        refused(
            "?sslmode=verify-ca",
            "`sslmode=verify-ca` in `url`: expected `sslrootcert` beside it, the file with the authority's certificate",
        );
        refused(
            "?sslmode=require&sslrootcert=system",
            "`sslrootcert=system` in `url`: expected `sslmode=verify-full` beside it, since anybody can have a \
             certificate of a public authority",
        );
        refused(
            "?sslcert=mine.pem",
            "`sslcert` in `url` is not supported: there are sslmode, sslrootcert and sslnegotiation",
        );
    }

    #[test]
    fn a_file_without_certificates_is_no_authority() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        std::fs::write(&file, "nothing\n").unwrap();
        let refused = read(file.to_str().unwrap()).unwrap_err();
        assert!(refused.ends_with("expected certificates in PEM, got none"), "{refused}");
    }
}
