//! What the API server answers.

use anyhow::{Context as _, bail};
use serde_json::Value;

/// An answer of the API server.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The object, or the `Status` that says why there is none; the text where it is no JSON.
    pub body: Value,
    /// What its `Warning` headers say; `kubectl` prints them.
    pub warnings: Vec<String>,
}

impl Answer {
    /// Reads the status code, the `Warning` headers and the body.
    pub(super) async fn read(
        response: hyper::Response<kube::client::Body>,
    ) -> anyhow::Result<Self> {
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings
            .filter_map(|header| text(header.to_str().ok()?))
            .collect();
        let body = response.into_body().collect_bytes().await;
        let body = body.context("failed to read the API server's answer")?;
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        Ok(Self {
            code,
            body,
            warnings,
        })
    }

    /// Passes on an answer that says yes.
    ///
    /// # Errors
    /// When it says no; the error has the message.
    pub fn accepted(self) -> anyhow::Result<Self> {
        if self.code >= 300 {
            bail!("the API server answered {}: {}", self.code, self.message());
        }
        Ok(self)
    }

    /// Why it says no; empty when it says yes.
    pub fn message(&self) -> &str {
        self.string("/message")
    }

    /// A text of the body, by JSON pointer; empty when there is none.
    pub fn string(&self, pointer: &str) -> &str {
        let found = self.body.pointer(pointer);
        found.and_then(Value::as_str).unwrap_or_default()
    }
}

/// The text of a `Warning` header, `299 - "text"` (RFC 7234, §5.5).
fn text(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1.strip_suffix('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            _ => text.push(character),
        }
    }
    Some(text)
}
