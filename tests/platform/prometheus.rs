//! What Prometheus and promtool make of the metrics.

use std::net::SocketAddr;
use std::time::Duration;

use tests::agent::ADMIN;
use tests::control_plane::ControlPlane;
use tests::injector::Release;
use tests::node::Node;
use tests::prometheus::{self, Prometheus};
use tests::wait;

/// Waits until an expression gives a value.
fn until(prometheus: &Prometheus, expression: &str, wanted: impl Fn(f64) -> bool) {
    let what = format!("Prometheus has `{expression}`");
    wait::until(&what, Duration::from_secs(30), || {
        let found = prometheus.query(expression).unwrap();
        found.iter().any(|(_, value)| wanted(*value))
    })
    .unwrap();
}

/// A count that comes as a number of Prometheus.
fn is_one(value: f64) -> bool {
    (value - 1.0).abs() < f64::EPSILON
}

#[test]
fn a_real_prometheus_scrapes_a_working_agent() {
    let node = Node::new().unwrap();
    let agent = node.agent(&[]).unwrap();
    let pod = node.enrolled_pod("reader", "scraped").unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
    assert_eq!(pod.ask(Some("nonsense")).unwrap().status, 401);

    let own = SocketAddr::from(([127, 0, 0, 1], 9090));
    let prometheus = Prometheus::start(
        node.namespace(),
        node.directory(),
        own,
        &[("agent", ADMIN.parse().unwrap())],
    )
    .unwrap();
    until(&prometheus, r#"up{job="agent"}"#, is_one);
    until(&prometheus, "caios_agent_build_info", is_one);
    until(
        &prometheus,
        r#"caios_agent_requests_total{outcome="hit"}"#,
        is_one,
    );
    until(
        &prometheus,
        r#"caios_agent_requests_total{outcome="unauthenticated"}"#,
        is_one,
    );
    until(
        &prometheus,
        "caios_agent_seconds_until_first_expiry",
        |left| left > 3600.0,
    );
    let quantile =
        "histogram_quantile(0.99, sum by (le) (caios_agent_request_duration_seconds_bucket))";
    until(&prometheus, quantile, |seconds| {
        seconds > 0.0 && seconds < 10.0
    });

    let page = agent.admin("/metrics").unwrap().body;
    assert_eq!(prometheus::check_metrics(&page).unwrap(), "");
}

#[test]
fn a_real_prometheus_scrapes_a_working_injector() {
    let cluster = ControlPlane::shared();
    let namespace = cluster.namespace("measured", &[]).unwrap();
    let release = Release::new(cluster, &namespace).unwrap();
    let injector = release.injector(&[]).unwrap();
    let own = SocketAddr::from(([127, 0, 0, 1], cluster.port()));
    let directory = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(
        cluster.network(),
        directory.path(),
        own,
        &[("injector", injector.admin().address())],
    )
    .unwrap();
    until(&prometheus, r#"up{job="injector"}"#, is_one);
    until(&prometheus, "caios_injector_build_info", is_one);
    until(&prometheus, "sum(caios_injector_reviews_total)", |count| {
        count >= 1.0
    });
    let left = "caios_injector_certificate_expiry_timestamp_seconds - time()";
    until(&prometheus, left, |seconds| seconds > 86_400.0);

    let page = injector.admin().get("/metrics").unwrap().body;
    assert_eq!(prometheus::check_metrics(&page).unwrap(), "");
}

#[test]
fn promtool_would_complain() {
    let said = prometheus::check_metrics("# TYPE requests counter\nrequests 1\n").unwrap();
    assert!(said.contains("_total"), "{said}");
}
