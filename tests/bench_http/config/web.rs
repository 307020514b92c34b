//! Configurations of this project, nginx and haproxy.

use super::Site;
use crate::arena::ORIGIN;

pub(super) fn alb(site: &Site<'_>) -> String {
    let Site { address, dir, certificates, access_log } = site;
    let (dir, certificates) = (dir.display(), certificates.display());
    let host = address.octets()[3];
    let log = if *access_log { "  accessLog: { file: access.jsonl }\n" } else { "" };
    format!(
        "node:\n  datapath: proxy\n  workers: 1\n  stateDir: {dir}/state\n  bpffs: {dir}/bpf\n  \
         api: {{ listen: 127.0.0.{host}:9180 }}\n{log}\
         subnets: [{{ name: front, addressPrefix: 198.18.0.0/24 }}]\n\
         certificates: [{{ name: site, certFile: {certificates}/cert.pem, keyFile: {certificates}/key.pem }}]\n\
         loadBalancers:\n\
         - name: bench\n  subnet: front\n  privateIpAddress: {address}\n\
         \x20 targetGroups: [{{ name: origin, type: ip, targets: [{{ ipAddress: {ORIGIN}, port: 8080 }}] }}]\n\
         \x20 backends:\n\
         \x20 - {{ name: web, protocol: Http, port: 8080, targetGroup: origin, httpForwardedProtocol: true, \
         httpForwardedPort: true, httpForwardedHost: true, healthCheck: {{ protocol: Tcp }} }}\n\
         \x20 - {{ name: raw, protocol: Tcp, port: 8080, targetGroup: origin, healthCheck: {{ protocol: Tcp }} }}\n\
         \x20 listeners:\n\
         \x20 - {{ name: http, protocol: Http, port: 80, backend: web }}\n\
         \x20 - {{ name: https, protocol: Https, port: 443, backend: web, certificates: [site] }}\n\
         \x20 - {{ name: tcp, protocol: Tcp, port: 5432, backend: raw }}\n"
    )
}

pub(super) fn nginx(site: &Site<'_>) -> String {
    let Site { address, dir, certificates, access_log } = site;
    let (dir, certificates) = (dir.display(), certificates.display());
    let log = if *access_log {
        // Without a buffer it would be a system call a line; ours are in the file as soon as these.
        format!("access_log {dir}/access.log combined buffer=32k flush=100ms;")
    } else {
        "access_log off;".into()
    };
    let forward = "proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                   proxy_set_header Host $http_host; \
                   proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
                   proxy_set_header X-Forwarded-Proto $scheme; \
                   proxy_set_header X-Forwarded-Port $server_port; \
                   proxy_set_header X-Forwarded-Host $http_host; \
                   proxy_set_header X-Request-Id $request_id; proxy_pass http://origin;";
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log warn;\n\
         worker_rlimit_nofile 20000; events {{ worker_connections 19000; }}\n\
         http {{ {log} keepalive_requests 1000000000; keepalive_timeout 60s;\n\
         client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;\n\
         uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
         ssl_certificate {certificates}/cert.pem; ssl_certificate_key {certificates}/key.pem;\n\
         ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:s:10m;\n\
         proxy_connect_timeout 5s; proxy_read_timeout 60s;\n\
         upstream origin {{ server {ORIGIN}:8080; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen {address}:80 backlog=16384; location / {{ {forward} }} \
         location = /status {{ stub_status; }} }}\n\
         server {{ listen {address}:443 ssl http2 backlog=16384; http2_max_requests 1000000000; \
         location / {{ {forward} }} }} }}\n\
         stream {{ server {{ listen {address}:5432 backlog=16384; proxy_timeout 1800s; \
         proxy_connect_timeout 5s; proxy_pass {ORIGIN}:8080; }} }}\n"
    )
}

pub(super) fn haproxy(site: &Site<'_>) -> String {
    let Site { address, dir, certificates, access_log } = site;
    let (dir, certificates) = (dir.display(), certificates.display());
    let log = if *access_log { "log global\n option httplog" } else { "no log" };
    let forward = "http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]\n \
                   http-request set-header X-Forwarded-Port %[dst_port]\n \
                   http-request set-header X-Forwarded-Host %[req.hdr(host)]\n \
                   unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid\n \
                   http-request set-header X-Request-Id %[unique-id]";
    format!(
        "global\n nbthread 1\n maxconn 9500\n log stdout format raw local0\n \
         stats socket {dir}/stats.sock\n\
         defaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n \
         timeout http-request 10s\n timeout http-keep-alive 60s\n\
         frontend web\n mode http\n {log}\n bind {address}:80 backlog 16384\n \
         bind {address}:443 ssl crt {certificates}/both.pem alpn h2,http/1.1 backlog 16384\n \
         option forwardfor\n {forward}\n default_backend origin\n\
         backend origin\n mode http\n http-reuse always\n server o {ORIGIN}:8080 pool-max-conn 256\n\
         frontend raw\n mode tcp\n no log\n bind {address}:5432 backlog 16384\n timeout client 1800s\n \
         default_backend raw-origin\n\
         backend raw-origin\n mode tcp\n timeout server 1800s\n server o {ORIGIN}:8080\n"
    )
}
