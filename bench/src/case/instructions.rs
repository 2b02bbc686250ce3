//! Instructions of one cached request in user space, as callgrind counts them: the same on any machine
//! that runs the same binary, however busy it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::node::AUDIENCE;
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use standin::{Options, Standin, TokenSpec};

use crate::hotpath::World;
use crate::report::{Figure, Goal, Section};

/// Requests of the two runs whose difference is taken.
const COUNTS: (u32, u32) = (100, 1_100);

/// How far the count may be from the committed one.
const TOLERANCE: f64 = 0.05;

/// Instructions of one request.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Instructions {
    /// By the agent's code.
    pub agent: f64,
    /// By hyper alone.
    pub bare: f64,
}

impl Instructions {
    /// What is shown.
    pub fn section(self) -> Section {
        let Self { agent, bare } = self;
        let figure = |name: &str, value| Figure::new(name, "instructions", vec![value]);
        Section {
            title: "Instructions of one cached request in user space, by callgrind".to_owned(),
            figures: vec![
                Figure::new("agent ÷ bare hyper", "×", vec![agent / bare]).goal(Goal::AtMost(1.25)),
                figure("agent", agent),
                figure("bare hyper", bare),
            ],
        }
    }

    /// Compares with the counts that were committed in the file `committed`.
    ///
    /// # Errors
    /// When the agent's differs by more than 5 %, or the file cannot be read.
    pub fn compare(self, committed: &Path) -> anyhow::Result<()> {
        let shown = committed.display();
        let text = std::fs::read_to_string(committed).with_context(|| format!("{shown}"))?;
        let before: Self = serde_json::from_str(&text).with_context(|| format!("{shown}"))?;
        let off = self.agent / before.agent - 1.0;
        ensure!(
            off.abs() <= TOLERANCE,
            "a cached request takes {:.0} instructions (bare hyper: {:.0}), {:+.1} % against the {:.0} \
             of {shown}: make it shorter, or commit the new counts and say why",
            self.agent,
            self.bare,
            off * 100.0,
            before.agent
        );
        Ok(())
    }
}

/// Runs the hot path under callgrind.
///
/// # Errors
/// When callgrind is missing, or a run fails.
pub fn count() -> anyhow::Result<Instructions> {
    let place = tempfile::Builder::new().prefix("caios-bench-").tempdir()?;
    let world = world(place.path())?;
    Ok(Instructions {
        agent: of("agent", &world)?,
        bare: of("bare", &world)?,
    })
}

/// Writes the world of a run.
fn world(place: &Path) -> anyhow::Result<PathBuf> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let spec = TokenSpec::new("research", "trainer")
        .pod("pod-0", "00000000-0000-4000-8000-000000000001")
        .node("node-a")
        .audience(AUDIENCE);
    let world = runtime.block_on(async {
        let standin = Standin::start(Options {
            audiences: vec![AUDIENCE.to_owned()],
            ..Options::local(place.join("s3"))
        });
        let standin = standin.await?;
        let world = World {
            issuer: standin.issuer_url().to_owned(),
            audience: AUDIENCE.to_owned(),
            pod_uid: spec.pod_uid.clone(),
            token: standin.token(&spec)?,
            keys: standin.keys(),
        };
        standin.shutdown().await;
        anyhow::Ok(world)
    })?;
    let path = place.join("world.json");
    std::fs::write(&path, serde_json::to_vec(&world)?)?;
    Ok(path)
}

fn of(server: &str, world: &Path) -> anyhow::Result<f64> {
    let (few, many) = COUNTS;
    let fewer = collected(server, few, world)?;
    let more = collected(server, many, world)?;
    Ok((more - fewer) / f64::from(many - few))
}

/// All instructions of one run.
fn collected(server: &str, count: u32, world: &Path) -> anyhow::Result<f64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe()?);
    command.args(["hotpath", server, &count.to_string()]);
    let output = command.arg(world).output();
    let output = output.context("failed to start valgrind: apt-get install valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the hot path failed under callgrind: {said}"
    );
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, collected) = collected.with_context(|| format!("callgrind counted nothing: {said}"))?;
    Ok(collected.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_is_more_than_a_twentieth_off_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("instructions.json");
        std::fs::write(&file, r#"{ "agent": 10000, "bare": 9000 }"#).unwrap();
        let count = |agent| Instructions {
            agent,
            bare: 9000.0,
        };
        assert!(count(10_499.0).compare(&file).is_ok());
        let error = count(10_501.0).compare(&file).unwrap_err().to_string();
        assert!(error.contains("10501 instructions"), "{error}");
        assert!(count(9_400.0).compare(&file).is_err());
    }
}
