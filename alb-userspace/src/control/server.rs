//! The control socket's HTTP side: paths to commands, answers to JSON.

use std::{future::Future, time::Duration};

use hyper::{Method, Request, StatusCode, body::Incoming};

use super::{Command, Commands, NoReply, Readiness, ReloadError, ask, socket::ControlSocket};
use crate::http::{self, Limits, Reply, reply};

/// Time for an answer that needs no more than looking.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// Time for an answer that needs tables changed.
const CHANGE: Duration = Duration::from_mins(1);

/// Serves the control socket until `shutdown` resolves; its file is gone afterwards.
pub async fn run(
    socket: ControlSocket,
    commands: Commands,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let handler = move |request: Request<Incoming>| {
        let commands = commands.clone();
        async move { answer(&commands, request.method(), request.uri().path()).await }
    };
    http::serve(&socket.listener, limits, handler, shutdown).await;
}

async fn answer(commands: &Commands, method: &Method, path: &str) -> Reply {
    match (path, method) {
        ("/v1/status", &Method::GET | &Method::HEAD) => {
            match ask(commands, LOOK, |reply| Command::Status { reply }).await {
                Ok(report) => reply::json(StatusCode::OK, &report),
                Err(none) => no_reply(none),
            }
        }
        ("/v1/health", &Method::GET | &Method::HEAD) => {
            match ask(commands, LOOK, |reply| Command::Ready { reply }).await {
                Ok(Readiness::Ready) => {
                    reply::json(StatusCode::OK, &serde_json::json!({ "ready": true }))
                }
                Ok(Readiness::NotReady(why)) => reply::error(StatusCode::SERVICE_UNAVAILABLE, &why),
                Err(none) => no_reply(none),
            }
        }
        ("/v1/reload", &Method::POST) => {
            match ask(commands, CHANGE, |reply| Command::Reload { reply }).await {
                Ok(Ok(reloaded)) => reply::json(StatusCode::OK, &reloaded),
                Ok(Err(refusal)) => reply::error(refusal_code(&refusal), &refusal.to_string()),
                Err(none) => no_reply(none),
            }
        }
        ("/v1/status" | "/v1/health", _) => reply::method_not_allowed(path, "GET, HEAD"),
        ("/v1/reload", _) => reply::method_not_allowed(path, "POST"),
        _ => reply::error(
            StatusCode::NOT_FOUND,
            &format!("no path {path}: the daemon answers /v1/status, /v1/health and /v1/reload"),
        ),
    }
}

/// The file's fault is the asker's; the kernel's is ours.
fn refusal_code(refusal: &ReloadError) -> StatusCode {
    match refusal {
        ReloadError::NoFile => StatusCode::CONFLICT,
        ReloadError::Refused { .. } => StatusCode::BAD_REQUEST,
        ReloadError::NotApplied { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A daemon that is too busy, or on its way out.
pub(crate) fn no_reply(none: NoReply) -> Reply {
    reply::error(StatusCode::SERVICE_UNAVAILABLE, &none.to_string())
}
