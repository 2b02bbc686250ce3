//! A program that serves while a test runs, as a child process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::Namespace;
use crate::wait;

/// Lines of a log that an error shows.
const SHOWN_LINES: usize = 40;

/// A running child process. Killed when dropped, and by the kernel when the test's process ends.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command` inside `network`, with its output behind what `log` has already, and
    /// waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(network: &Namespace, command: &Command, log: &Path) -> anyhow::Result<Self> {
        let name = Path::new(command.get_program()).file_name();
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        let output = File::options().create(true).append(true).open(log)?;
        let mut guarded = guarded(command);
        guarded.stdin(Stdio::null());
        guarded.stdout(output.try_clone()?).stderr(output);
        // On a worker of the runtime and not on a thread of its pool: the kernel sends the signal
        // when the thread that made the process ends, and those of the pool end when idle.
        let child = network
            .run(async move { guarded.spawn() })
            .with_context(|| format!("failed to start {name} (by setpriv of util-linux)"))?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
        })
    }

    /// Waits until `condition` holds of it.
    ///
    /// # Errors
    /// When it ends or the deadline passes; the error shows the end of its log.
    pub fn until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let mut ended = None;
        let waited = wait::until(&format!("{} {what}", self.name), deadline, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || condition()
        });
        let failed = match (waited, ended) {
            (Err(error), _) => error,
            (Ok(()), Some(status)) => anyhow::anyhow!("{} ended with {status}", self.name),
            (Ok(()), None) => return Ok(()),
        };
        Err(failed.context(format!(
            "the end of {}:\n{}",
            self.log.display(),
            self.last_lines()
        )))
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn last_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let first = lines.len().saturating_sub(SHOWN_LINES);
        lines.get(first..).unwrap_or_default().join("\n")
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.ask_to_end()?;
        self.ended()
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Asks it to end, and does not wait.
    ///
    /// # Errors
    /// When it has ended.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(id, Signal::SIGTERM)?;
        Ok(())
    }

    /// Kills it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let mut status = None;
        let what = format!("{} ends", self.name);
        wait::until(&what, Duration::from_secs(30), || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        })?;
        status.context("it ended")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command, killed by the kernel when the thread that starts it ends.
fn guarded(command: &Command) -> Command {
    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", "KILL", "--"]);
    guarded.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => guarded.env(name, value),
            None => guarded.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        guarded.current_dir(directory);
    }
    guarded
}
