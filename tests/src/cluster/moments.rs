//! When things happen to Pods, as finely as the clock has it: the API tells whole seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use tokio::task::JoinHandle;

use super::load::now;
use super::{Cluster, Workload, locked};

/// A watch of the Pods of a namespace. It ends when it is dropped.
pub struct Moments {
    seen: Arc<Mutex<BTreeMap<String, Moment>>>,
    watch: JoinHandle<()>,
}

/// When a Pod was first seen to be somewhere, in seconds of the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// Bound to a node: `spec.nodeName` is set.
    pub scheduled: Option<f64>,
    /// With the condition `Ready`.
    pub ready: Option<f64>,
    /// Not there any more.
    pub gone: Option<f64>,
}

impl Cluster {
    /// Watches the Pods of a namespace from now on.
    pub fn watch_moments(&self, namespace: &str) -> Moments {
        let pods: Api<Pod> = Api::namespaced(self.control_plane().client(), namespace);
        let seen = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let into = Arc::clone(&seen);
        let watch = self.control_plane().network().handle().spawn(async move {
            // It ends well after some minutes, and what was seen before stays.
            while watch(&pods, &into).await.is_ok() {}
        });
        Moments { seen, watch }
    }
}

impl Moments {
    /// What was seen of each Pod so far, by its name.
    pub fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Moment>> {
        locked(&self.seen)
    }
}

impl Drop for Moments {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn watch(pods: &Api<Pod>, seen: &Mutex<BTreeMap<String, Moment>>) -> kube::Result<()> {
    let mut events = Box::pin(pods.watch(&WatchParams::default(), "0").await?);
    while let Some(event) = events.try_next().await? {
        let now = now();
        let (pod, is_gone) = match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
            WatchEvent::Deleted(pod) => (pod, true),
            _ => continue,
        };
        let conditions = pod.status.and_then(|status| status.conditions);
        let mut conditions = conditions.into_iter().flatten();
        let is_ready = conditions.any(|it| it.type_ == "Ready" && it.status == "True");
        let is_scheduled = pod.spec.is_some_and(|spec| spec.node_name.is_some());
        let mut seen = locked(seen);
        let moment = seen.entry(pod.metadata.name.unwrap_or_default());
        let Moment {
            scheduled,
            ready,
            gone,
        } = moment.or_default();
        for (first, is_so) in [
            (scheduled, is_scheduled),
            (ready, is_ready),
            (gone, is_gone),
        ] {
            if is_so {
                first.get_or_insert(now);
            }
        }
    }
    Ok(())
}

impl Workload<'_> {
    /// When the container `main` has written its first line, in seconds of the wall clock, as
    /// containerd has read it.
    pub fn first_line(&self) -> Option<f64> {
        let group = format!(
            "/var/log/pods/{}_{}_{}",
            self.namespace, self.name, self.uid
        );
        let log = fs::read_to_string(Path::new(&group).join("main/0.log")).ok()?;
        let time: jiff::Timestamp = log.split_once(' ')?.0.parse().ok()?;
        Some(time.as_duration().as_secs_f64())
    }
}
