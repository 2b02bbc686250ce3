//! Reads bodies within bounds of size, time and memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The API server is near and has the whole body at hand: who takes longer only holds memory.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The largest body fits into the memory of all bodies this often.
const LARGEST_AT_ONCE: usize = 4;

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is too large.
    TooLarge,
    /// It would take too much memory to parse.
    TooHeavy,
    /// Too many reviews, or bytes of them, at once.
    Busy,
    /// It did not come in time.
    Late,
    /// The connection failed.
    Broken,
}

impl Unread {
    /// As a client and the log read it.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::TooLarge => "the review is larger than `--max-review-bytes`",
            Self::TooHeavy => "the review has too many values: it would take over 16 MiB to parse",
            Self::Busy => "too many reviews at once",
            Self::Late => "the review did not arrive in time",
            Self::Broken => "the review broke off",
        }
    }
}

/// A whole body, and its share of the memory.
pub(super) struct Taken {
    pub(super) bytes: Bytes,
    _memory: Option<OwnedSemaphorePermit>,
}

/// The memory of all bodies. A cheap clone.
#[derive(Clone)]
pub(super) struct Bodies {
    memory: Arc<Semaphore>,
    most: usize,
}

impl Bodies {
    /// Reads bodies of up to `most` bytes each.
    pub(super) fn new(most: usize) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(most.saturating_mul(LARGEST_AT_ONCE))),
            most,
        }
    }

    /// Reads a body to its end.
    pub(super) async fn read<B>(&self, body: B, deadline: Instant) -> Result<Taken, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let said = body.size_hint().lower();
        if said > self.most as u64 {
            return Err(Unread::TooLarge);
        }
        let soon = deadline.min(Instant::now() + TIMEOUT);
        timeout_at(soon, self.collect(body))
            .await
            .unwrap_or(Err(Unread::Late))
    }

    async fn collect<B>(&self, mut body: B) -> Result<Taken, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut bytes = BytesMut::new();
        let mut memory: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_error| Unread::Broken)?.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > self.most {
                return Err(Unread::TooLarge);
            }
            // Memory is taken as bytes come, not as a head announces them.
            let share = u32::try_from(data.len()).map_err(|_too_many| Unread::TooLarge)?;
            let more = Arc::clone(&self.memory).try_acquire_many_owned(share);
            let more = more.map_err(|_none_left| Unread::Busy)?;
            match &mut memory {
                Some(memory) => memory.merge(more),
                None => memory = Some(more),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Taken {
            bytes: bytes.freeze(),
            _memory: memory,
        })
    }
}
