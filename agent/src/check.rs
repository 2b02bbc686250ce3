//! `caios-agent check`: does in a Pod what an SDK does, step by step, and says what works and what to
//! do where it does not.
//!
//! It asks nobody for more than an SDK would, and prints neither a key, nor the id of one, nor a
//! token.

mod credentials;
mod environment;
mod report;
mod s3;
mod sigv4;
mod token;

use std::io::{self, Write};
use std::path::PathBuf;

use jiff::Timestamp;

pub use report::{Report, Step};

/// What is checked, as flags and the variables that an SDK reads say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where credentials are asked for.
    pub url: Option<String>,
    /// Where the service account token is.
    pub token_file: Option<PathBuf>,
    /// The audience that the token must have; without one the agent's word counts.
    pub audience: Option<String>,
    /// The region that S3 requests are signed for.
    pub region: Option<String>,
    /// The S3 endpoint whose buckets are listed; without one none are.
    pub endpoint: Option<String>,
}

/// Checks one step after the other and writes a line for each as soon as it has ended. Steps that
/// need what has failed are left out.
///
/// `variable` gives the value of an environment variable that is set, and `now` the time of this
/// machine.
///
/// # Errors
/// When `out` cannot be written to.
pub async fn check(
    settings: &Settings,
    variable: impl Fn(&str) -> Option<String>,
    now: impl Fn() -> Timestamp,
    out: &mut impl Write,
) -> io::Result<Report> {
    let mut report = Report::new(out);
    let region = environment::region(settings.region.as_deref());
    let url = report.step(Step::Environment, environment::url(settings.url.as_deref()))?;
    report.step(Step::Environment, region.clone())?;
    for hindrance in environment::hindrances(&variable) {
        report.fail(Step::Environment, &hindrance)?;
    }
    let found = environment::token_file(settings.token_file.as_deref());
    let token_file = report.step(Step::Environment, found)?;

    let read = match &token_file {
        Some(path) => token::read(path, settings.audience.as_deref(), now()),
        None => return report.ended_before(Step::Token),
    };
    let (Some(token), Some(url)) = (report.step(Step::Token, read)?, url) else {
        return report.ended_before(Step::Endpoint);
    };
    let answer = credentials::ask(&url, &token).await;
    let Some(answer) = report.step(Step::Endpoint, answer)? else {
        return report.ended_before(Step::Credentials);
    };
    let credentials = credentials::read(&answer, now());
    let Some(credentials) = report.step(Step::Credentials, credentials)? else {
        return report.ended_before(Step::S3);
    };
    match &settings.endpoint {
        Some(endpoint) => {
            let region = region.map_or_else(
                |_| environment::DEFAULT_REGION.to_owned(),
                |found| found.value,
            );
            let listed = s3::list_buckets(endpoint, &region, &credentials, &token, now()).await;
            report.step(Step::S3, listed)?;
        }
        None => report.skip(
            Step::S3,
            "not asked: give an endpoint with `--endpoint`, such as http://cwlota.com",
        )?,
    }
    report.ended()
}
