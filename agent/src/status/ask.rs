//! Asks a running agent for its document.

use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::causes::causes;

use super::PATH;
use super::document::Document;

/// The agent answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no document. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers.
    #[error(
        "no agent answers on `{}`: {why}. Run this in the agent's container (`kubectl -n NAMESPACE \
         exec POD -c agent -- /caios-agent status`); if that is where you are, the agent is not \
         running: `kubectl logs` of the container says why", .socket.display()
    )]
    NoAnswer {
        /// Where one was asked for.
        socket: PathBuf,
        /// What came back.
        why: String,
    },
    /// The answer is not one of this release's.
    #[error(
        "the agent on `{}` answers in another form ({why}): it is of another release. `--json` shows \
         what it says", .socket.display()
    )]
    Foreign {
        /// Where it was asked.
        socket: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Gets the document of the agent at `socket`, as JSON text.
///
/// # Errors
/// [`AskError::NoAnswer`] where there is none within 5 s.
pub async fn ask(socket: &Path) -> Result<String, AskError> {
    let asked = async {
        // The host is a matter of form; no TLS, so no authorities either.
        let client = reqwest::Client::builder()
            .unix_socket(socket)
            .tls_certs_only([])
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        let response = client.get(format!("http://localhost{PATH}")).send().await?;
        response.error_for_status()?.text().await
    };
    asked.await.map_err(|error| AskError::NoAnswer {
        socket: socket.to_owned(),
        why: causes(&error.without_url()),
    })
}

/// Reads a document that came from `socket`.
///
/// # Errors
/// [`AskError::Foreign`] where it is not of this release's form.
pub fn read(socket: &Path, text: &str) -> Result<Document, AskError> {
    serde_json::from_str(text).map_err(|error| AskError::Foreign {
        socket: socket.to_owned(),
        why: error.to_string(),
    })
}
