use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::watch::script::{object, object_with, suppressed};

const GRACE: Duration = Duration::from_mins(1);
const OWN: &str = "10.1.1.2";

/// A network namespace as a test wants it to look.
#[derive(Clone, Copy, Debug)]
struct Looks {
    is_gone: Option<bool>,
    address: Option<&'static str>,
}

const LIVES: Looks = Looks {
    is_gone: Some(false),
    address: Some(OWN),
};
const GONE: Looks = Looks {
    is_gone: Some(true),
    address: None,
};
const MUTE: Looks = Looks {
    is_gone: None,
    address: None,
};

impl Sight for Looks {
    fn is_gone(&self) -> Option<bool> {
        self.is_gone
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.address.iter().map(|it| it.parse().unwrap()).collect()
    }
}

/// A node with its Pods, as far as the API server shows them.
struct Node {
    pods: Pods,
    judge: Judge,
    accounts: Accounts,
}

/// What a test asserts of a look, as names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    ended: Vec<String>,
    misplaced: Vec<String>,
    without_listener: Vec<String>,
    without_injection: Vec<String>,
}

impl Node {
    fn new() -> Self {
        let excluded = HashSet::from(["kube-system".to_owned()]);
        let mut node = Self {
            pods: Pods::new("node-a".to_owned()),
            judge: Judge::new(GRACE, excluded),
            accounts: Accounts::new(suppressed()),
        };
        node.list(&["agent"]);
        let agent = object("agent").seen.pod;
        node.accounts.said(&agent, Says::Nothing);
        node
    }

    fn list(&mut self, names: &[&str]) {
        self.pods.apply(Event::Init);
        for name in names {
            self.pods.apply(Event::InitApply(object(name)));
        }
        self.pods.apply(Event::InitDone);
    }

    fn shows(&mut self, name: &str, spec: &serde_json::Value, status: &serde_json::Value) {
        let object = object_with(name, spec, status);
        self.pods.apply(Event::Apply(object));
    }

    fn looks(&mut self, served: &[(&str, Looks)]) -> (Seen, bool) {
        let served: Vec<_> = served
            .iter()
            .map(|(name, looks)| (PodUid::new(name), *looks))
            .collect();
        let look = self
            .judge
            .look(&self.pods, &served, &self.accounts, Instant::now());
        let names = |list: &[&super::Seen]| {
            let mut names: Vec<_> = list.iter().map(|it| it.pod.name.clone()).collect();
            names.sort();
            names
        };
        let lacks = look.lacks.as_ref();
        let seen = Seen {
            ended: look.ended.iter().map(|it| it.0.to_string()).collect(),
            misplaced: look
                .misplaced
                .iter()
                .map(|it| it.0.pod.name.clone())
                .collect(),
            without_listener: lacks.map_or_else(Vec::new, |it| names(&it.listener)),
            without_injection: lacks.map_or_else(Vec::new, |it| names(&it.injection)),
        };
        (seen, look.is_pending)
    }

    /// As it is seen for the first time, and one grace later.
    async fn later(&mut self, served: &[(&str, Looks)]) -> Seen {
        let (first, is_pending) = self.looks(served);
        assert_eq!(first, Seen::default(), "nothing follows at once");
        assert!(is_pending, "nobody would look again");
        tokio::time::advance(GRACE.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(self.looks(served).0, Seen::default());
        tokio::time::advance(Duration::from_millis(1)).await;
        self.looks(served).0
    }
}

fn ended(name: &str) -> Seen {
    Seen {
        ended: vec![name.to_owned()],
        ..Seen::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_or_finished_pod_ends_at_once_when_its_interfaces_are_gone() {
    let mut node = Node::new();
    node.list(&["agent", "a"]);
    assert_eq!(node.looks(&[("a", LIVES)]), (Seen::default(), false));
    node.shows("a", &json!({}), &json!({"phase": "Failed"}));
    assert_eq!(node.looks(&[("a", LIVES)]), (Seen::default(), true));
    assert_eq!(node.looks(&[("a", GONE)]).0, ended("a"));
    node.pods.apply(Event::Delete(object("a")));
    assert_eq!(node.looks(&[("a", GONE)]).0, ended("a"));
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_has_lost_a_live_pod_ends_nothing() {
    let mut node = Node::new();
    node.list(&["agent", "a"]);
    for listing in [&["agent"][..], &[]] {
        node.list(listing);
        for _ in 0..10 {
            assert_eq!(
                node.looks(&[("a", LIVES)]),
                (Seen::default(), !listing.is_empty())
            );
            tokio::time::advance(GRACE).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_witness_a_pod_ends_when_it_has_been_absent_for_the_grace() {
    let mut node = Node::new();
    assert_eq!(node.later(&[("a", MUTE)]).await, ended("a"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_back_is_absent_anew_the_next_time() {
    let mut node = Node::new();
    let served = [("a", MUTE)];
    assert_eq!(node.looks(&served).0, Seen::default());
    tokio::time::advance(GRACE / 2).await;
    node.list(&["agent", "a"]);
    assert_eq!(node.looks(&served).0, Seen::default());
    node.list(&["agent"]);
    assert_eq!(node.later(&served).await, ended("a"));
}

#[tokio::test(start_paused = true)]
async fn without_a_witness_an_api_server_that_is_away_ends_nothing() {
    let mut node = Node::new();
    for _ in 0..10 {
        node.pods.interrupted(Instant::now());
        assert_eq!(node.looks(&[("a", MUTE)]).0, Seen::default());
        tokio::time::advance(GRACE).await;
    }
    // And a Pod that enrols before the first listing is not absent.
    let mut node = Node::new();
    node.pods = Pods::new("node-a".to_owned());
    tokio::time::advance(2 * GRACE).await;
    assert_eq!(node.looks(&[("a", GONE)]), (Seen::default(), false));
}

#[tokio::test(start_paused = true)]
async fn interfaces_of_the_node_say_nothing_of_a_pod_that_shares_them() {
    let mut node = Node::new();
    let status = json!({"phase": "Running", "podIPs": [{"ip": "192.0.2.1"}]});
    node.shows("a", &json!({"hostNetwork": true}), &status);
    assert_eq!(node.looks(&[("a", LIVES)]), (Seen::default(), false));
    node.pods.apply(Event::Delete(object("a")));
    assert_eq!(node.later(&[("a", LIVES)]).await, ended("a"));
}

#[tokio::test(start_paused = true)]
async fn a_listener_without_any_of_its_pods_addresses_is_taken_after_the_grace() {
    let mut node = Node::new();
    let spec = json!({"initContainers": [{"name": "caios-enroll"}]});
    let other = json!({"phase": "Running", "podIPs": [{"ip": "10.9.9.9"}, {"ip": "fd00::9"}]});
    node.shows("a", &spec, &other);
    let served = [("a", LIVES)];
    let seen = node.later(&served).await;
    assert_eq!(seen.misplaced, ["a"]);
    assert_eq!(seen.ended, Vec::<String>::new());
    // That it has none is counted, but its Event says the true reason.
    node.judge.reject(&PodUid::new("a"));
    assert_eq!(node.later(&[]).await.without_listener, ["a"]);
    assert!(node.judge.is_rejected(&PodUid::new("a")));
    node.looks(&served);
    assert!(
        !node.judge.is_rejected(&PodUid::new("a")),
        "it has enrolled again"
    );
}

#[tokio::test(start_paused = true)]
async fn addresses_that_agree_or_are_not_comparable_take_no_listener() {
    let agreeing = [("a", LIVES)];
    let unknown = [(
        "a",
        Looks {
            address: None,
            ..LIVES
        },
    )];
    for (addresses, served) in [
        (json!([{"ip": "fd00::9"}, {"ip": OWN}]), agreeing),
        (json!([{"ip": "fd00::9"}]), agreeing),
        (json!([]), agreeing),
        (json!([{"ip": "10.9.9.9"}]), unknown),
    ] {
        let mut node = Node::new();
        node.shows(
            "a",
            &json!({}),
            &json!({"phase": "Running", "podIPs": addresses}),
        );
        node.accounts.said(&object("a").seen.pod, Says::Nothing);
        for _ in 0..3 {
            assert_eq!(node.looks(&served), (Seen::default(), false), "{addresses}");
            tokio::time::advance(GRACE).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn old_addresses_of_a_pod_with_a_new_sandbox_take_no_listener_while_the_api_is_away() {
    let mut node = Node::new();
    node.shows(
        "a",
        &json!({}),
        &json!({"phase": "Running", "podIPs": [{"ip": "10.9.9.9"}]}),
    );
    for _ in 0..5 {
        node.pods.interrupted(Instant::now());
        assert_eq!(node.looks(&[("a", LIVES)]).0, Seen::default());
        tokio::time::advance(GRACE).await;
    }
    // The kubelet tells the new ones as soon as it can.
    node.shows(
        "a",
        &json!({}),
        &json!({"phase": "Running", "podIPs": [{"ip": OWN}]}),
    );
    tokio::time::advance(4 * GRACE).await;
    assert_eq!(node.looks(&[("a", LIVES)]).0, Seen::default());
}

#[tokio::test(start_paused = true)]
async fn an_injected_pod_that_runs_without_a_listener_counts_after_the_grace() {
    let mut node = Node::new();
    let spec = json!({"initContainers": [{"name": "caios-enroll"}]});
    node.shows("starting", &spec, &json!({"phase": "Pending"}));
    node.shows("served", &spec, &json!({"phase": "Running"}));
    node.shows("finished", &spec, &json!({"phase": "Succeeded"}));
    let relay = json!({"initContainers": [{"name": "caios-relay"}]});
    node.shows("relayed", &relay, &json!({"phase": "Running"}));
    assert_eq!(node.looks(&[("served", LIVES)]), (Seen::default(), false));
    node.shows("lost", &spec, &json!({"phase": "Running"}));
    let seen = node.later(&[("served", LIVES)]).await;
    assert_eq!(seen.without_listener, ["lost"]);
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_to_be_injected_and_are_not_count_when_their_account_is_known() {
    let mut node = Node::new();
    let running = json!({"phase": "Running"});
    for account in ["asks", "declines", "silent", "unknown"] {
        node.shows(account, &json!({"serviceAccountName": account}), &running);
    }
    let injected =
        json!({"serviceAccountName": "asks", "initContainers": [{"name": "caios-enroll"}]});
    node.shows("starting", &injected, &json!({"phase": "Pending"}));
    node.shows(
        "finished",
        &json!({"serviceAccountName": "asks"}),
        &json!({"phase": "Failed"}),
    );
    for (account, says) in [
        ("asks", Says::Yes),
        ("declines", Says::No),
        ("silent", Says::Nothing),
    ] {
        let spec = json!({"serviceAccountName": account});
        let pod = object_with(account, &spec, &running).seen.pod;
        node.accounts.said(&pod, says);
    }
    let served = [];
    let look = node
        .judge
        .look::<Looks>(&node.pods, &served, &node.accounts, Instant::now());
    let lacks = look.lacks.unwrap();
    let unknown = object_with(
        "unknown",
        &json!({"serviceAccountName": "unknown"}),
        &running,
    );
    assert_eq!(lacks.due, Some(Account::of(&unknown.seen.pod)));
    assert_eq!(lacks.accounts.len(), 5, "{:?}", lacks.accounts);
    assert_eq!(node.looks(&[]).0.without_injection, ["asks"]);
    // Without news from the API server nothing is said about it.
    node.pods.interrupted(Instant::now());
    let look = node
        .judge
        .look::<Looks>(&node.pods, &served, &node.accounts, Instant::now());
    assert!(look.lacks.is_none());
}

#[tokio::test(start_paused = true)]
async fn where_the_injector_leaves_pods_alone_none_is_missed() {
    let mut node = Node::new();
    let mut object = object_with("dns", &json!({}), &json!({"phase": "Running"}));
    object.seen.pod.namespace = "kube-system".to_owned();
    node.accounts.said(&object.seen.pod, Says::Yes);
    node.pods.apply(Event::Apply(object));
    let (seen, is_pending) = node.looks(&[]);
    assert_eq!((seen, is_pending), (Seen::default(), false));
}
