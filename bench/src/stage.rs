//! A node full of Pods, with the agent on a core of its own, and the other contenders beside it.

use anyhow::{Context as _, ensure};
use tests::agent::Agent;
use tests::keeper::Keeper;
use tests::namespace::Namespace;
use tests::node::Node;
use tests::pod::Pod;
use tests::program::Program;

use crate::contender::{Contender, Server};
use crate::cores;
use crate::load::{Load, request};
use crate::plan::Plan;

/// The agent's Pod, as its keeper knows it.
const INSTANCE: &str = "bench";

/// A node on which things are measured.
pub struct Stage {
    /// What runs, in the order in which it is to end.
    agent: Option<Agent>,
    servers: Vec<(Contender, Server)>,
    keeper: Program,
    pods: Vec<Pod>,
    requests: Vec<Vec<u8>>,
    node: Node,
}

impl Stage {
    /// A node with agent and keeper, and no Pod yet.
    ///
    /// # Errors
    /// When a part does not start.
    pub fn empty() -> anyhow::Result<Self> {
        let node = Node::new()?;
        let keeper = Keeper::spawn(&node, INSTANCE)?;
        let mut stage = Self {
            agent: None,
            servers: Vec::new(),
            keeper,
            pods: Vec::new(),
            requests: Vec::new(),
            node,
        };
        cores::serve_from(stage.keeper.id())?;
        let agent = stage.spawn_agent()?.ready()?;
        cores::serve_from(agent.id())?;
        stage.agent = Some(agent);
        Ok(stage)
    }

    /// Starts an agent, and waits for nothing. It starts on the client's cores.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_agent(&self) -> anyhow::Result<Agent> {
        let mut arguments = self.node.agent_arguments();
        arguments.extend(Keeper::arguments(&self.node, INSTANCE));
        self.node.spawn_agent(&arguments)
    }

    /// The agent that runs.
    ///
    /// # Errors
    /// While there is none.
    pub fn agent(&self) -> anyhow::Result<&Agent> {
        self.agent.as_ref().context("no agent runs")
    }

    /// Takes the agent away, to be ended.
    ///
    /// # Errors
    /// While there is none.
    pub fn take_agent(&mut self) -> anyhow::Result<Agent> {
        self.agent.take().context("no agent runs")
    }

    /// Goes on with another agent.
    ///
    /// # Errors
    /// When it has ended.
    pub fn put_agent(&mut self, agent: Agent) -> anyhow::Result<()> {
        cores::serve_from(agent.id())?;
        self.agent = Some(agent);
        Ok(())
    }

    /// The keeper's process id.
    pub fn keeper(&self) -> u32 {
        self.keeper.id()
    }

    /// The stand-in's node.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The Pods, in the order of their making: the first of each identity first.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Makes the Pods, and enrols none.
    ///
    /// # Errors
    /// When their namespaces cannot be made.
    pub fn fill(&mut self, plan: &Plan) -> anyhow::Result<()> {
        self.pods = (0..plan.pods)
            .map(|number| {
                let service_account = format!("sa-{}", number % plan.identities);
                self.node.pod(&service_account, &format!("pod-{number}"))
            })
            .collect::<anyhow::Result<_>>()?;
        let requests = self.pods.iter().map(|pod| {
            let token = pod.token()?;
            Ok(request(&token))
        });
        self.requests = requests.collect::<anyhow::Result<_>>()?;
        Ok(())
    }

    /// Starts the other contenders, which give everybody what the agent answers to the first Pod.
    ///
    /// # Errors
    /// When the Pods are not enrolled, or one does not start.
    pub fn add_contenders(&mut self) -> anyhow::Result<()> {
        let answer = self.pods.first().context("no Pod")?.credentials()?;
        ensure!(answer.status == 200, "no credentials: {}", answer.head);
        let mut head = String::new();
        for line in answer.head.lines() {
            if !line.starts_with("connection:") {
                head.push_str(line);
                head.push_str("\r\n");
            }
        }
        let answer = format!("{head}\r\n{}", answer.body);
        let places: Vec<&Namespace> = self.pods.iter().map(Pod::namespace).collect();
        let mut servers = Vec::new();
        for contender in Contender::ALL {
            if contender != Contender::Agent {
                let server = contender.start(&places, answer.as_bytes())?;
                cores::serve_from(server.id())?;
                servers.push((contender, server));
            }
        }
        self.servers = servers;
        Ok(())
    }

    /// Runs `load` against a contender in the first `pods` Pods, with so many connections to each.
    ///
    /// # Errors
    /// What `load` says.
    pub fn load<T>(
        &self,
        contender: Contender,
        pods: usize,
        connections: usize,
        load: impl FnOnce(Load<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let places: Vec<&Namespace> = self.pods.iter().take(pods).map(Pod::namespace).collect();
        load(Load {
            places: &places,
            address: contender.address(),
            requests: &self.requests,
            connections,
        })
        .with_context(|| format!("load of the {}", contender.name()))
    }
}
