//! What is said on a Pod: Kubernetes Events that name what is wrong and what to do.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::workload::Pod;

/// Who says it; a qualified name, as the API server wants it.
const CONTROLLER: &str = "caios.coreweave.com/agent";
/// The longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1_024;
/// The longest name of the instance, in bytes.
const LONGEST_INSTANCE: usize = 128;
/// How much of the Pod's name the Event's has, in bytes: with the rest it stays below 253.
const LONGEST_NAME: usize = 150;

const HOUR: i64 = 3_600;

/// Why something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// The node serves no listener of a Pod that has enrolled.
    ListenerLost,
    /// The Pod is to be injected, and is not.
    CredentialsNotInjected,
    /// CoreWeave refuses keys to the Pod's identity.
    CredentialsRefused,
    /// The Pod handed over a listener that is not its own.
    EnrolmentRejected,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::ListenerLost => "ListenerLost",
            Self::CredentialsNotInjected => "CredentialsNotInjected",
            Self::CredentialsRefused => "CredentialsRefused",
            Self::EnrolmentRejected => "EnrolmentRejected",
        }
    }

    /// What did not succeed.
    const fn action(self) -> &'static str {
        match self {
            Self::ListenerLost => "Serve",
            Self::CredentialsNotInjected => "Inject",
            Self::CredentialsRefused => "Exchange",
            Self::EnrolmentRejected => "Enrol",
        }
    }
}

/// Something to say on a Pod.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) pod: Pod,
    pub(super) reason: Reason,
    note: String,
}

impl Notice {
    /// Nobody serves the Pod's SDKs.
    pub(super) fn listener_lost(pod: &Pod) -> Self {
        let name = &pod.name;
        Self::new(
            pod,
            Reason::ListenerLost,
            format!(
                "The node's CAIOS agent serves no listener of this Pod any more, and its SDKs get \
                 connection refused. Start it anew: `kubectl rollout restart` of what it belongs \
                 to, or `kubectl delete pod {name}`."
            ),
        )
    }

    /// The Pod has neither URL nor token.
    pub(super) fn not_injected(pod: &Pod) -> Self {
        let Pod {
            name,
            namespace,
            service_account,
            ..
        } = pod;
        Self::new(
            pod,
            Reason::CredentialsNotInjected,
            format!(
                "CAIOS credentials are asked for this Pod (ServiceAccount {service_account}), but \
                 it was created without: before they were asked for, while the CAIOS injector \
                 could not be reached, or against an obstacle. Create it again: `kubectl rollout \
                 restart` of what it belongs to, or `kubectl -n {namespace} delete pod {name}`. If \
                 the new one has none either, the warning that its creation prints says why."
            ),
        )
    }

    /// CoreWeave refuses, in words that lead to the cure.
    pub(super) fn refused(pod: &Pod, message: &str) -> Self {
        let note = format!("No CAIOS credentials for this Pod: {message}");
        Self::new(pod, Reason::CredentialsRefused, note)
    }

    /// The listener is in a network namespace without the Pod's addresses.
    pub(super) fn rejected(pod: &Pod) -> Self {
        let name = &pod.name;
        Self::new(
            pod,
            Reason::EnrolmentRejected,
            format!(
                "The listener that this Pod handed to the node's CAIOS agent is in a network \
                 namespace that has none of the Pod's addresses, so the agent has closed it. See \
                 what runs `caios-enroll` elsewhere than in the Pod's own network, then start the \
                 Pod anew: `kubectl delete pod {name}`."
            ),
        )
    }

    fn new(pod: &Pod, reason: Reason, note: String) -> Self {
        Self {
            pod: pod.clone(),
            reason,
            note: cut(note, LONGEST_NOTE),
        }
    }

    /// The Event, as the agent on `node` says it at that time.
    ///
    /// Its name is the same for an hour, so that an agent that starts anew, or two that take turns,
    /// say it once.
    pub(super) fn event(&self, node: &str, now: Timestamp) -> Event {
        let Pod {
            uid,
            name,
            namespace,
            ..
        } = &self.pod;
        let short = cut(name.clone(), LONGEST_NAME);
        let short = short.trim_end_matches(['.', '-']);
        let (reason, hour) = (self.reason.name(), now.as_second() / HOUR);
        let lower = reason.to_ascii_lowercase();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{short}.{lower}-{uid}-{hour:x}")),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some("Warning".to_owned()),
            reason: Some(reason.to_owned()),
            action: Some(self.reason.action().to_owned()),
            note: Some(self.note.clone()),
            regarding: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                uid: Some(uid.to_string()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(cut(node.to_owned(), LONGEST_INSTANCE)),
            ..Event::default()
        }
    }
}

/// No more than `most` bytes of a text.
fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::PodUid;

    fn pod(name: &str) -> Pod {
        Pod {
            uid: PodUid::new("0f0f0f0f-0000-4000-8000-000000000001"),
            name: name.to_owned(),
            namespace: "research".to_owned(),
            service_account: "reader".to_owned(),
        }
    }

    #[test]
    fn each_notice_says_what_to_do() {
        let pod = pod("app");
        for (notice, cure) in [
            (Notice::listener_lost(&pod), "kubectl delete pod app"),
            (
                Notice::not_injected(&pod),
                "kubectl -n research delete pod app",
            ),
            (Notice::rejected(&pod), "kubectl delete pod app"),
            (Notice::refused(&pod, "grant X to Y"), "grant X to Y"),
        ] {
            assert!(notice.note.contains(cure), "{notice:?}");
            assert!(notice.note.len() < 600, "{notice:?}");
        }
    }

    #[test]
    fn an_event_fits_the_api_whatever_the_pod_is_called() {
        let name = format!("{}-{}", "a".repeat(149), "b".repeat(103));
        let notice = Notice::refused(&pod(&name), &"é".repeat(2_000));
        let event = notice.event(&"n".repeat(253), Timestamp::UNIX_EPOCH);
        let own = event.metadata.name.unwrap();
        assert!(
            own.len() <= 253 && own.contains("a.credentialsrefused-0f0f"),
            "{own}"
        );
        assert!(event.note.unwrap().len() <= 1_024);
        assert_eq!(event.reporting_instance.unwrap().len(), 128);
        assert_eq!(event.regarding.unwrap().name, Some(name));
    }

    #[test]
    fn an_events_name_is_the_same_for_an_hour() {
        let named = |seconds| {
            let now = Timestamp::from_second(seconds).unwrap();
            Notice::listener_lost(&pod("app"))
                .event("n", now)
                .metadata
                .name
        };
        assert_eq!(named(7_200), named(10_799));
        assert_ne!(named(7_200), named(10_800));
    }
}
