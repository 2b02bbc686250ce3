//! The end that an operator or the kubelet asks for.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Gives a token that the first SIGTERM or SIGINT cancels. A SIGINT after that ends the process at
/// once, with status 130: a person does not want to wait. Another SIGTERM changes nothing: a container
/// runtime that is asked twice to stop a container sends it twice, and has SIGKILL for what takes too
/// long.
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
        tracing::info!("shutting down; SIGINT ends the process at once");
        asked.cancel();
        signals.interrupt.recv().await;
        #[expect(
            clippy::exit,
            reason = "the operator does not want to wait for the drain"
        )]
        std::process::exit(128 + SignalKind::interrupt().as_raw_value());
    });
    Ok(shutdown)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Waits for a signal.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
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
