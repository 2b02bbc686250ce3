//! The second part of `make bench`: what the webhook costs, as the real API server measures it,
//! and what the injector takes.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::json;
use tests::control_plane::{ControlPlane, Histogram};
use tests::injector::{Injector, Release};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

/// Pods a second that are asked for.
const RATES: [u32; 3] = [100, 300, 500];
/// How long each rate is kept up.
const CASE: Duration = Duration::from_secs(15);
const ACCOUNTS: u32 = 5_000;
/// `ServiceAccounts` that are made at once.
const AT_ONCE: usize = 16;
const LATENCY: &str = "apiserver_admission_webhook_admission_duration_seconds";
const OURS: &str = r#"name="serviceaccount.caios.coreweave.com""#;

fn main() -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        bail!("the figures of a debug build mean nothing; run `make bench`");
    }
    let cluster = ControlPlane::new()?;
    let target = cluster.namespace("load", &[])?;
    let annotation = [("caios.coreweave.com/inject", "true")];
    cluster.service_account(&target, "trainer", &annotation)?;
    let release = Release::new(&cluster, &target)?;
    let injector = release.injector(&[])?;
    println!("\nwebhook, `kube-apiserver` and etcd on the same cores:");
    println!("  asked for  created/s  failed  not injected  mean of the call  p50     p99");
    for rate in RATES {
        load(&cluster, &target, rate)?;
    }
    let reviews = injector
        .admin()
        .metric("caios_injector_review_duration_seconds_count")?;
    let spent = injector
        .admin()
        .metric("caios_injector_review_duration_seconds_sum")?;
    println!(
        "  inside the injector: mean {:.0} µs of {reviews} reviews",
        spent / reviews * 1e6
    );
    drop(injector);
    memory(&cluster, &release)
}

/// Creates Pods at a rate, whatever becomes of them, and shows what the API server says.
fn load(cluster: &ControlPlane, namespace: &str, rate: u32) -> anyhow::Result<()> {
    let before = cluster.histogram(LATENCY, &[OURS])?;
    let (failed, bare) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = (Arc::clone(&failed), Arc::clone(&bare));
    let (client, path) = (
        cluster.client(),
        format!("/api/v1/namespaces/{namespace}/pods"),
    );
    let pods = rate * u32::try_from(CASE.as_secs())?;
    let took = cluster.run(async move {
        let (tasks, start) = (TaskTracker::new(), Instant::now());
        for number in 0..pods {
            // In the open: a slow answer delays no later request.
            sleep_until(start + CASE * number / pods).await;
            let (client, path, counts) = (client.clone(), path.clone(), counts.clone());
            tasks.spawn(async move {
                match create(client, &path).await {
                    Ok(true) => {}
                    Ok(false) => drop(counts.1.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => drop(counts.0.fetch_add(1, Ordering::Relaxed)),
                }
            });
        }
        tasks.close();
        tasks.wait().await;
        start.elapsed()
    });
    let calls = cluster.histogram(LATENCY, &[OURS])?.since(&before);
    let failed = failed.load(Ordering::Relaxed);
    println!(
        "  {rate:>7}/s  {:>7.0}/s  {failed:>6}  {:>12}  {:>13.2} ms  {}  {}",
        (f64::from(pods)) / took.as_secs_f64(),
        bare.load(Ordering::Relaxed),
        calls.sum / calls.count * 1e3,
        shown(&calls, 0.5),
        shown(&calls, 0.99)
    );
    Ok(())
}

/// The API server's lowest bucket ends at 5 ms: what is in it is only known to be below.
fn shown(calls: &Histogram, q: f64) -> String {
    match (calls.quantile(q), calls.buckets.first()) {
        (Some(value), Some(&(lowest, _))) if value <= lowest => format!("<{} ms", lowest * 1e3),
        (Some(value), _) => format!("{:.0} ms", value * 1e3),
        (None, _) => "-".to_owned(),
    }
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

/// What an injector takes that knows many `ServiceAccounts`.
fn memory(cluster: &ControlPlane, release: &Release<'_>) -> anyhow::Result<()> {
    let resident = |injector: &Injector<'_>| -> anyhow::Result<f64> {
        Ok(injector.admin().metric("process_resident_memory_bytes")? / 1e6)
    };
    let few = resident(&release.injector(&[])?)?;
    let namespace = cluster.namespace("many", &[])?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), &namespace);
    let made = cluster.run(async move {
        let (tasks, seats) = (TaskTracker::new(), tokio::sync::Semaphore::new(AT_ONCE));
        let (seats, mut handles) = (Arc::new(seats), Vec::new());
        for number in 0..ACCOUNTS {
            let seat = Arc::clone(&seats).acquire_owned().await;
            let accounts = accounts.clone();
            handles.push(tasks.spawn(async move {
                let _seat = seat;
                let account = serde_json::from_value(json!({
                    "metadata": {
                        "name": format!("account-{number}"),
                        "annotations": {
                            "caios.coreweave.com/audience": "https://coreweave.example",
                            "example.com/of-no-interest": "x".repeat(200),
                        },
                    },
                }));
                let params = PostParams::default();
                accounts.create(&params, &account?).await?;
                anyhow::Ok(())
            }));
        }
        for handle in handles {
            handle.await??;
        }
        anyhow::Ok(())
    });
    made.context("failed to make the ServiceAccounts")?;
    let injector = release.injector(&[])?;
    let known = injector.admin().metric("caios_injector_serviceaccounts")?;
    ensure!(
        known >= f64::from(ACCOUNTS),
        "it knows {known} ServiceAccounts alone"
    );
    let many = resident(&injector)?;
    println!("  injector, resident: {few:.1} MB, with {known} ServiceAccounts {many:.1} MB");
    Ok(())
}
