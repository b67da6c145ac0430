//! What a broker wants to know of us: which token, which certificate. Secrets are read where they lie each time that
//! they are shown, so that renewed ones count from the next connection on; none is ever printed.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use pulsar::authentication::Authentication;
use pulsar::error::AuthenticationError;

use crate::oauth2::{Grant, Source};
use crate::tls::Tls;
use crate::tunnel::{self, Tunnel};
use crate::{Error, ErrorKind};

/// What a connection needs beside the endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    token: Token,
    pub tls: Tls,
    /// Shared by all connections, so that one token does for all.
    issued: Option<Arc<Source>>,
}

/// A secret, or where it is. Only its kind is ever printed.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Token {
    None,
    Value(String),
    File(PathBuf),
    Issued(Grant),
}

/// What is said at a handshake.
pub(crate) struct Shown {
    /// Pulsar's name of it.
    pub method: &'static str,
    pub data: Vec<u8>,
}

impl Access {
    pub fn new(token: Token, tls: Tls) -> Self {
        let issued = match &token {
            Token::Issued(grant) => Some(Arc::new(Source::new(grant.clone(), &tls))),
            Token::None | Token::Value(_) | Token::File(_) => None,
        };
        Access { token, tls, issued }
    }

    /// What we show the broker now; nothing if there is nothing to show.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] when it cannot be read, with where it should be; what an issuer's failure is otherwise.
    pub async fn shown(&self) -> Result<Option<Shown>, Error> {
        Ok(match self.token().await? {
            Some(token) => Some(Shown { method: "token", data: token.into_bytes() }),
            // TLS has shown the certificate; this says that it is meant to tell who we are.
            None if self.tls.identity.is_some() => Some(Shown { method: "tls", data: Vec::new() }),
            None => None,
        })
    }

    /// The token, if there is one.
    ///
    /// # Errors
    /// As [`Access::shown`].
    pub async fn token(&self) -> Result<Option<String>, Error> {
        if let Some(source) = &self.issued {
            return source.token().await.map(Some);
        }
        match &self.token {
            Token::None | Token::Issued(_) => Ok(None),
            Token::Value(token) => Ok(Some(token.trim().to_owned())),
            // A small file, and of this machine.
            Token::File(file) => match std::fs::read_to_string(file) {
                Ok(token) => Ok(Some(token.trim().to_owned())),
                Err(error) => {
                    let message = format!("cannot read the token file {}: {error}", file.display());
                    Err(Error::new(ErrorKind::Unauthorized, message))
                }
            },
        }
    }

    /// The broker does not take this token: if an issuer gave it, another is asked for. Whether another try makes sense.
    pub async fn forget(&self, refused: Option<&str>) -> bool {
        let (Some(source), Some(refused)) = (&self.issued, refused) else { return false };
        source.forget(refused).await;
        true
    }

    /// What the crate says at each connection, if anything, when it connects by itself.
    pub fn for_the_crate(&self) -> Option<Box<dyn Authentication>> {
        let shows = self.token != Token::None;
        shows.then(|| -> Box<dyn Authentication> { Box::new(Showing::Ours(self.clone())) })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::None => f.write_str("None"),
            Token::Value(_) => f.write_str("Value(***)"),
            Token::File(file) => f.debug_tuple("File").field(file).finish(),
            // Names and places; the secret is in the key file.
            Token::Issued(grant) => f.debug_tuple("Issued").field(grant).finish(),
        }
    }
}

/// What the crate shows at each connection.
pub(crate) enum Showing {
    /// To a broker: what we have.
    Ours(Access),
    /// To the tunnel: its secret. It is kept open for as long as the crate may dial it.
    Tunnel(Arc<Tunnel>),
}

type CrateFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, AuthenticationError>> + Send + 'a>>;

impl Authentication for Showing {
    fn auth_method_name(&self) -> String {
        match self {
            Self::Ours(_) => "token".to_owned(),
            Self::Tunnel(_) => tunnel::METHOD.to_owned(),
        }
    }

    fn initialize<'a, 'f>(&'a mut self) -> CrateFuture<'f, ()>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async { Ok(()) })
    }

    fn auth_data<'a, 'f>(&'a mut self) -> CrateFuture<'f, Vec<u8>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            match self {
                Self::Ours(access) => {
                    let shown = access.shown().await.map_err(|error| AuthenticationError::Custom(error.to_string()))?;
                    Ok(shown.map(|shown| shown.data).unwrap_or_default())
                }
                Self::Tunnel(tunnel) => Ok(tunnel.secret()),
            }
        })
    }
}
