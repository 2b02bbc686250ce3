//! Says notices: each once an hour, a node's few at a time, and nobody waits for it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api, PostParams};
use shared::clock::Clock;
use shared::{api, throttled};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::notice::{Notice, Reason};
use crate::metrics::{EventOutcome, Metrics};
use crate::workload::PodUid;

/// How long until the same is said of the same Pod again.
const AGAIN: Duration = Duration::from_hours(1);
/// So many Events may follow each other at once.
const BURST: u32 = 25;
/// After that, one in this time.
const EVERY: Duration = Duration::from_secs(10);
/// More than this are not kept while the API server is away.
const MOST_WAITING: usize = 64;
/// How long until an Event that got lost on its way is sent again.
const PAUSE: Duration = Duration::from_secs(30);

/// Says notices as Events.
#[derive(Debug)]
pub(super) struct Teller {
    is_on: bool,
    node: String,
    clock: Clock,
    metrics: Metrics,
    told: HashMap<(PodUid, Reason), Instant>,
    bucket: Bucket,
    waiting: VecDeque<Notice>,
    posting: JoinSet<(Notice, kube::Result<()>)>,
    not_before: Instant,
}

impl Teller {
    /// Says nothing if it is not `is_on`. `node` is where it is said.
    pub(super) fn new(is_on: bool, node: String, clock: Clock, metrics: Metrics) -> Self {
        let now = Instant::now();
        Self {
            is_on,
            node,
            clock,
            metrics,
            told: HashMap::new(),
            bucket: Bucket::new(now),
            waiting: VecDeque::new(),
            posting: JoinSet::new(),
            not_before: now,
        }
    }

    /// Takes a notice to be said, unless the same was said of the Pod within the hour, or too much
    /// is being said.
    pub(super) fn tell(&mut self, notice: Notice, now: Instant) {
        if !self.is_on {
            return;
        }
        let key = (notice.pod.uid.clone(), notice.reason);
        let was_told = self.told.get(&key).is_some_and(|told| now < *told + AGAIN);
        if was_told || self.waiting.len() >= MOST_WAITING || !self.bucket.take(now) {
            return;
        }
        self.told.retain(|_, told| now < *told + AGAIN);
        self.told.insert(key, now);
        self.waiting.push_back(notice);
    }

    /// Sends the next notice, unless one is on its way.
    pub(super) fn post(&mut self, client: &Client, now: Instant) {
        if !self.posting.is_empty() || now < self.not_before {
            return;
        }
        let Some(notice) = self.waiting.pop_front() else {
            return;
        };
        let events: Api<Event> = Api::namespaced(client.clone(), &notice.pod.namespace);
        let event = notice.event(&self.node, self.clock.now());
        self.posting.spawn(async move {
            let posted = api::written(events.create(&PostParams::default(), &event)).await;
            (notice, posted.map(|_created| ()))
        });
    }

    /// Whether time alone brings the next notice on its way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits until the notice that is on its way has arrived, for ever where none is.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn posted(&mut self) {
        let ended = match self.posting.join_next().await {
            None => std::future::pending().await,
            Some(ended) => ended,
        };
        let Ok((notice, posted)) = ended else { return };
        match posted {
            Ok(()) => self.metrics.watch.events.of(EventOutcome::Created).inc(),
            Err(error) if api::is_conflict(&error) => {
                self.metrics.watch.events.of(EventOutcome::Known).inc();
            }
            Err(error) => self.failed(notice, &error),
        }
    }

    fn failed(&mut self, notice: Notice, error: &kube::Error) {
        self.metrics.watch.events.of(EventOutcome::Failed).inc();
        let reason = api::reason(error);
        throttled!(
            &self.metrics.suppressed_log_lines,
            warn,
            %reason,
            namespace = notice.pod.namespace,
            pod = notice.pod.name,
            event = ?notice.reason,
            "failed to create an Event: the agent's ClusterRole must allow create of \
             `events.events.k8s.io`"
        );
        if !api::is_answer(error) {
            self.waiting.push_front(notice);
            self.not_before = Instant::now() + PAUSE;
        }
    }
}

/// Lets [`BURST`] pass at once, and then one [`EVERY`] so often.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    filled: Instant,
}

impl Bucket {
    const fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            filled: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.tokens < BURST && now >= self.filled + EVERY {
            self.tokens += 1;
            self.filled += EVERY;
        }
        if self.tokens == BURST {
            self.filled = now;
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hyper::{Request, Response, StatusCode};
    use kube::client::Body;
    use prometheus::Registry;
    use serde_json::{Value, json};
    use tokio::time::advance;

    use super::*;
    use crate::watch::script::object;

    /// An API server that takes Events, or answers with a status, or does not answer.
    struct Api {
        client: Client,
        asked: Arc<Mutex<Vec<String>>>,
        answers: Arc<Mutex<Option<StatusCode>>>,
    }

    impl Api {
        fn new() -> Self {
            let asked = Arc::new(Mutex::new(Vec::new()));
            let answers = Arc::new(Mutex::new(Some(StatusCode::CREATED)));
            let (seen, code) = (Arc::clone(&asked), Arc::clone(&answers));
            let service = tower::service_fn(move |request: Request<Body>| {
                seen.lock().unwrap().push(request.uri().to_string());
                let code = *code.lock().unwrap();
                async move {
                    let Some(code) = code else {
                        return Err(kube::Error::LinesCodecMaxLineLengthExceeded);
                    };
                    let body: Value = if code.is_success() {
                        json!({"metadata": {}})
                    } else {
                        json!({
                            "kind": "Status", "apiVersion": "v1", "status": "Failure",
                            "message": "no", "reason": "no", "code": code.as_u16(),
                        })
                    };
                    let response = Response::builder().status(code);
                    Ok(response
                        .body(Body::from(body.to_string().into_bytes()))
                        .unwrap())
                }
            });
            Self {
                client: Client::new(service, "caios"),
                asked,
                answers,
            }
        }

        fn answers(&self, code: Option<StatusCode>) {
            *self.answers.lock().unwrap() = code;
        }

        fn asked(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    fn teller(is_on: bool) -> Teller {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        Teller::new(is_on, "node-a".to_owned(), Clock::system(), metrics)
    }

    fn lost(name: &str) -> Notice {
        Notice::listener_lost(&object(name).seen.pod)
    }

    impl Teller {
        fn counts(&self) -> [u64; 2] {
            let of = |outcome| self.metrics.watch.events.of(outcome).get();
            [of(EventOutcome::Created), of(EventOutcome::Failed)]
        }

        async fn say_all(&mut self, api: &Api) {
            self.post(&api.client, Instant::now());
            while !self.posting.is_empty() {
                self.posted().await;
                self.post(&api.client, Instant::now());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_of_a_pod_once_an_hour() {
        let (api, mut teller) = (Api::new(), teller(true));
        for _ in 0..50 {
            teller.tell(lost("a"), Instant::now());
            teller.tell(Notice::rejected(&object("a").seen.pod), Instant::now());
            teller.say_all(&api).await;
        }
        assert_eq!((api.asked(), teller.counts()), (2, [2, 0]));
        let path = api.asked.lock().unwrap()[0].clone();
        assert!(
            path.starts_with("/apis/events.k8s.io/v1/namespaces/research/events"),
            "{path}"
        );
        advance(AGAIN).await;
        teller.tell(lost("a"), Instant::now());
        teller.say_all(&api).await;
        assert_eq!(api.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_says_few_things_at_a_time() {
        let (api, mut teller) = (Api::new(), teller(true));
        let mut say = async |upto: usize| {
            for number in 0..upto {
                teller.tell(lost(&number.to_string()), Instant::now());
            }
            teller.say_all(&api).await;
            api.asked()
        };
        assert_eq!(say(250).await, 25);
        advance(EVERY).await;
        assert_eq!(say(250).await, 26);
        advance(10 * EVERY).await;
        assert_eq!(say(250).await, 36);
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_that_got_lost_is_sent_again_and_one_that_is_refused_is_not() {
        let (api, mut teller) = (Api::new(), teller(true));
        api.answers(None);
        teller.tell(lost("a"), Instant::now());
        teller.say_all(&api).await;
        assert_eq!((api.asked(), teller.counts()), (1, [0, 1]));
        assert!(teller.is_waiting());
        api.answers(Some(StatusCode::CREATED));
        advance(PAUSE).await;
        teller.say_all(&api).await;
        assert_eq!((api.asked(), teller.counts()), (2, [1, 1]));

        api.answers(Some(StatusCode::FORBIDDEN));
        teller.tell(lost("b"), Instant::now());
        teller.say_all(&api).await;
        assert_eq!((api.asked(), teller.counts()), (3, [1, 2]));
        assert!(!teller.is_waiting());
        api.answers(Some(StatusCode::CONFLICT));
        teller.tell(lost("c"), Instant::now());
        teller.say_all(&api).await;
        assert_eq!(
            (api.asked(), teller.counts()),
            (4, [1, 2]),
            "somebody has said it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_it_says_nothing() {
        let (api, mut teller) = (Api::new(), teller(false));
        teller.tell(lost("a"), Instant::now());
        teller.say_all(&api).await;
        assert_eq!(api.asked(), 0);
    }
}
