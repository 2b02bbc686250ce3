//! CoreWeave's tutorial, as a user types it from the README.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::chart::commands;
use tests::cluster::{Cluster, CoreWeave};

const README: &str = include_str!("../../README.md");
/// No registry is in reach: the image is on the node already.
const IMAGE: (&str, &str) = (
    "image: amazon/aws-cli",
    "image: amazon/aws-cli\n    imagePullPolicy: Never",
);
const POD: (&str, &str) = ("training", "caios-test");

/// Runs the test Pod of the tutorial until it has ended: what `kubectl logs` shows of a container.
fn test_pod(cluster: &Cluster) -> anyhow::Result<(String, String, String)> {
    let step = commands(README, "5. Run and verify").replace(IMAGE.0, IMAGE.1);
    ensure!(step.contains("imagePullPolicy"), "the step runs the image");
    let printed = cluster.typed(&step)?;
    let promised = "caios-enroll http://127.0.0.1:27169/v1/credentials";
    ensure!(printed.lines().last() == Some(promised), "{printed}");
    let pod = cluster.existing_pod(POD.0, POD.1)?;
    let phase = pod.ended()?;
    let (init, log) = (pod.log("caios-enroll")?, pod.log("aws")?);
    pod.delete()?;
    Ok((phase, init, log))
}

pub(crate) fn a_user_who_follows_the_tutorial_is_led_from_access_denied_to_the_list_of_buckets(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let notes = cluster.install()?;
    ensure!(notes.contains("STATUS: deployed"), "{notes}");
    let discovery: Value =
        serde_json::from_str(&cluster.typed(&commands(README, "2. Register the cluster"))?)?;
    let issuer = discovery
        .pointer("/issuer")
        .and_then(Value::as_str)
        .context("no issuer")?;
    cluster.typed(&commands(README, "3. Annotate a ServiceAccount"))?;
    cluster.until_injected("training", "trainer")?;

    // What step 4 has the user grant, which nobody has yet.
    let principal = format!("role/{issuer}:system:serviceaccount:training:trainer");
    ensure!(principal == CoreWeave::principal("training", "trainer"));
    let (phase, init, log) = test_pod(cluster)?;
    ensure!(phase == "Failed", "{phase}: {log}");
    for (whose, text) in [("caios-enroll", &init), ("aws", &log)] {
        for needed in [&principal, "cwobject:CreateAccessKeyOIDC"] {
            ensure!(
                text.contains(needed),
                "{whose} does not lead to `{needed}`: {text}"
            );
        }
    }

    // The exchange alone: S3 says what is missing, to whom.
    let coreweave = cluster.coreweave().standin();
    coreweave.grant(&principal, &["cwobject:CreateAccessKeyOIDC"]);
    let (phase, _, log) = test_pod(cluster)?;
    ensure!(phase == "Failed", "{phase}: {log}");
    for needed in ["AccessDenied", &principal, "s3:ListAllMyBuckets"] {
        ensure!(log.contains(needed), "no `{needed}` in: {log}");
    }

    coreweave.grant(&principal, &["s3:*"]);
    let (phase, _, log) = test_pod(cluster)?;
    ensure!(phase == "Succeeded", "{phase}: {log}");
    let buckets: Value = serde_json::from_str(&log).with_context(|| log.clone())?;
    ensure!(
        buckets.pointer("/Buckets/0/Name") == Some(&"data".into()),
        "{buckets}"
    );
    Ok(())
}
