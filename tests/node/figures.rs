//! Figures of a node: how soon Pods have credentials, and what it takes to have as many with CSI
//! volumes as a node may have. `make node-figures` prints them; nothing else runs this.

#![expect(clippy::print_stdout, reason = "what was measured is what it prints")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use hyper::Method;
use serde_json::json;
use tests::chart::{NAMESPACE, RELEASE};
use tests::cluster::{Cluster, Moment, Moments, PHASE_DEADLINE, Process, Workload, container};
use tests::wait;
use tokio::time::Instant;

use crate::held::Held;
use crate::{agents, csi};

/// Pods of each kind, one after another and at once.
const PODS: usize = 20;
/// As many Pods as a kubelet runs where nobody says more, and twice that again.
const FULL: usize = 250;
/// How long a full node may take to start, and to be empty.
const DEADLINE: Duration = Duration::from_mins(15);
/// What `caios-enroll` may have by default. With less, the kernel makes its container wait for its share
/// while it is started.
const DEFAULT: &str = "injector.enroll.cpu=100m";
/// So that the scheduler has place for all of them at once.
const FEW: &str = "injector.enroll.cpu=20m";
/// The scheduler counts what Pods ask for, and a small machine has not 250 times the default.
const SMALL: &str = "injector.enroll.cpu=1m,injector.enroll.memory=8Mi";

const WATCHED: &str = "caios_agent_watched_pods";

/// How Pods reach their agent.
#[derive(Clone, Copy)]
enum Way {
    /// Not at all: what the node itself takes.
    Without,
    /// Not at all, with an init container that does nothing.
    Beside,
    HostPath,
    Csi,
}

impl Way {
    const ALL: [Self; 4] = [Self::Without, Self::Beside, Self::HostPath, Self::Csi];

    const fn annotations(self) -> (&'static str, &'static str) {
        match self {
            Self::Without | Self::Beside => ("caios.coreweave.com/inject", "false"),
            Self::HostPath => ("caios.coreweave.com/volume", "hostPath"),
            Self::Csi => ("caios.coreweave.com/volume", "csi"),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Without => "none, no credentials",
            Self::Beside => "none, no credentials; an init container runs `true`",
            Self::HostPath => "hostPath",
            Self::Csi => "CSI",
        }
    }

    /// Creates a Pod whose only container asks for credentials once, as lightly as can be, says so, and
    /// does nothing from then on.
    fn pod<'a>(
        self,
        cluster: &'a Cluster,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<Workload<'a>> {
        let ask = "wget -q -O - --header \"Authorization: $(cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)\" \
                   $AWS_CONTAINER_CREDENTIALS_FULL_URI | grep -q SecretAccessKey && echo has a key";
        let ask = match self {
            Self::Without | Self::Beside => "echo runs",
            Self::HostPath | Self::Csi => ask,
        };
        let main = container("main", &["sh", "-c", &format!("{ask} && exec sleep 86400")]);
        let (annotation, value) = self.annotations();
        let annotations = json!({ annotation: value });
        let further = match self {
            Self::Beside => json!({ "initContainers": [container("first", &["true"])] }),
            _ => json!({}),
        };
        cluster.annotated_pod(namespace, name, &annotations, &[main], &further)
    }
}

/// Values of one kind, the smallest first.
struct Values(Vec<f64>);

impl Values {
    fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The least value that so many of a hundred do not exceed.
    fn at(&self, share: usize) -> f64 {
        let rank = (self.0.len() * share).div_ceil(100);
        let value = rank.checked_sub(1).and_then(|place| self.0.get(place));
        value.copied().unwrap_or(f64::NAN)
    }

    /// p50 and p99, as two cells of a table.
    fn cells(&self) -> String {
        format!("{:.2} | {:.2}", self.at(50), self.at(99))
    }
}

/// Waits until each of these Pods has written a line, and says how long that took, in seconds from the
/// moment when the watch saw `spec.nodeName`.
fn delays(
    moments: &Moments,
    pods: &[Workload<'_>],
    deadline: Duration,
) -> anyhow::Result<Vec<f64>> {
    let mut delays = Vec::new();
    for pod in pods {
        let what = format!("{} has written a line", pod.name);
        wait::until(&what, deadline, || pod.first_line().is_some())?;
        let first = pod.first_line().context("it has written a line")?;
        ensure!(pod.restarts("containerStatuses")? == 0, "{}", pod.name);
        let scheduled = moment(moments, &pod.name).scheduled;
        delays.push(first - scheduled.context("it was not seen to be scheduled")?);
    }
    Ok(delays)
}

fn moment(moments: &Moments, pod: &str) -> Moment {
    moments.seen().get(pod).copied().unwrap_or_default()
}

pub(crate) fn pods_have_credentials_soon_after_they_are_scheduled(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("figures")?;
    cluster.until_injected(&namespace, "trainer")?;
    // The identity's key stays in memory while it has a Pod: what an exchange takes is CoreWeave's.
    let keeps = cluster.idle_pod(&namespace, "keeps")?;
    values(cluster, DEFAULT)?;
    let alone = Way::ALL.map(|way| one_by_one(cluster, &namespace, way));
    values(cluster, FEW)?;
    let together = Way::ALL.map(|way| at_once(cluster, &namespace, way));
    println!(
        "\nSeconds from scheduled (the watch sees `spec.nodeName`) to the first credential in the workload's \
         container\n(containerd reads its line; without credentials: its first line), {PODS} Pods each. At once \
         with {FEW}:\n"
    );
    println!("| volume | one after another: p50 | p99 | {PODS} at once: p50 | p99 |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for ((way, alone), together) in Way::ALL.into_iter().zip(alone).zip(together) {
        let (alone, together) = (Values::new(alone?), Values::new(together?));
        println!(
            "| {} | {} | {} |",
            way.name(),
            alone.cells(),
            together.cells()
        );
    }
    println!();
    keeps.delete()
}

/// Installs the chart with other values of the injector.
fn values(cluster: &Cluster, values: &str) -> anyhow::Result<()> {
    cluster.typed(&format!(
        "helm upgrade {RELEASE} ./helm -n {NAMESPACE} --reuse-values --set {values}"
    ))?;
    cluster.until_rolled_out()
}

fn one_by_one(cluster: &Cluster, namespace: &str, way: Way) -> anyhow::Result<Vec<f64>> {
    // Whatever the first of a kind costs is not counted.
    let first = way.pod(cluster, namespace, "first")?;
    wait::until("the first one has a line", PHASE_DEADLINE, || {
        first.first_line().is_some()
    })?;
    first.delete()?;
    let mut all = Vec::new();
    let moments = cluster.watch_moments(namespace);
    let mut ending = Vec::new();
    for number in 0..PODS {
        let pod = way.pod(cluster, namespace, &format!("one-{number}"))?;
        let pods = std::slice::from_ref(&pod);
        all.extend(delays(&moments, pods, PHASE_DEADLINE)?);
        pod.ask_to_end()?;
        // Nothing of it takes time from the next; what the kubelet removes later does not count.
        wait::until("nothing of it runs", PHASE_DEADLINE, || {
            Process::of_pod(&pod.uid).is_empty()
        })?;
        ending.push(pod);
    }
    ending.iter().try_for_each(Workload::gone)?;
    Ok(all)
}

fn at_once(cluster: &Cluster, namespace: &str, way: Way) -> anyhow::Result<Vec<f64>> {
    let moments = cluster.watch_moments(namespace);
    let names = (0..PODS).map(|number| format!("together-{number}"));
    let pods = names.map(|name| way.pod(cluster, namespace, &name));
    let pods: Vec<_> = pods.collect::<Result<_, _>>()?;
    let all = delays(&moments, &pods, PHASE_DEADLINE)?;
    pods.iter().try_for_each(Workload::ask_to_end)?;
    pods.iter().try_for_each(Workload::gone)?;
    Ok(all)
}

pub(crate) fn a_full_node_of_csi_pods_leaves_nothing(cluster: &Cluster) -> anyhow::Result<()> {
    values(cluster, SMALL)?;
    let namespace = csi::namespace(cluster, "full")?;
    // What the first Pod leaves, buffers and a connection to CoreWeave, is no Pod's.
    Way::Csi
        .pod(cluster, &namespace, "first")?
        .until_running()?;
    cluster.existing_pod(&namespace, "first")?.delete()?;
    until_nothing_is_held(cluster)?;
    let agent = cluster.agent()?.uid;
    let parts = ["caios-agent run", "/caios-keeper", csi::DRIVER];
    let process = |program| Process::of_program(&agent, program);
    let processes: Vec<_> = parts.map(process).into_iter().collect::<Result<_, _>>()?;
    let held = || processes.iter().map(|process| Held::by(*process)).collect();
    let before: Vec<Held> = held();
    let watched = cluster.agent_metric(WATCHED)?;

    let moments = cluster.watch_moments(&namespace);
    let started = Instant::now();
    let names = (0..FULL).map(|number| format!("full-{number}"));
    let pods = names.map(|name| Way::Csi.pod(cluster, &namespace, &name));
    let pods: Vec<_> = pods.collect::<Result<_, _>>()?;
    until_all(&moments, &pods, "are ready", |moment| moment.ready)?;
    let all_ready = started.elapsed().as_secs_f64();
    let delays = Values::new(delays(&moments, &pods, PHASE_DEADLINE)?);
    csi::until_volumes(cluster, FULL)?;
    let uids: Vec<_> = pods.iter().map(|pod| pod.uid.clone()).collect();
    let times = Values::new(csi::times(cluster, &uids)?);
    let calls = csi::calls(cluster)?;
    let published = calls.iter().filter(|call| call.method.contains("Publish"));
    let (published, put_off) = (
        published.clone().count(),
        published.filter(|call| !call.is_done()).count(),
    );
    let full: Vec<Held> = held();
    let peak: Vec<_> = processes.iter().map(|it| it.status("VmHWM")).collect();

    let asked = Instant::now();
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let control_plane = cluster.control_plane();
    control_plane
        .send(Method::DELETE, &path, "application/json", Vec::new())?
        .accepted()?;
    until_all(&moments, &pods, "are gone", |moment| moment.gone)?;
    let all_gone = asked.elapsed().as_secs_f64();
    csi::left_nothing(&uids)?;
    until_nothing_is_held(cluster)?;
    wait::until(
        "the agent knows of no Pod that is gone",
        PHASE_DEADLINE,
        || {
            let now = cluster.agent_metric(WATCHED);
            now.is_ok_and(|now| now <= watched)
        },
    )?;
    let mut after: Vec<Held> = held();
    let back = wait::until(
        "all have as many descriptors and threads as before",
        PHASE_DEADLINE,
        || {
            after = held();
            let mut pairs = after.iter().zip(&before);
            pairs.all(|(after, before)| after.is_open_as(before))
        },
    );

    println!("\n{FULL} Pods with CSI volumes on one node, created together:\n");
    println!("| | |\n| --- | ---: |");
    println!("| all ready after | {all_ready:.0} s |");
    println!(
        "| scheduled to first credential, p50, p99 | {:.1} s, {:.1} s |",
        delays.at(50),
        delays.at(99)
    );
    println!(
        "| publish, in the driver, p50, p99 | {:.1} ms, {:.1} ms |",
        times.at(50),
        times.at(99)
    );
    println!("| publishes in all, of them put off | {published}, {put_off} |");
    println!("| all gone after | {all_gone:.0} s |\n");
    println!("| process | before | with {FULL} Pods | at most | after |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for ((((part, before), full), peak), after) in
        parts.iter().zip(&before).zip(&full).zip(&peak).zip(&after)
    {
        println!("| `{part}` | {before} | {full} | {peak} | {after} |");
    }
    println!();
    back
}

/// Waits until the agent has nothing of any Pod: volumes, listeners, keys, tokens of them.
fn until_nothing_is_held(cluster: &Cluster) -> anyhow::Result<()> {
    csi::until_volumes(cluster, 0)?;
    agents::until_listeners(cluster, 0)?;
    for series in [
        "caios_agent_cached_identities",
        "caios_agent_kept_identities",
    ] {
        agents::until_counted(cluster, series, 0, PHASE_DEADLINE)?;
    }
    Ok(())
}

fn until_all(
    moments: &Moments,
    pods: &[Workload<'_>],
    what: &str,
    which: fn(&Moment) -> Option<f64>,
) -> anyhow::Result<()> {
    let mut there = 0;
    let waited = wait::until(&format!("all Pods {what}"), DEADLINE, || {
        let seen = moments.seen();
        let of = |pod: &&Workload<'_>| seen.get(&pod.name).and_then(which).is_some();
        there = pods.iter().filter(of).count();
        there == pods.len()
    });
    waited.with_context(|| format!("{there} of {} {what}", pods.len()))
}
