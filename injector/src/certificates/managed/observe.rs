//! Takes in what the watches show, and says what to do where they cannot.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use shared::throttled;

use super::Managed;
use crate::api;
use crate::certificates::secret;

impl Managed {
    pub(super) fn saw_secret(&mut self, seen: Result<Option<Secret>, watcher::Error>) {
        let name = &self.settings.secret;
        match seen {
            Ok(Some(secret)) => self.read(secret),
            Ok(None) => {
                self.secret = None;
                throttled!(
                    &self.metrics.suppressed_log_lines,
                    warn,
                    secret = name,
                    "the Secret of the certificate does not exist: `helm upgrade` makes it again"
                );
            }
            Err(error) => {
                let reason = api::watch_reason(&error);
                throttled!(
                    &self.metrics.suppressed_log_lines,
                    warn,
                    secret = name,
                    %reason,
                    "failed to watch the Secret of the certificate, trying again: the injector's Role \
                     must allow get, list, watch and patch of this one of `secrets`"
                );
            }
        }
    }

    pub(super) fn read(&mut self, mut secret: Secret) {
        let names = self.settings.names();
        self.current = false;
        match secret::read(&mut secret, &names) {
            None => tracing::info!("the Secret of the certificate is empty"),
            Some(Ok(material)) => {
                self.material = Some(material);
                self.current = true;
            }
            Some(Err(useless)) => tracing::warn!(
                reason = %useless,
                "the Secret of the certificate makes no sense and is replaced"
            ),
        }
        self.secret = Some(secret);
    }

    pub(super) fn saw_configuration(
        &mut self,
        seen: Result<Option<MutatingWebhookConfiguration>, watcher::Error>,
    ) {
        let configuration = &self.settings.webhook_configuration;
        match seen {
            Ok(seen) => {
                if seen.is_none() {
                    throttled!(
                        &self.metrics.suppressed_log_lines,
                        warn,
                        configuration,
                        "the MutatingWebhookConfiguration does not exist: no Pod is reviewed"
                    );
                }
                self.configuration = seen;
            }
            Err(error) => {
                let reason = api::watch_reason(&error);
                throttled!(
                    &self.metrics.suppressed_log_lines,
                    warn,
                    configuration,
                    %reason,
                    "failed to watch the MutatingWebhookConfiguration, trying again: the injector's \
                     ClusterRole must allow get, list, watch and patch of this one of \
                     `mutatingwebhookconfigurations`"
                );
            }
        }
    }
}
