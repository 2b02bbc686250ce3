//! The first process of the virtual machine that the kernel tests boot: plays the scenarios on its
//! kernel, tells how each ended, and ends the machine.

mod clock;
mod machine;
mod scenario;

use std::fs::File;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;

use anyhow::{Context as _, ensure};
use nix::sys::termios::tcdrain;
use tests::daemon::Daemon;
use tests::guest::{REPORTS, Report};
use tests::node::Node;
use tokio::time::Instant;

fn main() -> anyhow::Result<()> {
    ensure!(
        std::process::id() == 1,
        "this is the first process of a virtual machine: `cargo test -p tests --test kernels` boots it"
    );
    if let Err(error) = play() {
        announce(&format!("the machine gives up: {error:#}"));
    }
    machine::end()
}

fn play() -> anyhow::Result<()> {
    machine::prepare()?;
    let mut port = File::options()
        .write(true)
        .open(REPORTS)
        .with_context(|| format!("failed to open {REPORTS}"))?;
    tell(&mut port, &Report::Booted(machine::kernel()?))?;
    let started = Instant::now();
    let node = Node::new()?;
    let daemon = Daemon::new(&node)?;
    daemon.prepare()?;
    daemon.mount_for_pods()?;
    announce(&format!(
        "the node is there after {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    for (name, play) in scenario::ALL {
        announce(name);
        let started = Instant::now();
        // A panic is an assertion of the harness; its message is on the console already.
        let played = std::panic::catch_unwind(AssertUnwindSafe(|| play(daemon)));
        let problem = match played {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_panic) => Some("it panicked: see the console".to_owned()),
        };
        if problem.is_some() {
            let log = std::fs::read_to_string(node.agent_log()).unwrap_or_default();
            announce(&format!("{name} failed; all agents so far:\n{log}"));
        }
        let ended = Report::Ended {
            scenario: (*name).to_owned(),
            seconds: started.elapsed().as_secs_f64(),
            problem,
        };
        tell(&mut port, &ended)?;
    }
    tell(&mut port, &Report::Finished)
}

fn tell(port: &mut File, report: &Report) -> anyhow::Result<()> {
    let line = serde_json::to_string(report)? + "\n";
    port.write_all(line.as_bytes())
        .context("failed to report")?;
    // The machine may end before a line that is only written has left it.
    tcdrain(&*port).context("failed to report")
}

#[expect(clippy::print_stderr, reason = "the console is where a person looks")]
fn announce(what: &str) {
    eprintln!("\n==> {what}");
}
