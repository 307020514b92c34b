//! Configurations of Envoy, Traefik and Caddy.

use super::Site;
use crate::arena::ORIGIN;

pub(super) fn envoy(site: &Site<'_>) -> String {
    let Site { address, dir, certificates, access_log } = site;
    let (dir, certificates) = (dir.display(), certificates.display());
    let log = if *access_log {
        format!(
            "\n          access_log: [{{ name: file, typed_config: {{ \
             \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, \
             path: {dir}/access.log }} }}]"
        )
    } else {
        String::new()
    };
    let manager = format!(
        "      - name: http\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
         stat_prefix: web\n          use_remote_address: true\n          request_headers_timeout: 10s\n          \
         common_http_protocol_options: {{ idle_timeout: 60s }}{log}\n          \
         route_config: {{ virtual_hosts: [{{ name: all, domains: [\"*\"], \
         routes: [{{ match: {{ prefix: / }}, route: {{ cluster: origin, timeout: 60s }} }}] }}] }}\n          \
         http_filters: [{{ name: router, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}]\n"
    );
    format!(
        "static_resources:\n  listeners:\n  \
         - name: http\n    address: {{ socket_address: {{ address: {address}, port_value: 80 }} }}\n    \
         filter_chains:\n    - filters:\n{manager}  \
         - name: https\n    address: {{ socket_address: {{ address: {address}, port_value: 443 }} }}\n    \
         filter_chains:\n    - transport_socket:\n        name: tls\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          \
         common_tls_context:\n            alpn_protocols: [h2, http/1.1]\n            \
         tls_certificates: [{{ certificate_chain: {{ filename: {certificates}/cert.pem }}, \
         private_key: {{ filename: {certificates}/key.pem }} }}]\n      filters:\n{manager}  \
         - name: tcp\n    address: {{ socket_address: {{ address: {address}, port_value: 5432 }} }}\n    \
         filter_chains:\n    - filters:\n      - name: tcp\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n          \
         stat_prefix: tcp\n          cluster: origin\n  \
         clusters:\n  - name: origin\n    connect_timeout: 5s\n    type: STATIC\n    \
         circuit_breakers: {{ thresholds: [{{ max_connections: 20000, max_pending_requests: 20000, \
         max_requests: 20000 }}] }}\n    \
         load_assignment: {{ cluster_name: origin, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ \
         address: {{ socket_address: {{ address: {ORIGIN}, port_value: 8080 }} }} }} }}] }}] }}\n\
         admin: {{ address: {{ socket_address: {{ address: {address}, port_value: 9901 }} }} }}\n"
    )
}

pub(super) fn traefik(site: &Site<'_>) -> String {
    let Site { address, dir, access_log, .. } = site;
    let dir = dir.display();
    let log = if *access_log {
        format!("accessLog: {{ filePath: {dir}/access.log }}\n")
    } else {
        String::new()
    };
    format!(
        "entryPoints:\n  http: {{ address: \"{address}:80\" }}\n  https: {{ address: \"{address}:443\" }}\n  \
         tcp: {{ address: \"{address}:5432\" }}\n  metrics: {{ address: \"{address}:9901\" }}\n\
         metrics: {{ prometheus: {{ entryPoint: metrics }} }}\n\
         global: {{ checkNewVersion: false, sendAnonymousUsage: false }}\n\
         log: {{ level: ERROR }}\n{log}\
         providers: {{ file: {{ filename: {dir}/dynamic.yaml, watch: false }} }}\n"
    )
}

pub(super) fn traefik_dynamic(site: &Site<'_>) -> String {
    let certificates = site.certificates.display();
    format!(
        "http:\n  routers:\n    \
         plain: {{ rule: \"PathPrefix(`/`)\", entryPoints: [http], service: origin }}\n    \
         secure: {{ rule: \"PathPrefix(`/`)\", entryPoints: [https], service: origin, tls: {{}} }}\n  \
         services:\n    origin: {{ loadBalancer: {{ passHostHeader: true, \
         servers: [{{ url: \"http://{ORIGIN}:8080\" }}] }} }}\n\
         tcp:\n  routers:\n    raw: {{ rule: \"HostSNI(`*`)\", entryPoints: [tcp], service: origin }}\n  \
         services:\n    origin: {{ loadBalancer: {{ servers: [{{ address: \"{ORIGIN}:8080\" }}] }} }}\n\
         tls:\n  stores:\n    default: {{ defaultCertificate: {{ certFile: {certificates}/cert.pem, \
         keyFile: {certificates}/key.pem }} }}\n"
    )
}

pub(super) fn caddy(site: &Site<'_>) -> String {
    let Site { address, dir, certificates, access_log } = site;
    let (dir, certificates) = (dir.display(), certificates.display());
    let log = if *access_log {
        format!("log {{\n output file {dir}/access.log\n }}\n")
    } else {
        String::new()
    };
    let proxy = format!(
        "bind {address}\n {log} reverse_proxy {ORIGIN}:8080 {{\n transport http {{\n dial_timeout 5s\n \
         keepalive_idle_conns_per_host 256\n }}\n }}\n"
    );
    format!(
        "{{\n admin {address}:2019\n auto_https off\n persist_config off\n metrics\n \
         log {{\n level ERROR\n }}\n}}\n\
         http://:80 {{\n {proxy}}}\n\
         https://:443 {{\n tls {certificates}/cert.pem {certificates}/key.pem\n {proxy}}}\n"
    )
}
