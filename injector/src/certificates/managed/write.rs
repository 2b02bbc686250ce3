//! Writes: the next step into the Secret, the authorities into `caBundle`.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use shared::throttled;

use super::{LONGEST_PAUSE, Managed, RETRY};
use crate::api;
use crate::certificates::bundle::repair;
use crate::certificates::material::{Material, take};
use crate::certificates::period::signed;
use crate::certificates::plan::{Step, overlap, plan};
use crate::certificates::secret;

impl Managed {
    /// Takes the next step of the plan and writes it into the Secret; says when to look again.
    pub(super) async fn follow_plan(&mut self) -> Option<Duration> {
        let secret = self.secret.as_ref()?;
        let (now, overlap) = (
            self.clock.now(),
            overlap(self.settings.certificate_lifetime),
        );
        let material = self.material.as_ref().filter(|_| self.current);
        let first = material.and_then(|material| material.authorities.first());
        let published = first.is_some_and(|first| self.trusts(first).is_some());
        let step = plan(material.map(Material::facts), published, now, overlap);
        if let Step::Wait(until) = step {
            let left = until.duration_since(now).max(signed(RETRY / 10));
            return Some(left.try_into().unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE));
        }
        // What the Secret held before it was emptied may still be served somewhere.
        let known = self
            .material
            .as_ref()
            .map(|material| &*material.authorities);
        let made = take(
            step,
            material,
            known.unwrap_or_default(),
            &self.settings,
            now,
        );
        let patch = match made {
            Ok(Some(made)) => Patch::Merge(secret::patch(secret, &made)),
            Ok(None) => return Some(RETRY),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "failed to make a certificate");
                return Some(RETRY);
            }
        };
        let name = self.settings.secret.clone();
        let params = PatchParams::default();
        match api::written(self.secrets.patch(&name, &params, &patch)).await {
            Ok(secret) => {
                tracing::info!(?step, "the certificate in the Secret has changed");
                self.read(secret);
                // It is served, published and planned with at once.
                Some(Duration::ZERO)
            }
            Err(error) if api::is_conflict(&error) => {
                tracing::debug!(?step, "another replica was faster");
                Some(RETRY)
            }
            Err(error) => {
                let reason = api::reason(&error);
                throttled!(
                    &self.metrics.suppressed_log_lines,
                    warn,
                    secret = name,
                    %reason,
                    "failed to write the certificate, trying again: the injector's Role must allow \
                     patch of this one of `secrets`"
                );
                Some(RETRY)
            }
        }
    }

    /// Makes every entry trust our authorities, where one does not.
    pub(super) async fn publish(&mut self) -> Result<(), kube::Error> {
        let (Some(material), Some(configuration)) = (&self.material, &self.configuration) else {
            return Ok(());
        };
        let Some(patch) = repair(configuration, &material.authorities) else {
            return Ok(());
        };
        let name = self.settings.webhook_configuration.clone();
        let patch = Patch::<()>::Json(patch);
        let params = PatchParams::default();
        match api::written(self.configurations.patch(&name, &params, &patch)).await {
            Ok(configuration) => {
                self.metrics.ca_bundle_repairs.inc();
                tracing::info!("put the caBundle of the webhooks right");
                self.configuration = Some(configuration);
                self.note_trust();
                Ok(())
            }
            Err(error) => {
                let reason = api::reason(&error);
                throttled!(
                    &self.metrics.suppressed_log_lines,
                    warn,
                    configuration = name,
                    %reason,
                    "failed to put caBundle right, trying again: somebody else has changed the \
                     MutatingWebhookConfiguration, or the injector's ClusterRole does not allow to patch \
                     this one of `mutatingwebhookconfigurations`"
                );
                Err(error)
            }
        }
    }
}
