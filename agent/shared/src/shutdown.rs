//! The end that an operator or the kubelet asks for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Gives a token that the first SIGTERM or SIGINT cancels. A second signal ends the process at
/// once, with status 143 or 130.
///
/// The signals are taken over before this returns. The task that waits for them lives as long as
/// the runtime.
///
/// # Errors
/// When a signal cannot be taken over.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    let shutdown = CancellationToken::new();
    let asked = shutdown.clone();
    tokio::spawn(async move {
        signals.next().await;
        tracing::info!("shutting down; a second signal ends the process at once");
        asked.cancel();
        let status = signals.next().await;
        #[expect(
            clippy::exit,
            reason = "the operator does not want to wait for the drain"
        )]
        std::process::exit(status);
    });
    Ok(shutdown)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Waits for a signal and gives the exit status that shells know it by.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 128 + SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => 128 + SignalKind::interrupt().as_raw_value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal as Raised, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_cancels_the_token() {
        let shutdown = on_signals().unwrap();
        assert!(!shutdown.is_cancelled());
        kill_process(getpid(), Raised::TERM).unwrap();
        tokio::time::timeout(Duration::from_secs(10), shutdown.cancelled())
            .await
            .unwrap();
    }
}
