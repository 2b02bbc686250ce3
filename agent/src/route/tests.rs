use std::sync::Mutex;
use std::time::Duration;

use http_body_util::BodyExt;
use jiff::Timestamp;
use prometheus::Registry;
use secrecy::SecretString;

use super::*;

type Asked = (Option<Vec<u8>>, Option<PodUid>);

/// Gives one answer and remembers what it was asked.
struct Scripted {
    answer: Result<(Credentials, Outcome), Error>,
    asked: Mutex<Vec<Asked>>,
}

impl Authority for Scripted {
    async fn credentials(
        &self,
        authorization: Option<&[u8]>,
        listener: Option<&Tenants>,
    ) -> Result<(Credentials, Outcome), Error> {
        let asked = (
            authorization.map(<[u8]>::to_vec),
            listener.and_then(Tenants::only),
        );
        self.asked.lock().unwrap().push(asked);
        self.answer.clone()
    }
}

fn route(answer: Result<(Credentials, Outcome), Error>) -> Route<Scripted> {
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let asked = Mutex::new(Vec::new());
    Route::new(Arc::new(Scripted { answer, asked }), metrics, None)
}

fn hit() -> (Credentials, Outcome) {
    let secret = SecretString::from("secret");
    let credentials = Credentials::new("CWID".to_owned(), &secret, &secret, Timestamp::UNIX_EPOCH);
    (credentials, Outcome::Hit)
}

fn get(path: &str, tokens: &[&[u8]]) -> Request<()> {
    let mut request = Request::get(path);
    for token in tokens {
        request = request.header(AUTHORIZATION, *token);
    }
    request.body(()).unwrap()
}

async fn body(response: Response<Full<Bytes>>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_raw_header_and_the_listener_are_passed_on_and_a_query_is_ignored() {
    let route = route(Ok(hit()));
    let pod = PodUid::new("uid-1");
    let tenants = Tenants::of(pod.clone());
    let request = get("/v1/credentials?a=b", &[b"tok\xffen"]);
    let response = route.answer(request, Some(&tenants)).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(body(response).await.contains("\"AccessKeyId\":\"CWID\""));
    let asked = route.0.authority.asked.lock().unwrap();
    assert_eq!(*asked, [(Some(b"tok\xffen".to_vec()), Some(pod))]);
    assert_eq!(route.0.metrics.requests.of(Outcome::Hit).get(), 1);
    let timed = route.0.metrics.request_duration.of(Outcome::Hit);
    assert_eq!(timed.get_sample_count(), 1);
}

#[tokio::test]
async fn a_request_without_a_token_is_for_the_authority_to_judge() {
    let route = route(Err(Error::Unauthenticated("no token".to_owned())));
    let response = route.answer(get(CREDENTIALS_PATH, &[]), None).await;
    assert_eq!(response.status(), 401);
    assert_eq!(
        body(response).await,
        concat!(
            r#"{"code":"Unauthenticated","message":"no token","#,
            r#""Code":"Unauthenticated","Message":"no token"}"#
        )
    );
    assert_eq!(*route.0.authority.asked.lock().unwrap(), [(None, None)]);
}

#[tokio::test]
async fn two_tokens_are_refused_unseen() {
    let route = route(Ok(hit()));
    let response = route
        .answer(get(CREDENTIALS_PATH, &[b"one", b"two"]), None)
        .await;
    assert_eq!(response.status(), 400);
    assert!(route.0.authority.asked.lock().unwrap().is_empty());
    assert_eq!(route.0.metrics.requests.of(Outcome::Malformed).get(), 1);
}

#[tokio::test]
async fn retry_after_is_whole_seconds_rounded_up_and_at_least_one() {
    for (wait, header) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (7_500, "8")] {
        let route = route(Err(Error::Unavailable {
            reason: "the issuer is away".to_owned(),
            retry_after: Duration::from_millis(wait),
        }));
        let response = route.answer(get(CREDENTIALS_PATH, &[b"t"]), None).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], header, "{wait} ms");
    }
}

#[tokio::test]
async fn other_paths_and_methods_never_reach_the_authority() {
    let route = route(Ok(hit()));
    for path in ["/", "/v1/credentials/", "/v1", "//v1/credentials"] {
        let response = route.answer(get(path, &[b"t"]), None).await;
        assert_eq!(response.status(), 404, "{path}");
    }
    let put = Request::put(CREDENTIALS_PATH).body(()).unwrap();
    let response = route.answer(put, None).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET, HEAD");
    assert!(route.0.authority.asked.lock().unwrap().is_empty());
    assert_eq!(route.0.metrics.requests.of(Outcome::Malformed).get(), 5);
}

#[tokio::test]
async fn a_pod_that_is_refused_forever_cannot_flood_the_log() {
    let route = route(Err(Error::Forbidden("grant it".to_owned())));
    for _ in 0..50 {
        let response = route.answer(get(CREDENTIALS_PATH, &[b"t"]), None).await;
        assert_eq!(response.status(), 403);
    }
    assert!(route.0.metrics.suppressed_log_lines.get() >= 30);
}
