//! The fixed sets that label values come from.

use shared::label;

label! {
    /// What became of a credential request.
    pub Outcome = "outcome" {
        /// Answered from memory.
        Hit => "hit",
        /// Answered by the exchange that this request started.
        Miss => "miss",
        /// Answered by an exchange that another request had started.
        Coalesced => "coalesced",
        /// 401.
        Unauthenticated => "unauthenticated",
        /// 403.
        Forbidden => "forbidden",
        /// 503.
        Unavailable => "unavailable",
        /// 400, 404 and 405.
        Malformed => "malformed",
    }
}

label! {
    /// The form of the exchange.
    pub Method = "method" {
        /// `POST …/oidc`: a chosen lifetime.
        Post => "post",
        /// `GET …/oidc/{orgId}`: 15 minutes.
        Get => "get",
    }
}

label! {
    /// How a call to CoreWeave's API ended.
    pub ExchangeOutcome = "outcome" {
        /// Credentials came back.
        Success => "success",
        /// 400, 401, 403 or 404: final for this token.
        Refused => "refused",
        /// 429.
        Throttled => "throttled",
        /// Nothing was minted for sure: no connection, 503 or 504.
        Unavailable => "unavailable",
        /// A key may have been minted: another status, a cut, a time-out, or a body that makes
        /// no sense.
        Uncertain => "uncertain",
    }
}

label! {
    /// How a background renewal ended.
    pub RenewalOutcome = "outcome" {
        /// Fresher credentials are in memory.
        Renewed => "renewed",
        /// It failed; the old credentials stay until they expire.
        Kept => "kept",
        /// No Pod of the identity has left a token that is still valid.
        NoToken => "no_token",
    }
}

label! {
    /// How the check of a service account token ended.
    pub TokenOutcome = "outcome" {
        /// Verified by its signature.
        Verified => "verified",
        /// Verified before; the memory of that still holds.
        Remembered => "remembered",
        /// Not a token, a wrong signature, issuer, audience or time.
        Rejected => "rejected",
        /// Good, but not for this node, this listener, or any Pod.
        Misplaced => "misplaced",
        /// The issuer's key set could not be had.
        Unchecked => "unchecked",
    }
}

label! {
    /// How a load of the issuer's key set ended.
    pub JwksOutcome = "outcome" {
        /// A key set was loaded.
        Success => "success",
        /// It failed; the last good set stays.
        Failure => "failure",
    }
}

label! {
    /// Which way the wall clock was set.
    pub ClockJump = "direction" {
        /// Ahead; also what a node that slept sees.
        Forth => "forth",
        /// Back.
        Back => "back",
    }
}

label! {
    /// How a listener reaches its workloads.
    pub Delivery = "delivery" {
        /// A listener in a Pod's network namespace.
        Handoff => "handoff",
        /// `agent.sock`.
        Direct => "direct",
    }
}

label! {
    /// How an enrolment ended.
    pub EnrolmentOutcome = "outcome" {
        /// A new listener.
        Enrolled => "enrolled",
        /// The listener was there already.
        Known => "known",
        /// A new sandbox of a Pod took the place of its old one.
        Replaced => "replaced",
        /// A Pod shares the listener of another in the node's network.
        Joined => "joined",
        /// A Pod that had lost its listener has another one.
        Reattached => "reattached",
        /// The token was refused.
        Unauthenticated => "unauthenticated",
        /// The descriptors or the message were refused.
        Rejected => "rejected",
        /// Not taken now: a limit, or the issuer's keys are missing.
        Busy => "busy",
    }
}

label! {
    /// Which limit made a listener pause.
    pub AcceptLimit = "limit" {
        /// The connections of all listeners.
        Total => "total",
        /// The connections of one listener.
        Listener => "listener",
    }
}

label! {
    /// Why a Pod's listener was ended.
    pub ListenerEnd = "reason" {
        /// The Pod's interfaces have left its network namespace.
        InterfacesGone => "interfaces_gone",
        /// The API server says that the Pod has ended, and its interfaces do not say otherwise.
        PodEnded => "pod_ended",
        /// It was in a network namespace with none of the Pod's addresses.
        Misplaced => "misplaced",
        /// The kubelet has taken the Pod's CSI volume away.
        Unpublished => "unpublished",
    }
}

label! {
    /// What became of a CSI volume that was to be published.
    pub PublishOutcome = "outcome" {
        /// It is served.
        Taken => "taken",
        /// The token was refused, or CoreWeave refuses a Pod that waits for credentials.
        Refused => "refused",
        /// Not now; the kubelet tries again.
        Busy => "busy",
    }
}

label! {
    /// What became of an Event.
    pub EventOutcome = "outcome" {
        /// The API server has it.
        Created => "created",
        /// The API server had it: another agent of the node has said it, or this one before it
        /// started anew.
        Known => "known",
        /// The API server refused it, or was away.
        Failed => "failed",
    }
}
