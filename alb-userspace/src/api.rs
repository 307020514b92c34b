//! The `node.api` listener: probes and metrics, unsigned. The control paths of the API are answered
//! but not served yet. Knows the daemon only through [`Commands`].

#[cfg(test)]
mod tests;

use std::{future::Future, io, net::SocketAddr};

use hyper::{Method, Request, StatusCode, body::Incoming};
use tokio::net::TcpListener;

use crate::{
    control::{Command, Commands, Readiness, ask, server},
    http::{self, Limits, Reply, reply},
    metrics,
};

/// Why the listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has the port.
    #[error("node.api.listen {address} is in use by another program: free it or name another port")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// How binding failed.
        source: io::Error,
    },
    /// The address is elsewhere.
    #[error("node.api.listen {address} is no address of this host: use one of its own, or 0.0.0.0")]
    NotLocal {
        /// The address.
        address: SocketAddr,
        /// How binding failed.
        source: io::Error,
    },
    /// Any other failure.
    #[error("cannot listen on node.api.listen {address}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// How binding failed.
        source: io::Error,
    },
}

/// Opens the listener.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse { address, source }
        } else if source.kind() == io::ErrorKind::AddrNotAvailable {
            BindError::NotLocal { address, source }
        } else {
            BindError::Io { address, source }
        }
    })
}

/// Serves the listener until `shutdown` resolves.
pub async fn run(
    listener: TcpListener,
    commands: Commands,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let handler = move |request: Request<Incoming>| {
        let commands = commands.clone();
        async move { answer(&commands, request.method(), request.uri().path()).await }
    };
    http::serve(&listener, limits, handler, shutdown).await;
}

const TEXT: &str = "text/plain; charset=utf-8";

async fn answer(commands: &Commands, method: &Method, path: &str) -> Reply {
    match (path, method) {
        // That this task runs is the answer.
        ("/healthz", &Method::GET | &Method::HEAD) => reply::text(StatusCode::OK, TEXT, "ok\n"),
        ("/readyz", &Method::GET | &Method::HEAD) => ready(commands).await,
        ("/metrics", &Method::GET | &Method::HEAD) => exposition(commands).await,
        ("/healthz" | "/readyz" | "/metrics", _) => reply::method_not_allowed(path, "GET, HEAD"),
        _ if path.starts_with("/v1/regions/") => reply::error(
            StatusCode::NOT_IMPLEMENTED,
            "this version serves no control paths here: edit the file and send SIGHUP",
        ),
        _ => reply::error(
            StatusCode::NOT_FOUND,
            &format!("no path {path}: there are /healthz, /readyz and /metrics"),
        ),
    }
}

async fn ready(commands: &Commands) -> Reply {
    let unready = |why: &str| {
        reply::text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n"))
    };
    match ask(commands, server::LOOK, |reply| Command::Ready { reply }).await {
        Ok(Readiness::Ready) => reply::text(StatusCode::OK, TEXT, "ready\n"),
        Ok(Readiness::NotReady(why)) => unready(&why),
        Err(none) => unready(&none.to_string()),
    }
}

async fn exposition(commands: &Commands) -> Reply {
    let report = match ask(commands, server::LOOK, |reply| Command::Status { reply }).await {
        Ok(report) => report,
        Err(none) => return server::no_reply(none),
    };
    match metrics::render(&report) {
        Ok(text) => reply::text(StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(error) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
