//! What callers of the cache see, and how often the issuer is asked, under paused time.

mod handover;
mod outage;
mod refusal;
mod renewal;
mod storm;

use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
