//! A storm of connections, and what is left of it in memory.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use anyhow::{Context as _, ensure};

use super::idle::{self, megabytes};
use crate::contender::Contender;
use crate::load::request;
use crate::plan::Plan;
use crate::report::{Goal, Section};
use crate::stage::Stage;

/// Opens all connections of the plan at once, one request on each, and closes them.
///
/// # Errors
/// When a connection or its request fails.
pub fn measure(stage: &Stage, plan: &Plan) -> anyhow::Result<Section> {
    let before = idle::agent(stage)?;
    let each = plan.connections.div_ceil(stage.pods().len());
    let address = Contender::Agent.address();
    let mut open = Vec::with_capacity(plan.connections);
    for pod in stage.pods() {
        let request = request(&pod.token()?);
        let opened = pod.namespace().run(async move {
            let mut opened = Vec::with_capacity(each);
            for _ in 0..each {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&request).await?;
                let mut status = [0; 12];
                stream.read_exact(&mut status).await?;
                ensure!(&status == b"HTTP/1.1 200", "a request was refused");
                opened.push(stream);
            }
            Ok(opened)
        });
        open.push(opened.with_context(|| format!("the storm from {}", pod.identity.name))?);
    }
    let most = idle::agent(stage)?;
    let count = open.iter().map(Vec::len).sum::<usize>();
    // Each where it was made: a socket belongs to its Pod's runtime.
    for (pod, opened) in stage.pods().iter().zip(open) {
        pod.namespace().run(async move { drop(opened) });
    }
    idle::wait(plan.rest);
    let after = idle::agent(stage)?;
    Ok(Section {
        title: format!(
            "{count} connections at once, and the agent's memory {:?} after their end",
            plan.rest
        ),
        figures: vec![
            megabytes("resident before", before.resident),
            megabytes("resident with all of them open", most.resident),
            megabytes(
                "resident more than before",
                after.resident - before.resident,
            )
            .goal(Goal::AtMost(1.0)),
            megabytes(
                "of that without the pages of its program (anonymous)",
                after.anonymous - before.anonymous,
            ),
        ],
    })
}
