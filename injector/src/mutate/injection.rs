//! What one container gets: variables and mounts, as far as it does not have them.

use serde_json::{Value, json};
use shared::contract::{
    AGENT_VOLUME, CREDENTIALS_PATH, CREDENTIALS_URI_VARIABLE, TOKEN_DIRECTORY, TOKEN_FILE,
    TOKEN_FILE_VARIABLE, TOKEN_VOLUME,
};

use super::container::{Container, Setting};
use super::patch::Patch;
use super::proxy::Exceptions;
use super::settings::{Delivery, Settings};
use super::warnings::{Note, Warnings};
use super::wishes::Wishes;

/// Part of every URL that leads to CoreWeave's exchange instead of to the agent.
const EXCHANGE_PATH: &str = "/v1/cwobject/temporary-credentials/oidc";
const RELATIVE_URI_VARIABLE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
const ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_S3";
const ENDPOINT_VARIABLES: [&str; 2] = [ENDPOINT_VARIABLE, "AWS_ENDPOINT_URL"];

/// What each container of a Pod gets.
#[derive(Debug)]
pub(super) struct Injection<'a> {
    /// Where SDKs find the agent, and its port; nowhere for clients that dial the socket.
    endpoint: Option<(String, u16)>,
    /// Volumes and the directories where they are mounted.
    mounts: Vec<(&'static str, &'a str)>,
    region: Option<&'a str>,
    s3_endpoint: Option<&'a str>,
}

impl<'a> Injection<'a> {
    pub(super) fn new(wishes: &Wishes<'_>, settings: &'a Settings) -> Self {
        let mut mounts = vec![(TOKEN_VOLUME, TOKEN_DIRECTORY)];
        let endpoint = match wishes.delivery {
            Delivery::Handoff | Delivery::Relay => {
                let port = wishes.port;
                Some((format!("http://127.0.0.1:{port}{CREDENTIALS_PATH}"), port))
            }
            Delivery::Direct => {
                mounts.push((AGENT_VOLUME, &settings.public_directory));
                None
            }
        };
        Self {
            endpoint,
            mounts,
            region: settings.region.as_deref(),
            s3_endpoint: settings.s3_endpoint.as_deref(),
        }
    }

    /// Why a container must be left as it is; `None` if it can be injected or is already.
    pub(super) fn conflict(&self, container: &Container<'_>) -> Option<Note> {
        let uri = self.endpoint.as_ref().map(|(uri, _)| uri.as_str());
        match container.variable(CREDENTIALS_URI_VARIABLE) {
            Some(Setting::Text(_, text)) if Some(text) == uri => {}
            Some(Setting::Text(_, text)) if text.contains(EXCHANGE_PATH) => {
                return Some(Note::DirectExchange);
            }
            Some(_) => return Some(Note::OtherProvider),
            None => {}
        }
        if container.variable(RELATIVE_URI_VARIABLE).is_some() {
            return Some(Note::OtherProvider);
        }
        match container.variable(TOKEN_FILE_VARIABLE) {
            Some(Setting::Text(_, TOKEN_FILE)) | None => {}
            Some(_) => return Some(Note::OtherTokenFile),
        }
        let occupied = self.mounts.iter().any(|(volume, directory)| {
            container.occupies(directory) && !container.mounts_at(volume, directory)
        });
        occupied.then_some(Note::OccupiedPath)
    }

    /// Warns of what will keep an injected container from using the agent.
    pub(super) fn warn<'c>(&self, container: &Container<'c>, warnings: &mut Warnings<'c>) {
        for (note, names) in [
            (
                Note::StaticKeys,
                &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"][..],
            ),
            (Note::Profile, &["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]),
            (Note::WebIdentity, &["AWS_WEB_IDENTITY_TOKEN_FILE"]),
            (
                Note::AuthorizationToken,
                &["AWS_CONTAINER_AUTHORIZATION_TOKEN"],
            ),
        ] {
            if container.sets(names) {
                warnings.note(note, container.name);
            }
        }
        if let Some((_, port)) = &self.endpoint {
            if container.declares_port(*port) {
                warnings.note(Note::TakenPort, container.name);
            }
            if Exceptions::for_container(container).elsewhere {
                warnings.note(Note::ProxyExceptionsElsewhere, container.name);
            }
        }
    }

    /// Adds what the container does not have.
    pub(super) fn add(&self, container: &Container<'_>, patch: &mut Patch) {
        let place = &container.path;
        let mut variables = Vec::new();
        let mut set = |name: &str, value: &str| {
            variables.push(json!({"name": name, "value": value}));
        };
        let unset = |names: &[&str]| names.iter().all(|name| container.variable(name).is_none());

        if let Some((uri, _)) = &self.endpoint
            && unset(&[CREDENTIALS_URI_VARIABLE])
        {
            set(CREDENTIALS_URI_VARIABLE, uri);
        }
        if unset(&[TOKEN_FILE_VARIABLE]) {
            set(TOKEN_FILE_VARIABLE, TOKEN_FILE);
        }
        if let Some(region) = self.region
            && unset(&REGION_VARIABLES)
        {
            for name in REGION_VARIABLES {
                set(name, region);
            }
        }
        if let Some(endpoint) = self.s3_endpoint
            && unset(&ENDPOINT_VARIABLES)
        {
            set(ENDPOINT_VARIABLE, endpoint);
        }
        if self.endpoint.is_some() {
            let exceptions = Exceptions::for_container(container);
            for (index, value) in exceptions.changed {
                patch.add(&format!("{place}/env/{index}/value"), Value::String(value));
            }
            for (name, value) in exceptions.added {
                set(name, &value);
            }
        }
        patch.append(&format!("{place}/env"), container.env, variables);

        let mounts = self
            .mounts
            .iter()
            .filter(|(volume, directory)| !container.mounts_at(volume, directory))
            .map(|(volume, directory)| mount(volume, directory))
            .collect();
        patch.append(&format!("{place}/volumeMounts"), container.mounts, mounts);
    }
}

/// A read-only mount of a volume.
pub(super) fn mount(volume: &str, directory: &str) -> Value {
    json!({"name": volume, "mountPath": directory, "readOnly": true})
}
