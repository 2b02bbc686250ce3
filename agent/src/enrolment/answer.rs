//! What a Pod is told.

use shared::enrolment::{MAX_REPLY_BYTES, RequestError, Status, VERSION};

use crate::metrics::EnrolmentOutcome;
use crate::workload::PodUid;

/// What to tell the Pod, and what to count.
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) text: String,
    pub(super) outcome: EnrolmentOutcome,
    /// Who asked, as soon as its token is verified.
    pub(super) pod: Option<PodUid>,
}

impl Answer {
    /// Another try would not help.
    pub(super) fn rejected(why: impl Into<String>) -> Self {
        Self {
            status: Status::Rejected,
            text: why.into(),
            outcome: EnrolmentOutcome::Rejected,
            pod: None,
        }
    }

    /// Another try may help.
    pub(super) fn busy(why: impl Into<String>) -> Self {
        Self {
            status: Status::Busy,
            text: why.into(),
            outcome: EnrolmentOutcome::Busy,
            pod: None,
        }
    }

    /// Answers what is no request.
    pub(super) fn to(problem: RequestError) -> Self {
        Self::rejected(match problem {
            RequestError::NotARequest => "this is no enrolment request".to_owned(),
            RequestError::Version(version) => format!(
                "enrolment protocol {version} is not spoken here, only {VERSION}: use the \
                 `caios-enroll` of this agent's release"
            ),
            RequestError::NoPort => "port 0 cannot be listened on".to_owned(),
            RequestError::NoToken => "there is no service account token".to_owned(),
            RequestError::TooLong => "the service account token is too long".to_owned(),
        })
    }

    /// Renders the reply, its message cut to fit.
    pub(super) fn packet(&self) -> Vec<u8> {
        let end = self.text.floor_char_boundary(MAX_REPLY_BYTES - 1);
        let mut packet = vec![self.status as u8];
        packet.extend_from_slice(self.text.get(..end).unwrap_or_default().as_bytes());
        packet
    }
}
