mod fallback;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use prometheus::Registry;
use secrecy::SecretString;

use super::*;
use crate::exchange::scripted_server::{CaFile, ScriptedServer, Step, answer, certificate};

const POST_200: &str = r#"{"accessKeyId":"CWID","secretKey":"canary-secret","principalName":"p",
    "expiry":"2026-11-23T15:00:00.5Z","attributes":{}}"#;
const GET_200: &str = r#"{"AccessKeyId":"CWID","SecretAccessKey":"canary-secret","Token":"",
    "Expiration":"2026-11-23T15:00:00Z"}"#;
const RENDERED: &str = r#"{"AccessKeyId":"CWID","SecretAccessKey":"canary-secret","Token":"","Expiration":"2026-11-23T15:00:00Z"}"#;
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.canary-token.signature";

fn identity() -> Identity {
    Identity::new("https://iss.example", "system:serviceaccount:ns:sa", "aud")
}

fn ok() -> Step {
    answer(200, "", POST_200)
}

fn error(status: u16, message: &str) -> Step {
    let body = format!(r#"{{"code":7,"message":"{message}","details":[]}}"#);
    answer(status, "content-type: application/json\r\n", &body)
}

/// An exchange at `url`, with deadlines that tests can wait for.
fn at(url: &str, change: impl FnOnce(&mut Settings)) -> CoreWeave {
    let mut settings = Settings::new("org-1");
    settings.api = url.parse().unwrap();
    settings.connect_timeout = Duration::from_millis(500);
    settings.timeout = Duration::from_millis(1500);
    change(&mut settings);
    let clock = Clock::anchored("2026-11-23T09:00:00Z".parse().unwrap());
    CoreWeave::new(settings, clock, Metrics::new(&Registry::new()).unwrap()).unwrap()
}

/// A server with this script, and an exchange that uses it.
async fn scripted(script: impl IntoIterator<Item = Step>) -> (ScriptedServer, CoreWeave) {
    let server = ScriptedServer::start(script, None).await;
    let exchange = at(&format!("http://{}", server.address), |_| ());
    (server, exchange)
}

async fn run(exchange: &CoreWeave) -> Result<Credentials, ExchangeError> {
    let token = Token::new(SecretString::from(TOKEN));
    let result = exchange.exchange(&identity(), &token).await;
    let shown = format!("{result:?}");
    assert!(!shown.contains("canary"), "a secret is shown: {shown}");
    result
}

fn methods(server: &ScriptedServer) -> Vec<String> {
    let requests = server.requests();
    let method = |request: &String| request.split(' ').next().unwrap().to_owned();
    requests.iter().map(method).collect()
}

fn counted(exchange: &CoreWeave, method: Method, outcome: ExchangeOutcome) -> u64 {
    exchange.metrics.exchange_requests.of(method, outcome).get()
}

fn assert_unavailable(result: Result<Credentials, ExchangeError>, part: &str) {
    match result {
        Err(ExchangeError::Unavailable { message, .. }) if message.contains(part) => {}
        other => panic!("not unavailable with `{part}`: {other:?}"),
    }
}

fn assert_uncertain(result: Result<Credentials, ExchangeError>, part: &str) {
    match result {
        Err(ExchangeError::Uncertain { message }) if message.contains(part) => {}
        other => panic!("not uncertain with `{part}`: {other:?}"),
    }
}

#[tokio::test]
async fn post_sends_exactly_what_the_api_reads() {
    let server = ScriptedServer::start([ok()], None).await;
    let exchange = at(&format!("http://{}", server.address), |settings| {
        settings.attributes = [("node".to_owned(), "n1".to_owned())].into();
    });
    assert_eq!(run(&exchange).await.unwrap().body(), RENDERED);
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/cwobject/temporary-credentials/oidc HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("content-type: application/json\r\n"),
        "{head}"
    );
    let agent = concat!("user-agent: caios-agent/", env!("CARGO_PKG_VERSION"));
    assert!(head.contains(agent), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    assert_eq!(
        body,
        format!(
            r#"{{"durationSeconds":21600,"orgId":"org-1","oidcToken":"{TOKEN}","attributes":{{"node":"n1"}}}}"#
        )
    );
    assert_eq!(requests.len(), 1);
    assert_eq!(
        counted(&exchange, Method::Post, ExchangeOutcome::Success),
        1
    );
    let duration = exchange.metrics.exchange_duration.of(Method::Post);
    assert_eq!(duration.get_sample_count(), 1);
}

#[tokio::test]
async fn an_echoed_token_is_redacted() {
    let (_server, exchange) = scripted([error(401, &format!("token {TOKEN} is bad"))]).await;
    let message = run(&exchange).await.unwrap_err().to_string();
    assert!(message.contains("token [redacted] is bad"), "{message}");
}

#[tokio::test]
async fn the_issuers_clock_tells_how_long_keys_live() {
    for (header, life) in [
        ("date: Mon, 23 Nov 2026 14:45:00 GMT\r\n", Some(15)),
        ("date: Mon, 23 Nov 2026 15:45:00 GMT\r\n", None),
        ("date: today\r\n", None),
        ("", None),
    ] {
        let (_server, exchange) = scripted([answer(200, header, POST_200)]).await;
        let life = life.map(Duration::from_mins);
        assert_eq!(run(&exchange).await.unwrap().life(), life, "{header}");
    }
}

#[tokio::test]
async fn throttling_and_unavailability_carry_retry_after() {
    let seconds = |header: &str| answer(429, header, "");
    for (header, wait) in [
        ("retry-after: 7\r\n", Some(7)),
        ("retry-after: Mon, 23 Nov 2026 09:01:00 GMT\r\n", Some(60)),
        ("retry-after: soon\r\n", None),
        ("", None),
    ] {
        let (_server, exchange) = scripted([seconds(header)]).await;
        let Err(ExchangeError::Throttled { retry_after, .. }) = run(&exchange).await else {
            panic!("not throttled");
        };
        // The anchored clock runs on while the call is made.
        let near = |got: u64| wait.is_some_and(|wait| (wait - 2..=wait).contains(&got));
        let waited = retry_after.map(|wait| wait.as_secs());
        assert!(
            waited.map_or_else(|| wait.is_none(), near),
            "{header}: {waited:?}"
        );
        assert_eq!(
            counted(&exchange, Method::Post, ExchangeOutcome::Throttled),
            1
        );
    }
    for status in [503, 504] {
        let (server, exchange) = scripted([answer(status, "retry-after: 9\r\n", "")]).await;
        let Err(ExchangeError::Unavailable {
            retry_after,
            message,
        }) = run(&exchange).await
        else {
            panic!("not unavailable");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(9)));
        assert!(message.contains(&format!("HTTP {status}")), "{message}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn whatever_may_have_minted_is_uncertain_and_sent_once() {
    let long = format!("{POST_200}{}", " ".repeat(LONGEST_BODY));
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"accessKeyId\"".to_owned();
    for (step, part) in [
        (error(500, "boom"), "boom (HTTP 500)"),
        (answer(502, "", "<html>"), "HTTP 502"),
        (answer(201, "", POST_200), "HTTP 201"),
        (answer(418, "", ""), "HTTP 418"),
        (
            answer(302, "location: http://127.0.0.1:1/\r\n", ""),
            "HTTP 302",
        ),
        (answer(307, "location: /\r\n", ""), "HTTP 307"),
        (answer(200, "", "garbage"), "is not the JSON of credentials"),
        (
            answer(200, "", r#"{"secretKey":"canary"}"#),
            "has no access key id",
        ),
        (answer(200, "", &long), "longer than 65536"),
        (Step::Send(short), "was not received whole"),
        (Step::Send("canary\r\n\r\n".to_owned()), "no answer"),
        (Step::Cut, "no answer"),
        (Step::Hang, "no answer"),
    ] {
        let (server, exchange) = scripted([step]).await;
        assert_uncertain(run(&exchange).await, part);
        assert_eq!(server.requests().len(), 1, "{part}");
        assert_eq!(
            counted(&exchange, Method::Post, ExchangeOutcome::Uncertain),
            1
        );
    }
}

#[tokio::test]
async fn an_error_page_of_any_length_keeps_its_status() {
    let (_server, exchange) = scripted([answer(503, "", &"x".repeat(LONGEST_BODY * 2))]).await;
    assert_unavailable(run(&exchange).await, "HTTP 503");
}

#[tokio::test]
async fn without_a_connection_nothing_was_minted() {
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let exchange = at(&format!("http://{closed}"), |_| ());
    assert_unavailable(run(&exchange).await, "no connection");
    let (_acceptor, ca) = certificate("unresolved");
    let exchange = at("https://nowhere.invalid", |settings| {
        settings.ca_file = Some(ca.0.clone());
    });
    assert_unavailable(run(&exchange).await, "no connection");
    assert_eq!(
        counted(&exchange, Method::Post, ExchangeOutcome::Unavailable),
        1
    );
}

#[test]
fn what_cannot_work_is_refused_at_start() {
    let build = |change: &dyn Fn(&mut Settings)| {
        let mut settings = Settings::new("org-1");
        change(&mut settings);
        let metrics = Metrics::new(&Registry::new()).unwrap();
        CoreWeave::new(settings, Clock::system(), metrics)
            .unwrap_err()
            .to_string()
    };
    let empty = std::env::temp_dir().join(format!("caios-{}-empty.pem", std::process::id()));
    std::fs::write(&empty, "").unwrap();
    let issuer = "https://oidc.cks.coreweave.com/id/1";
    assert!(build(&|s| s.api = issuer.parse().unwrap()).contains("issuer"));
    assert!(build(&|s| s.ca_file = Some("/no/such/ca.pem".into())).contains("/no/such/ca.pem"));
    assert!(build(&|s| s.ca_file = Some(empty.clone())).contains("no CA certificates"));
}
