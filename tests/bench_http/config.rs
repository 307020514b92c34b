//! What each proxy is told: the same site, with what a user would have switched on (timeouts,
//! forwarding headers, metrics).

mod others;
mod web;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::peer::Kind;

/// What a proxy serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    /// Where it listens: 80 http, 443 https, 5432 tcp.
    pub(crate) address: Ipv4Addr,
    /// Its own directory.
    pub(crate) dir: &'a Path,
    /// Holds `cert.pem`, `key.pem` and `both.pem`.
    pub(crate) certificates: &'a Path,
    /// Write an access log into `dir`.
    pub(crate) access_log: bool,
}

/// Writes the configuration and returns its path.
pub(crate) fn write(kind: Kind, site: &Site<'_>) -> PathBuf {
    let (name, text) = match kind {
        Kind::Alb => ("alb.yaml", web::alb(site)),
        Kind::Nginx => ("nginx.conf", web::nginx(site)),
        Kind::Haproxy | Kind::Haproxy28 => ("haproxy.cfg", web::haproxy(site)),
        Kind::Envoy => ("envoy.yaml", others::envoy(site)),
        Kind::Traefik => {
            fs::write(site.dir.join("dynamic.yaml"), others::traefik_dynamic(site))
                .expect("writing a configuration");
            ("traefik.yaml", others::traefik(site))
        }
        Kind::Caddy => ("Caddyfile", others::caddy(site)),
    };
    let path = site.dir.join(name);
    fs::write(&path, text).expect("writing a configuration");
    path
}
