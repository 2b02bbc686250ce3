//! A watch that trusts no version of the past.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::mem;
use std::time::Duration;

use futures_util::stream::{BoxStream, Stream, StreamExt as _, unfold};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{DefaultBackoff, Error, Event};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

use super::within;

/// How long one watch lasts, in seconds, before the next one goes on where it ended.
const WATCH_SECONDS: u32 = 60;
const WATCH_TIME: Duration = Duration::from_secs(WATCH_SECONDS as u64);

/// How much later or earlier its end may come: for the way, and for clocks that run unlike.
const LATE: Duration = Duration::from_secs(5);
const EARLY: Duration = Duration::from_secs(1);

/// How long a page of a list, or the head of a watch, may take. A connection that lay idle may be
/// one to a host that is gone, and the kernel gives it up after a quarter of an hour.
const ANSWER_TIME: Duration = Duration::from_mins(1);

/// A watch that ended before its time without having lasted this long has failed.
const SHORT: Duration = Duration::from_secs(10);

/// So many watches in a row may bring nothing at all. kube-apiserver ends each with a bookmark, if
/// only something of the kind was written anywhere.
const QUIET_WATCHES: u32 = 10;

/// Objects of one page, where no version is asked for: kube leaves `0`, which has the API server list
/// from its memory, out of a list that has a limit.
const PAGE: u32 = 500;

/// Shows all objects that `list` selects and what becomes of them, for ever. After each failure all
/// are listed anew, as an [`Event::Init`] says.
///
/// To go on from the version that was seen last, as kube's own watch does, would be cheaper, and
/// deaf once a store was restored from a snapshot: versions are then counted again from the
/// snapshot's, and kube-apiserver sends nothing to a watch whose version is still to come. So a
/// watch is gone on with only where it ended with its time, a minute:
///
/// - One that outlives that by 5 s is a failure: its host has vanished and closed no connection.
/// - One that ends before, without a failure, is begun anew from a list: its host was killed, or
///   something on the way cuts quiet connections. Within 10 s of its begin that is a failure too.
/// - After ten that brought nothing, not even a bookmark, all is listed to be sure: each may have
///   begun at a server that was restored while no watch was open.
///
/// The pause after a failure is 0.8 s and doubles, up to 30 s, with each that comes within two
/// minutes of the last; jitter makes it up to twice as long. What is listed in between does not
/// shorten it: where only the watch fails, listing is what costs.
///
/// # Cancel safety
/// Safe: what is dropped between two events is gone on with at the next.
pub fn watched<K>(
    api: Api<K>,
    list: ListParams,
) -> impl Stream<Item = Result<Event<K>, Error>> + Send
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    unfold(Watched::new(api, list), |mut watched| async move {
        let event = watched.next().await;
        Some((event, watched))
    })
}

struct Watched<K> {
    api: Api<K>,
    list: ListParams,
    watch: WatchParams,
    at: At<K>,
    /// What was listed and is still to be shown.
    listed: VecDeque<Event<K>>,
    /// Watches in a row that brought nothing.
    quiet: u32,
    backoff: DefaultBackoff,
    pause: Option<Duration>,
}

/// How far it has come.
enum At<K> {
    Start,
    /// Behind some pages of the list.
    Page(String),
    /// All up to this version is known.
    Version(String),
    Watching(Watching<K>),
}

struct Watching<K> {
    version: String,
    since: Instant,
    brought: bool,
    events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
}

impl<K> Watched<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    fn new(api: Api<K>, list: ListParams) -> Self {
        let list = match list.resource_version {
            Some(_) => list,
            None => list.limit(PAGE),
        };
        let mut watch = WatchParams::default().timeout(WATCH_SECONDS);
        watch.label_selector.clone_from(&list.label_selector);
        watch.field_selector.clone_from(&list.field_selector);
        Self {
            api,
            list,
            watch,
            at: At::Start,
            listed: VecDeque::new(),
            quiet: 0,
            backoff: DefaultBackoff::default(),
            pause: None,
        }
    }

    async fn next(&mut self) -> Result<Event<K>, Error> {
        loop {
            if let Some(pause) = self.pause.take() {
                sleep(pause).await;
            }
            if let Some(event) = self.listed.pop_front() {
                return Ok(event);
            }
            match self.step().await {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => {
                    self.pause = self.backoff.next();
                    return Err(error);
                }
            }
        }
    }

    /// Goes on from where it is; an error leaves it at the start.
    async fn step(&mut self) -> Result<Option<Event<K>>, Error> {
        match mem::replace(&mut self.at, At::Start) {
            At::Start => {
                self.list.continue_token = None;
                self.page(true).await?;
            }
            At::Page(token) => {
                self.list.continue_token = Some(token);
                self.page(false).await?;
            }
            At::Version(version) => {
                let since = Instant::now();
                let watch = within(ANSWER_TIME, self.api.watch(&self.watch, &version));
                let events = watch.await.map_err(Error::WatchStartFailed)?.boxed();
                self.at = At::Watching(Watching {
                    version,
                    since,
                    brought: false,
                    events,
                });
            }
            At::Watching(watching) => return self.follow(watching).await,
        }
        Ok(None)
    }

    async fn page(&mut self, is_first: bool) -> Result<(), Error> {
        let list = within(ANSWER_TIME, self.api.list(&self.list)).await;
        let list = list.map_err(Error::InitialListFailed)?;
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let at = match said(list.metadata.continue_) {
            Some(token) => At::Page(token),
            None => {
                At::Version(said(list.metadata.resource_version).ok_or(Error::NoResourceVersion)?)
            }
        };
        if is_first {
            self.listed.push_back(Event::Init);
        }
        let objects = list.items.into_iter();
        self.listed.extend(objects.map(Event::InitApply));
        if matches!(at, At::Version(_)) {
            self.listed.push_back(Event::InitDone);
            self.quiet = 0;
        }
        self.at = at;
        Ok(())
    }

    async fn follow(&mut self, mut watching: Watching<K>) -> Result<Option<Event<K>>, Error> {
        let end = watching.since + WATCH_TIME + LATE;
        let Ok(next) = timeout_at(end, watching.events.next()).await else {
            return Err(failed("the API server did not end the watch with its time"));
        };
        let Some(next) = next else {
            return self.ended(watching).map(|()| None);
        };
        let (version, event) = match next.map_err(Error::WatchFailed)? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                (object.resource_version(), Some(Event::Apply(object)))
            }
            WatchEvent::Deleted(object) => (object.resource_version(), Some(Event::Delete(object))),
            WatchEvent::Bookmark(bookmark) => (Some(bookmark.metadata.resource_version), None),
            WatchEvent::Error(status) => return Err(Error::WatchError(status.boxed())),
        };
        let version = version.filter(|version| !version.is_empty());
        watching.version = version.ok_or(Error::NoResourceVersion)?;
        watching.brought = true;
        self.at = At::Watching(watching);
        Ok(event)
    }

    /// Decides whether to go on from where a watch has ended.
    fn ended(&mut self, watching: Watching<K>) -> Result<(), Error> {
        let lasted = watching.since.elapsed();
        self.quiet = if watching.brought { 0 } else { self.quiet + 1 };
        if lasted < SHORT {
            return Err(failed("the watch ended as soon as it had begun"));
        }
        if lasted + EARLY >= WATCH_TIME && self.quiet < QUIET_WATCHES {
            self.at = At::Version(watching.version);
        }
        Ok(())
    }
}

fn failed(why: &str) -> Error {
    Error::WatchFailed(kube::Error::Service(why.into()))
}
