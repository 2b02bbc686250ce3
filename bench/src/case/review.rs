//! What the webhook's decision costs by itself.

use std::collections::BTreeMap;

use anyhow::ensure;
use clap::Parser as _;
use injector::config::{Config, RunArgs};
use injector::mutate::{PodSecurity, Subject, mutate};
use serde_json::json;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::report::{Figure, Goal, Section};

/// Decisions of one round.
const TIMES: u32 = 2_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    run: RunArgs,
}

/// Decides about the same Pod again and again.
///
/// # Errors
/// When the injector's defaults do not decide.
pub fn measure(plan: &Plan) -> anyhow::Result<Section> {
    let command = Command::try_parse_from([
        "caios-injector",
        "--certificates=directory",
        "--certificate-directory=/certificates",
        "--image=registry.invalid/caios",
        "--audience=https://coreweave.example/iam",
    ])?;
    let config = Config::new(&command.run)?;
    let settings = config.injection.complete(ISSUER, &[ISSUER.to_owned()]);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "train-0", "namespace": "research" },
        "spec": {
            "serviceAccountName": "trainer",
            "initContainers": [{ "name": "fetch", "image": "app.invalid/app" }],
            "containers": [
                { "name": "main", "image": "app.invalid/app", "env": [{ "name": "A", "value": "b" }] },
                { "name": "sidecar", "image": "app.invalid/app" },
            ],
        },
    });
    let inject = ("inject".to_owned(), "true".to_owned());
    let service_account = BTreeMap::from([inject]);
    let subject = Subject {
        pod: &pod,
        service_account: &service_account,
        pod_security: PodSecurity::Privileged,
        required: false,
        draw: 0,
    };
    let mut took = Vec::new();
    for _ in 0..plan.rounds {
        let begun = Instant::now();
        let mut operations = 0;
        for _ in 0..TIMES {
            operations += mutate(&subject, &settings).patch.len();
        }
        ensure!(operations > 0, "the Pod was not injected");
        took.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES));
    }
    Ok(Section {
        title: "The webhook's decision about a Pod of three containers, without its transport"
            .to_owned(),
        figures: vec![Figure::new("`mutate`", "µs", took).goal(Goal::AtMost(100.0))],
    })
}
