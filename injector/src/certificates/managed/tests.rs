//! Which certificate is served, with a clock that stands still.

use hyper::{Request, Response};
use kube::client::Body;
use prometheus::Registry;

use super::*;
use crate::certificates::material::to_pem;
use crate::certificates::plan::Step;
use crate::certificates::tests::{made, settings, webhooks};

#[tokio::test(start_paused = true)]
async fn a_certificate_that_nobody_trusts_any_more_is_replaced_at_once() {
    let service = tower::service_fn(|_request: Request<Body>| {
        std::future::pending::<Result<Response<Body>, kube::Error>>()
    });
    let client = kube::Client::new(service, "caios");
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let (slot, status) = (Arc::<Slot>::default(), Arc::<Status>::default());
    let clock = Clock::system();
    let mut managed = Managed::new(settings(), &client, slot, status, clock.clone(), metrics);
    let now = clock.now();
    let (old, new) = (made(Step::Start, None, now), made(Step::Start, None, now));
    let leaf = |material: &Material| material.pair.chain().first().cloned();
    let trusting = |material: &Material| {
        let bundle = to_pem(&material.authorities);
        Some(webhooks([&bundle, &bundle]))
    };
    managed.current = true;
    managed.material = Some(old.clone());
    managed.configuration = trusting(&old);
    managed.serve();
    assert_eq!(managed.served, leaf(&old));
    // Who is trusted goes on being served.
    managed.material = Some(new.clone());
    managed.serve();
    assert_eq!(managed.served, leaf(&old));
    managed.configuration = trusting(&new);
    managed.serve();
    assert_eq!(managed.served, leaf(&new));
}
