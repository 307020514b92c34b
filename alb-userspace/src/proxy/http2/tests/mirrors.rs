//! Requests of h2 clients, copied for a mirror backend.

use tokio::io::AsyncReadExt as _;

use super::lab::*;
use crate::model::{PathPattern, RouteAction, Rule, TargetSource, UrlMap};

#[test]
fn a_mirror_gets_what_the_target_gets_and_once() {
    run(async {
        let ((web, to), (mirror, copy)) = (origin().await, origin().await);
        let lab = Lab::changed(&[to, to], |balancer| {
            let mut group = balancer.target_groups[0].clone();
            let mut backend = balancer.backends[0].clone();
            group.targets = vec![crate::state::fixture::target("o", copy)];
            group.id = "tg-2".into();
            (backend.id, backend.name) = ("other".into(), "other".into());
            backend.source = TargetSource::Group("tg-2".into());
            balancer.target_groups.push(group);
            balancer.backends.push(backend);
            let action = RouteAction::Forward {
                backend: "web".into(),
                rewrite: None,
                mirror: Some("other".into()),
                headers: vec![],
            };
            let path = PathPattern::Prefix("/".into());
            let rules =
                vec![Rule { id: "r".into(), host: None, path, action, post_actions: vec![] }];
            let (id, name, description) = ("m".into(), "m".into(), String::new());
            balancer.url_maps = vec![UrlMap { id, name, description, rules }];
            balancer.listeners[0].url_map = Some("m".into());
        })
        .await;
        let mut client = lab.client().await;
        let mut request = post("/a");
        *request.method_mut() = http::Method::PUT;
        let (response, mut body) = client.send_request(request, false).unwrap();
        body.send_data("hello".into(), false).unwrap();
        // The first target closes: the request is sent again, its copy is not.
        let (mut first, mut twin) = (accept(&web).await, accept(&mirror).await);
        read_until(&mut first, "\r\n\r\n5\r\nhello\r\n").await;
        drop(first);
        let mut second = accept(&web).await;
        let begun = read_until(&mut second, "\r\n\r\n5\r\nhello\r\n").await;
        body.send_data("world".into(), true).unwrap();
        let rest = read_until(&mut second, "5\r\nworld\r\n0\r\n\r\n").await;
        let copied = read_until(&mut twin, "5\r\nworld\r\n0\r\n\r\n").await;
        assert_eq!(copied, begun + &rest);
        send(&mut twin, "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        send(&mut second, OK).await;
        let mut response = within(response).await.unwrap();
        assert_eq!((response.status().as_u16(), &*text(response.body_mut()).await), (200, "ok"));
        let sent = || {
            let listener = lab.slot.get();
            let other = listener.routes.backends().find(|backend| &*backend.id == "other");
            other.unwrap().shared.stats.totals().mirrored["sent"]
        };
        until(|| sent() == 1).await;
        let mut more = Vec::new();
        within(twin.read_to_end(&mut more)).await.unwrap();
        assert!(more.is_empty());
    });
}
