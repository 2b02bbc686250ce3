//! Which `ServiceAccounts` ask for injection, asked one at a time and remembered.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::Api;
use prometheus::IntCounter;
use shared::api;
use shared::contract::ANNOTATION_PREFIX;
use shared::throttled;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::workload::Pod;

/// How long an answer is believed, give or take a tenth.
const LIFE: Duration = Duration::from_hours(1);
/// How long until a question that was not answered is asked again.
const PAUSE: Duration = Duration::from_mins(1);

/// The name of a `ServiceAccount`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Account {
    namespace: String,
    name: String,
}

impl Account {
    /// That of a Pod.
    pub(super) fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.namespace.clone(),
            name: pod.service_account.clone(),
        }
    }
}

/// What a `ServiceAccount` says about the injection of its Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// Yes.
    Yes,
    /// No, which wins over whatever a Pod says.
    No,
    /// Nothing, or there is none of that name.
    Nothing,
}

impl Says {
    /// As the injector reads it: `inject`, or an audience.
    fn of<'a>(annotations: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let (mut inject, mut audience) = (None, false);
        for (name, value) in annotations {
            match name.strip_prefix(ANNOTATION_PREFIX) {
                Some("inject") => inject = Some(value.trim()),
                Some("audience") => audience = !value.trim().is_empty(),
                _ => {}
            }
        }
        match inject {
            Some("false") => Self::No,
            Some("true") => Self::Yes,
            _ if audience => Self::Yes,
            _ => Self::Nothing,
        }
    }
}

#[derive(Debug)]
struct Answer {
    /// `None` while nobody has answered.
    says: Option<Says>,
    until: Instant,
}

/// What is known of `ServiceAccounts`.
#[derive(Debug)]
pub(super) struct Accounts {
    known: HashMap<Account, Answer>,
    asking: JoinSet<(Account, kube::Result<Says>)>,
    suppressed: IntCounter,
}

impl Accounts {
    /// Knows nothing yet; log lines that are held back count in `suppressed`.
    pub(super) fn new(suppressed: IntCounter) -> Self {
        Self {
            known: HashMap::new(),
            asking: JoinSet::new(),
            suppressed,
        }
    }

    /// What the `ServiceAccount` said last.
    pub(super) fn says(&self, account: &Account) -> Option<Says> {
        self.known.get(account)?.says
    }

    /// Whether it is to be asked, for the first time or again.
    pub(super) fn is_due(&self, account: &Account, now: Instant) -> bool {
        let known = self.known.get(account);
        known.is_none_or(|answer| now >= answer.until)
    }

    /// Forgets those that no Pod uses any more.
    pub(super) fn keep(&mut self, used: &HashSet<Account>) {
        self.known.retain(|account, _| used.contains(account));
    }

    /// Asks for one, unless another is being asked for.
    pub(super) fn ask(&mut self, client: &Client, account: Account) {
        if !self.asking.is_empty() {
            return;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &account.namespace);
        self.asking.spawn(async move {
            let found = api::written(accounts.get_metadata_opt(&account.name)).await;
            let says = found.map(|found| {
                let annotations = found.and_then(|it| it.metadata.annotations);
                Says::of(annotations.iter().flatten())
            });
            (account, says)
        });
    }

    /// Waits for the answer, for ever where nothing is asked.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn answered(&mut self) {
        let answer = match self.asking.join_next().await {
            None => std::future::pending().await,
            Some(answer) => answer,
        };
        if let Ok((account, says)) = answer {
            self.learn(account, says, Instant::now());
        }
    }

    fn learn(&mut self, account: Account, says: kube::Result<Says>, now: Instant) {
        let answer = match says {
            Ok(says) => Answer {
                says: Some(says),
                until: now + LIFE.mul_f64(0.9 + 0.2 * fastrand::f64()),
            },
            Err(error) => {
                let reason = api::reason(&error);
                let Account { namespace, name } = &account;
                throttled!(
                    &self.suppressed,
                    warn,
                    %reason,
                    namespace,
                    name,
                    "failed to read a ServiceAccount, trying again in a minute: the agent's \
                     ClusterRole must allow get of `serviceaccounts`"
                );
                Answer {
                    says: self.says(&account),
                    until: now + PAUSE,
                }
            }
        };
        self.known.insert(account, answer);
    }

    /// As if it had been asked.
    #[cfg(test)]
    pub(super) fn said(&mut self, pod: &Pod, says: Says) {
        self.learn(Account::of(pod), Ok(says), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::script::{object, suppressed};

    fn says(annotations: &[(&str, &str)]) -> Says {
        let owned: Vec<_> = annotations
            .iter()
            .map(|(name, value)| (format!("{ANNOTATION_PREFIX}{name}"), (*value).to_owned()))
            .collect();
        Says::of(owned.iter().map(|(name, value)| (name, value)))
    }

    #[test]
    fn annotations_are_read_as_the_injector_reads_them() {
        assert_eq!(says(&[]), Says::Nothing);
        assert_eq!(says(&[("inject", "true")]), Says::Yes);
        assert_eq!(says(&[("audience", "a")]), Says::Yes);
        assert_eq!(says(&[("audience", " ")]), Says::Nothing);
        assert_eq!(says(&[("inject", "yes")]), Says::Nothing);
        assert_eq!(says(&[("inject", "false"), ("audience", "a")]), Says::No);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_for_an_hour_and_outlives_a_question_that_is_lost() {
        let account = Account::of(&object("a").seen.pod);
        let mut accounts = Accounts::new(suppressed());
        assert!(accounts.is_due(&account, Instant::now()));
        accounts.learn(account.clone(), Ok(Says::Yes), Instant::now());
        tokio::time::advance(LIFE.mul_f64(0.89)).await;
        assert!(!accounts.is_due(&account, Instant::now()));
        tokio::time::advance(LIFE.mul_f64(0.22)).await;
        assert!(accounts.is_due(&account, Instant::now()));

        let lost = kube::Error::LinesCodecMaxLineLengthExceeded;
        accounts.learn(account.clone(), Err(lost), Instant::now());
        assert_eq!(accounts.says(&account), Some(Says::Yes));
        assert!(!accounts.is_due(&account, Instant::now()));
        tokio::time::advance(PAUSE).await;
        assert!(accounts.is_due(&account, Instant::now()));
        accounts.keep(&HashSet::new());
        assert_eq!(accounts.says(&account), None);
    }
}
