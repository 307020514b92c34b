//! Asking a running daemon, from the command line.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, time::timeout};

use super::Reloaded;
use crate::{http::reply::ErrorBody, report::StatusReport};

/// Time for an answer; longer than any the daemon gives itself.
const PATIENCE: Duration = Duration::from_secs(65);

/// Time to be let in.
const CONNECT: Duration = Duration::from_secs(5);

/// Why the daemon gave no answer, or not the wished one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error(
        "cannot reach the daemon at {}: is `alb run` running? --socket or ALB_SOCKET names \
         another socket",
        path.display()
    )]
    Absent {
        /// The socket.
        path: PathBuf,
        /// How connecting failed.
        source: io::Error,
    },
    /// The socket belongs to another user.
    #[error(
        "cannot reach the daemon at {}: permission denied, run this as the user that `alb run` \
         runs as (root)",
        path.display()
    )]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// How connecting failed.
        source: io::Error,
    },
    /// Somebody is there but says nothing.
    #[error("cannot reach the daemon at {}: no answer within {} s", path.display(), after.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke.
    #[error("cannot reach the daemon at {}: the connection broke off", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// How.
        source: hyper::Error,
    },
    /// Whoever is there speaks otherwise.
    #[error(
        "{} answers something else than this alb expects: is the daemon another version?",
        path.display()
    )]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Where its answer differs.
        source: serde_json::Error,
    },
    /// The daemon said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status of the answer.
        code: StatusCode,
        /// The daemon's words.
        message: String,
    },
}

impl ClientError {
    /// 3 when there was nobody to ask, 1 when the answer was no.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Absent { .. }
            | Self::Forbidden { .. }
            | Self::Silent { .. }
            | Self::Broken { .. }
            | Self::Foreign { .. } => 3,
            Self::Refused { .. } => 1,
        }
    }
}

/// Asks the daemon behind a control socket. Each request is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// For the daemon behind this socket.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Everything the daemon can tell.
    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.request(Method::GET, "/v1/status").await
    }

    /// Makes the daemon read its file again.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.request(Method::POST, "/v1/reload").await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &'static str,
    ) -> Result<T, ClientError> {
        let silent = |after| ClientError::Silent { path: self.path.clone(), after };
        let Ok(stream) = timeout(CONNECT, UnixStream::connect(&self.path)).await else {
            return Err(silent(CONNECT));
        };
        let stream = stream.map_err(|source| self.unconnected(source))?;
        let Ok(exchanged) = timeout(PATIENCE, exchange(stream, method, target)).await else {
            return Err(silent(PATIENCE));
        };
        let (code, body) =
            exchanged.map_err(|source| ClientError::Broken { path: self.path.clone(), source })?;
        let foreign = |source| ClientError::Foreign { path: self.path.clone(), source };
        if code.is_success() {
            return serde_json::from_slice(&body).map_err(foreign);
        }
        let ErrorBody { request_id: _, error } = serde_json::from_slice(&body).map_err(foreign)?;
        Err(ClientError::Refused { code, message: error.message })
    }

    fn unconnected(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Forbidden { path, source }
        } else {
            ClientError::Absent { path, source }
        }
    }
}

async fn exchange(
    stream: UnixStream,
    method: Method,
    target: &'static str,
) -> Result<(StatusCode, Bytes), hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = hyper::Uri::from_static(target);
    request
        .headers_mut()
        .insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("alb"));
    let answer = async {
        let response = sender.send_request(request).await?;
        let code = response.status();
        Ok((code, response.into_body().collect().await?.to_bytes()))
    };
    // The connection is driven beside the exchange and dropped with it.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => { ended?; answer.await }
    }
}
