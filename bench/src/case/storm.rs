//! A storm: all processes of all Pods start at once, before an API that takes its time and so many
//! calls a second.

use std::sync::Arc;
use std::time::Duration;

use agent::exchange::coreweave::CoreWeave;
use agent::exchange::settings::Settings;
use agent::metrics::Metrics;
use agent::workload::{Identity, Token};
use anyhow::Context as _;
use secrecy::SecretString;
use shared::clock::Clock;
use shared::contract::CREDENTIALS_PATH;
use standin::{Behaviour, Scope, TokenSpec};
use tests::http;
use tests::node::AUDIENCE;
use tests::pod::Pod;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::plan::Plan;
use crate::report::{Figure, Goal, Section};
use crate::stage::Stage;
use crate::usual::{Usual, UsualPod};

/// What one exchange takes.
const DELAY: Duration = Duration::from_millis(120);
/// Exchanges that the API takes in a second.
const LIMIT: u32 = 20;

/// When each process had its key, in this order, and how many got none.
struct Course {
    had: Vec<Duration>,
    failed: usize,
    exchanges: usize,
}

impl Course {
    /// Of what became of each process, and the calls that the stand-in has counted meanwhile.
    fn new(stage: &Stage, processes: &[Option<Duration>]) -> Self {
        let mut had: Vec<Duration> = processes.iter().copied().flatten().collect();
        had.sort_unstable();
        Self {
            failed: processes.len() - had.len(),
            had,
            exchanges: stage.node().standin().calls().exchanges(),
        }
    }

    fn exchanges(&self, name: String) -> anyhow::Result<Figure> {
        let exchanges = f64::from(u32::try_from(self.exchanges)?);
        Ok(Figure::new(name, "", vec![exchanges]))
    }

    fn failed(&self, name: String) -> anyhow::Result<Figure> {
        let failed = f64::from(u32::try_from(self.failed)?);
        Ok(Figure::new(name, "", vec![failed]))
    }

    fn last(&self, name: String) -> Figure {
        let last = self.had.last().map(Duration::as_secs_f64);
        Figure::new(name, "s", last.into_iter().collect())
    }

    /// A hundred of the processes: a plot shows no more.
    fn line(&self, name: &str) -> anyhow::Result<svg::Line> {
        let step = (self.had.len() / 100).max(1);
        let mut points = vec![(0.0, 0.0)];
        for (number, time) in self.had.iter().enumerate() {
            if (number + 1) % step == 0 {
                points.push((time.as_secs_f64(), f64::from(u32::try_from(number + 1)?)));
            }
        }
        Ok(svg::Line {
            name: name.to_owned(),
            points,
        })
    }
}

/// Lets a storm go over the node once with one identity and once with those of the plan, and then over
/// each model. The lines plot the processes that have a key over the time.
///
/// # Errors
/// When a token cannot be minted, or the API cannot be set up.
pub fn measure(stage: &Stage, plan: &Plan) -> anyhow::Result<(Section, Vec<svg::Line>)> {
    let standin = stage.node().standin();
    let (mut figures, mut lines) = (Vec::new(), Vec::new());
    standin.behave(Scope::default(), Behaviour::Delay(DELAY));
    let limit = Behaviour::RateLimit { per_second: LIMIT };
    standin.behave(Scope::default(), limit);
    for identities in [1, plan.identities] {
        let tokens = tokens(stage, &format!("storm-of-{identities}"), identities);
        let course = through_agent(stage, plan, &tokens)?;
        let least = bound(identities);
        let name = |what: &str| format!("agent, {identities} identities: {what}");
        let wanted = f64::from(u32::try_from(identities)?);
        figures.extend([
            course
                .exchanges(name("exchanges"))?
                .goal(Goal::AtMost(wanted)),
            course
                .failed(name("processes without a key"))?
                .goal(Goal::AtMost(0.0)),
            course
                .last(name("until the last has its key"))
                .goal(Goal::AtMost(least.as_secs_f64() * 1.2)),
        ]);
        if identities == plan.identities {
            lines.push(course.line("agent")?);
        }
    }
    for way in Usual::ALL {
        let prefix = format!("usual-{way:?}").to_lowercase();
        let tokens = tokens(stage, &prefix, plan.identities);
        let course = through_model(stage, plan, way, &tokens)?;
        let name = |what: &str| format!("{}: {what}", way.name());
        figures.extend([
            course.exchanges(name("exchanges"))?,
            course.failed(name("processes without a key"))?,
            course.last(name("until the last that gets one has its key")),
        ]);
        lines.push(course.line(way.name())?);
    }
    standin.behave_normally();
    let title = format!(
        "{} Pods with {} processes each start at once; the API takes {DELAY:?} and {LIMIT} exchanges a second",
        plan.pods, plan.processes
    );
    Ok((Section { title, figures }, lines))
}

/// How long it takes to have so many keys from the API, at least.
fn bound(identities: usize) -> Duration {
    let full = u32::try_from(identities.saturating_sub(1)).unwrap_or(u32::MAX) / LIMIT;
    Duration::from_secs(1) * full + DELAY
}

/// A token for each Pod, of `identities` ServiceAccounts that nobody knows yet.
fn tokens(stage: &Stage, prefix: &str, identities: usize) -> Vec<TokenSpec> {
    let node = stage.node();
    let specs = stage.pods().iter().enumerate().map(|(number, pod)| {
        let service_account = format!("{prefix}-{}", number % identities);
        let spec = TokenSpec {
            service_account: service_account.clone(),
            ..node.token(pod)
        };
        let mut identity = pod.identity.clone();
        identity.service_account = service_account;
        let actions = ["cwobject:CreateAccessKeyOIDC"];
        node.standin().grant(&node.principal(&identity), &actions);
        spec
    });
    specs.collect()
}

fn through_agent(stage: &Stage, plan: &Plan, tokens: &[TokenSpec]) -> anyhow::Result<Course> {
    let node = stage.node();
    node.standin().reset_calls();
    let (start, started) = watch::channel(None);
    let mut processes = Vec::new();
    for (pod, spec) in stage.pods().iter().zip(tokens) {
        let token: Arc<str> = node.mint(spec).into();
        for _ in 0..plan.processes {
            let (mut started, token) = (started.clone(), Arc::clone(&token));
            processes.push(pod.namespace().handle().spawn(async move {
                let begun: Instant = begin(&mut started).await?;
                let asked = http::get(Pod::listener(), CREDENTIALS_PATH, Some(&token));
                let answer = asked.await?;
                anyhow::Ok((answer.status == 200).then(|| begun.elapsed()))
            }));
        }
    }
    start.send_replace(Some(Instant::now()));
    let ended = node.namespace().run(async move {
        let mut ended = Vec::with_capacity(processes.len());
        for process in processes {
            ended.push(process.await);
        }
        ended
    });
    let ended = ended.into_iter().map(|process| Ok(process?.ok().flatten()));
    let ended = ended.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Course::new(stage, &ended))
}

/// Waits until all may begin.
async fn begin(started: &mut watch::Receiver<Option<Instant>>) -> anyhow::Result<Instant> {
    let begun = *started.wait_for(Option::is_some).await?;
    begun.context("nothing has begun")
}

fn through_model(
    stage: &Stage,
    plan: &Plan,
    way: Usual,
    tokens: &[TokenSpec],
) -> anyhow::Result<Course> {
    let node = stage.node();
    node.standin().reset_calls();
    let settings = Settings {
        api: node.standin().api_url().parse()?,
        ca_file: Some(node.directory().join("ca.pem")),
        ..Settings::new(node.standin().org_id())
    };
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let exchange = Arc::new(CoreWeave::new(settings, Clock::system(), metrics)?);
    let pods: Vec<UsualPod> = tokens
        .iter()
        .map(|spec| {
            let issuer = node.standin().issuer_url();
            let identity = Identity::new(issuer, &spec.subject(), AUDIENCE);
            let token = Token::new(SecretString::from(node.mint(spec)));
            UsualPod::new(way, Arc::clone(&exchange), identity, token)
        })
        .collect();
    let each = plan.processes;
    let ended = node.namespace().run(async move {
        let begun = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for pod in pods {
            for _ in 0..each {
                let pod = pod.clone();
                running.spawn(async move { pod.process().await.then(|| begun.elapsed()) });
            }
        }
        running.join_all().await
    });
    Ok(Course::new(stage, &ended))
}
