//! Pods that ask for credentials and use them all the time, and count what fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cluster, PHASE_DEADLINE, Workload, spec};
use crate::wait;

/// Each has a container of its name in the Pods that have such a client.
#[derive(Clone, Copy)]
enum Kind {
    /// No SDK, no retry.
    Raw,
    /// boto3, a new session each time.
    Sessions,
    /// The SDK for Go v2, a new configuration each time.
    Go,
    /// The SDK for Java v2, a new client each time.
    Java,
}

const SCRIPTS: [(&str, &str); 3] = [
    ("counts.py", include_str!("../../node/clients/counts.py")),
    ("raw.py", include_str!("../../node/clients/raw.py")),
    (
        "sessions.py",
        include_str!("../../node/clients/sessions.py"),
    ),
];
/// One S3 call in so many requests of a raw client.
const S3_EVERY: u32 = 10;

/// How much is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Pods with a raw client each.
    pub pods: u32,
    /// How many of them have a boto3 client too, in a second container.
    pub with_sessions: u32,
    /// Whether two more of them have a client of the SDKs for Go and Java, which forgive no refused
    /// connection.
    pub with_others: bool,
    /// Time between two requests of a raw client.
    pub raw_interval: Duration,
    /// Time between two sessions of boto3, and as many of the others.
    pub session_interval: Duration,
}

impl Demand {
    /// A few Pods of raw clients, which ask often.
    pub const fn few(pods: u32) -> Self {
        Self {
            pods,
            with_sessions: 0,
            with_others: false,
            raw_interval: Duration::from_millis(100),
            session_interval: Duration::ZERO,
        }
    }

    /// What runs in the Pod of this number.
    fn clients(&self, number: u32) -> Vec<(Kind, Duration)> {
        let mut clients = vec![(Kind::Raw, self.raw_interval)];
        let further = match number.checked_sub(self.with_sessions) {
            None => Some(Kind::Sessions),
            Some(0) if self.with_others => Some(Kind::Go),
            Some(1) if self.with_others => Some(Kind::Java),
            Some(_) => None,
        };
        clients.extend(further.map(|kind| (kind, self.session_interval)));
        clients
    }
}

impl Kind {
    /// What its container is called.
    const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Sessions => "sessions",
            Self::Go => "go",
            Self::Java => "java",
        }
    }

    const fn command(self) -> &'static [&'static str] {
        match self {
            Self::Raw => &["python3", "/clients/raw.py"],
            Self::Sessions => &["python3", "/clients/sessions.py"],
            Self::Go => &["/opt/go/load"],
            // The first tier of the compiler and one collector thread: few cores, many clients.
            Self::Java => &[
                "/opt/java/runtime/bin/java",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Xmx128m",
                "-cp",
                "/opt/java/lib/*",
                "Load",
            ],
        }
    }
}

/// Running Pods of clients.
pub struct Load<'a> {
    /// The Pods, all of the ServiceAccount `trainer`.
    pub pods: Vec<Workload<'a>>,
    clients: Vec<Client>,
}

/// The log of one client: read as the kubelet keeps it, so that it needs no API server.
struct Client {
    pod: String,
    directory: PathBuf,
    what: &'static str,
}

/// What clients have seen.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Counts {
    /// When the last of these requests had ended, in seconds of the wall clock.
    #[serde(default)]
    pub at: f64,
    /// Requests.
    pub asked: u64,
    /// Those that failed.
    pub failed: u64,
    /// Errors, and how often each was seen; of several clients, which one it was.
    pub errors: BTreeMap<String, u64>,
    /// Access keys that were used.
    pub keys: Vec<String>,
}

impl Cluster {
    /// Starts clients in a namespace of `trainer`, and waits until each has had an answer.
    ///
    /// # Errors
    /// When a Pod does not start, or a client fails from the beginning.
    pub fn load(&self, namespace: &str, demand: Demand) -> anyhow::Result<Load<'_>> {
        let scripts: BTreeMap<_, _> = SCRIPTS.into_iter().collect();
        let scripts = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "namespace": namespace, "name": "clients" },
            "data": scripts,
        });
        self.control_plane().apply(&scripts)?.accepted()?;
        let mut load = Load {
            pods: Vec::new(),
            clients: Vec::new(),
        };
        for number in 0..demand.pods {
            let name = format!("load-{number}");
            let clients = demand.clients(number);
            let containers: Vec<_> = clients
                .iter()
                .map(|&(kind, each)| client(kind, each))
                .collect();
            let volumes =
                json!({ "volumes": [{ "name": "clients", "configMap": { "name": "clients" } }] });
            // Half of them reach their agent in each of the two ways.
            let way = if number % 2 == 0 { "hostPath" } else { "csi" };
            let asks = json!({ "caios.coreweave.com/volume": way });
            let pod = self.annotated_pod(namespace, &name, &asks, &containers, &volumes)?;
            let group = format!("/var/log/pods/{namespace}_{name}_{}", pod.uid);
            for (kind, _) in clients {
                let what = kind.name();
                let directory = Path::new(&group).join(what);
                load.clients.push(Client {
                    pod: name.clone(),
                    directory,
                    what,
                });
            }
            load.pods.push(pod);
        }
        load.until_heard(0.0)?;
        Ok(load)
    }
}

/// A client's container. It starts anew where it ends.
fn client(kind: Kind, interval: Duration) -> Value {
    let mut client = spec::container(kind.name(), kind.command());
    let more = json!({
        "env": [
            { "name": "LOAD_INTERVAL_MS", "value": interval.as_millis().to_string() },
            { "name": "LOAD_S3_EVERY", "value": S3_EVERY.to_string() },
        ],
        "volumeMounts": [{ "name": "clients", "mountPath": "/clients" }],
    });
    if let (Some(client), Some(more)) = (client.as_object_mut(), more.as_object()) {
        client.extend(more.clone());
    }
    client
}

impl Load<'_> {
    /// Lets something happen under load: what the clients have seen from its begin until some time
    /// after its end.
    ///
    /// # Errors
    /// As what happens, or when a client is not heard of any more.
    pub fn during(&self, happens: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Counts> {
        let before = self.counts()?;
        happens()?;
        let end = now();
        self.until_heard(end)?;
        Ok(self.counts()?.since(&before))
    }

    /// What all clients have seen so far.
    ///
    /// # Errors
    /// When one of them has said nothing, or was started anew and has forgotten.
    pub fn counts(&self) -> anyhow::Result<Counts> {
        let mut all = Counts::default();
        for client in &self.clients {
            let counts = client.counts();
            let counts = counts.with_context(|| format!("{} is silent", client.name()))?;
            all.add(&counts, &client.name());
        }
        Ok(all)
    }

    /// Waits until every client has ended a request after a time of the wall clock.
    fn until_heard(&self, time: f64) -> anyhow::Result<()> {
        for client in &self.clients {
            let what = format!("{} has an answer", client.name());
            wait::until(&what, PHASE_DEADLINE, || {
                client
                    .counts()
                    .is_some_and(|counts| counts.at > time && counts.asked > 0)
            })
            .with_context(|| format!("its log ends:\n{}", client.end_of_log()))?;
        }
        Ok(())
    }

    /// Stops counting one Pod, which a test is going to end.
    pub fn forget(&mut self, name: &str) -> Option<Workload<'_>> {
        self.clients.retain(|client| client.pod != name);
        let place = self.pods.iter().position(|pod| pod.name == name)?;
        Some(self.pods.remove(place))
    }

    /// Ends the Pods.
    ///
    /// # Errors
    /// When one does not end.
    pub fn end(self) -> anyhow::Result<()> {
        self.pods.iter().try_for_each(Workload::ask_to_end)?;
        self.pods.iter().try_for_each(Workload::gone)
    }
}

impl Client {
    fn name(&self) -> String {
        format!("{} of {}", self.what, self.pod)
    }

    /// The newest line that is whole; none of a client that was started anew, whose counts say
    /// nothing of what was before.
    fn counts(&self) -> Option<Counts> {
        if self.directory.join("1.log").exists() {
            return None;
        }
        let log = self.log();
        let mut lines = log
            .lines()
            .rev()
            .filter_map(|line| line.splitn(4, ' ').nth(3));
        lines.find_map(|line| serde_json::from_str(line).ok())
    }

    fn log(&self) -> String {
        let mut logs: Vec<_> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        logs.sort_by_key(fs::DirEntry::file_name);
        let newest = logs.last().and_then(|log| read_end(&log.path()).ok());
        newest.unwrap_or_default()
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// The last part of a log, which grows for as long as the load runs.
fn read_end(path: &Path) -> std::io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

impl Counts {
    fn add(&mut self, other: &Self, client: &str) {
        self.asked += other.asked;
        self.failed += other.failed;
        for (error, count) in &other.errors {
            let error = format!("{client}: {error}");
            *self.errors.entry(error).or_default() += count;
        }
        for key in &other.keys {
            if !self.keys.contains(key) {
                self.keys.push(key.clone());
            }
        }
    }

    /// What was seen since `earlier`; keys are those not seen before.
    fn since(&self, earlier: &Self) -> Self {
        let errors = self.errors.iter().map(|(error, count)| {
            (
                error.clone(),
                count - earlier.errors.get(error).copied().unwrap_or_default(),
            )
        });
        Self {
            at: self.at,
            asked: self.asked.saturating_sub(earlier.asked),
            failed: self.failed.saturating_sub(earlier.failed),
            errors: errors.filter(|(_, count)| *count > 0).collect(),
            keys: self
                .keys
                .iter()
                .filter(|key| !earlier.keys.contains(key))
                .cloned()
                .collect(),
        }
    }

    /// Checks that no more than so many requests failed, and something was asked.
    ///
    /// # Errors
    /// When more did; the error has the clients' own.
    pub fn ensure_failed_at_most(&self, most: u64) -> anyhow::Result<()> {
        ensure!(self.asked > 0, "nothing was asked");
        ensure!(
            self.failed <= most,
            "{} of {} requests failed: {:#?}",
            self.failed,
            self.asked,
            self.errors
        );
        Ok(())
    }
}

/// The wall clock, which clients have too.
#[expect(
    clippy::disallowed_methods,
    reason = "compared with what another process wrote"
)]
pub(super) fn now() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}
