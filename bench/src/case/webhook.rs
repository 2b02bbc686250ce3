//! What the webhook costs where Pods are created, as the real API server measures it, beside one that
//! returns every Pod as it came; and what the injector takes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::json;
use tests::control_plane::{ControlPlane, Histogram};
use tests::injector::{Injector, Release};
use tests::webhook::{NAME, Webhook};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::plan::Plan;
use crate::report::{Figure, Goal, Section};

/// Pods a second that are asked for.
const RATES: [u32; 3] = [100, 300, 500];
/// `ServiceAccounts` that a large cluster has.
const ACCOUNTS: u32 = 5_000;
/// `ServiceAccounts` that are made at once.
const AT_ONCE: usize = 16;
const LATENCY: &str = "apiserver_admission_webhook_admission_duration_seconds";
const OURS: &str = "serviceaccount.caios.coreweave.com";

/// Creates Pods at a rate in a namespace that one of the two webhooks is asked about, in turns.
///
/// # Errors
/// When the control plane or the injector does not start, or a Pod is not created.
pub fn measure(plan: &Plan) -> anyhow::Result<Section> {
    let cluster = ControlPlane::new()?;
    let [ours, bare] = ["ours", "bare"].map(|name| cluster.namespace(name, &[]));
    let (ours, bare) = (ours?, bare?);
    let annotation = [("caios.coreweave.com/inject", "true")];
    for namespace in [&ours, &bare] {
        cluster.service_account(namespace, "trainer", &annotation)?;
    }
    let release = Release::new(&cluster, &ours)?;
    let injector = release.injector(&[])?;
    let later = Webhook::start(&cluster, &bare, |_pod| None)?;
    let mut figures = Vec::new();
    for rate in RATES {
        let (mut means, mut tails, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut passed = Vec::new();
        for _ in 0..plan.rounds {
            let (without, _) = calls(&cluster, &bare, NAME, rate, plan.turn)?;
            let (with, injected) = calls(&cluster, &ours, OURS, rate, plan.turn)?;
            passed.push(f64::from(injected.created - injected.injected));
            let mean = |calls: &Histogram| calls.sum / calls.count;
            ratios.push(mean(&with) / mean(&without));
            means.push(mean(&with) * 1e3);
            tails.extend(with.quantile(0.99).map(|value| value * 1e3));
        }
        let name = |what: &str| format!("{what}, {rate} Pods/s");
        figures.extend([
            Figure::new(name("call, ÷ one that returns its input"), "×", ratios)
                .goal(Goal::AtMost(1.3)),
            Figure::new(name("call, mean"), "ms", means),
            Figure::new(name("call, p99 at most"), "ms", tails),
            // After 5 s the API server lets a Pod pass: its webhook's policy is `Ignore`.
            Figure::new(name("Pods that passed without a review"), "", passed),
        ]);
    }
    drop(later);
    let own = |part: &str| {
        let family = "caios_injector_review_duration_seconds";
        injector.admin().metric(&format!("{family}_{part}"))
    };
    let mean = own("sum")? / own("count")?;
    let name = "the injector's own part of a call, mean of all";
    figures.push(Figure::new(name, "ms", vec![mean * 1e3]));
    figures.extend(memory(&cluster, &release, &injector)?);
    Ok(Section {
        title: "The webhook as `kube-apiserver` measures it, both and etcd on the same cores"
            .to_owned(),
        figures,
    })
}

/// What became of the Pods of one turn.
#[derive(Clone, Copy, Default)]
struct Pods {
    created: u32,
    injected: u32,
}

/// Creates Pods at a rate, and gives the calls of the webhook that was asked about them.
fn calls(
    cluster: &ControlPlane,
    namespace: &str,
    webhook: &str,
    rate: u32,
    turn: Duration,
) -> anyhow::Result<(Histogram, Pods)> {
    let label = format!("name=\"{webhook}\"");
    let before = cluster.histogram(LATENCY, &[&label])?;
    let client = cluster.client();
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let pods: anyhow::Result<Pods> = cluster.run(async move {
        let (mut running, start) = (JoinSet::new(), Instant::now());
        let between = Duration::from_secs(1) / rate;
        let mut due = start;
        while due < start + turn {
            // In the open: a slow answer delays no later request.
            sleep_until(due).await;
            let (client, path) = (client.clone(), path.clone());
            running.spawn(async move { create(client, &path).await });
            due += between;
        }
        let mut pods = Pods::default();
        while let Some(created) = running.join_next().await {
            pods.created += 1;
            pods.injected += u32::from(created??);
        }
        Ok(pods)
    });
    let pods = pods.with_context(|| format!("{rate} Pods/s in {namespace}"))?;
    let calls = cluster.histogram(LATENCY, &[&label])?.since(&before);
    Ok((calls, pods))
}

/// Creates one Pod; whether it was injected.
async fn create(client: kube::Client, path: &str) -> anyhow::Result<bool> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "generateName": "app-" },
        "spec": {
            "serviceAccountName": "trainer",
            "containers": [{ "name": "main", "image": "app.invalid/app" }],
        },
    });
    let request = hyper::Request::post(path).header("content-type", "application/json");
    let request = request.body(serde_json::to_vec(&pod)?)?;
    let created: serde_json::Value = client.request(request).await?;
    Ok(created.pointer("/spec/initContainers/0").is_some())
}

/// What an injector takes, as it has worked and where it knows many `ServiceAccounts`.
fn memory(
    cluster: &ControlPlane,
    release: &Release<'_>,
    injector: &Injector<'_>,
) -> anyhow::Result<[Figure; 2]> {
    let resident = |injector: &Injector<'_>| -> anyhow::Result<f64> {
        Ok(injector.admin().metric("process_resident_memory_bytes")? / 1e6)
    };
    let worked = resident(injector)?;
    let namespace = cluster.namespace("many", &[])?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), &namespace);
    let made: anyhow::Result<()> = cluster.run(async move {
        let (mut running, seats) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
        for number in 0..ACCOUNTS {
            let seat = Arc::clone(&seats).acquire_owned().await;
            let accounts = accounts.clone();
            running.spawn(async move {
                let _seat = seat;
                let account = serde_json::from_value(json!({
                    "metadata": {
                        "name": format!("account-{number}"),
                        "annotations": {
                            "caios.coreweave.com/audience": "https://coreweave.example",
                            "example.com/of-no-interest": "x".repeat(200),
                        },
                    },
                }))?;
                accounts.create(&PostParams::default(), &account).await?;
                anyhow::Ok(())
            });
        }
        while let Some(made) = running.join_next().await {
            made??;
        }
        Ok(())
    });
    made.context("failed to make the ServiceAccounts")?;
    let injector = release.injector(&[])?;
    let known = injector.admin().metric("caios_injector_serviceaccounts")?;
    ensure!(
        known >= f64::from(ACCOUNTS),
        "it knows {known} ServiceAccounts alone"
    );
    let many = resident(&injector)?;
    Ok([
        Figure::new("injector, resident after those Pods", "MB", vec![worked]),
        Figure::new(
            format!("injector, resident with {ACCOUNTS} ServiceAccounts"),
            "MB",
            vec![many],
        ),
    ])
}
