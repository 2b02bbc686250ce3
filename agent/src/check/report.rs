//! Steps, their lines, and the exit code that tells the first one that failed.

use std::io::{self, Write};

/// A step, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The variables that lead an SDK to the agent.
    Environment,
    /// The service account token.
    Token,
    /// Somebody answers.
    Endpoint,
    /// The answer has credentials.
    Credentials,
    /// A signed request to S3.
    S3,
}

impl Step {
    const ALL: [Self; 5] = [
        Self::Environment,
        Self::Token,
        Self::Endpoint,
        Self::Credentials,
        Self::S3,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Token => "token",
            Self::Endpoint => "endpoint",
            Self::Credentials => "credentials",
            Self::S3 => "s3",
        }
    }

    /// The exit code of a check in which this is the first step to fail: those of sysexits(3), and
    /// of `caios-enroll` where the cause is the same.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Environment => 78,
            Self::Token => 66,
            Self::Endpoint => 69,
            Self::Credentials => 77,
            Self::S3 => 76,
        }
    }
}

/// Something that works: what is said of it, and what later steps take from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Works<T> {
    pub(super) said: String,
    /// What may become a problem, and what to do about it.
    pub(super) warning: Option<String>,
    pub(super) value: T,
}

impl<T> Works<T> {
    pub(super) fn new(said: impl Into<String>, value: T) -> Self {
        let (said, warning) = (said.into(), None);
        Self {
            said,
            warning,
            value,
        }
    }

    pub(super) fn warning(self, warning: impl Into<String>) -> Self {
        let warning = Some(warning.into());
        Self { warning, ..self }
    }
}

/// Something that does not work, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fails {
    pub(super) said: String,
    pub(super) remedy: String,
}

impl Fails {
    pub(super) fn new(said: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (said, remedy) = (said.into(), remedy.into());
        Self { said, remedy }
    }
}

/// A check that is under way, or has ended.
#[derive(Debug)]
pub struct Report<W = ()> {
    out: W,
    failed: Option<Step>,
}

impl<W: Write> Report<W> {
    pub(super) const fn new(out: W) -> Self {
        let failed = None;
        Self { out, failed }
    }

    /// Writes how a step ended, and gives what it has found.
    pub(super) fn step<T>(
        &mut self,
        step: Step,
        end: Result<Works<T>, Fails>,
    ) -> io::Result<Option<T>> {
        match end {
            Ok(works) => {
                self.line("ok", step, &works.said)?;
                if let Some(warning) = works.warning {
                    self.line("note", step, &warning)?;
                }
                Ok(Some(works.value))
            }
            Err(fails) => {
                self.fail(step, &fails)?;
                Ok(None)
            }
        }
    }

    /// Writes what does not work.
    pub(super) fn fail(&mut self, step: Step, fails: &Fails) -> io::Result<()> {
        self.failed = Some(self.failed.map_or(step, |first| first.min(step)));
        self.line("FAIL", step, &fails.said)?;
        writeln!(self.out, "      do: {}", fails.remedy)
    }

    /// Writes that a step was left out.
    pub(super) fn skip(&mut self, step: Step, why: &str) -> io::Result<()> {
        self.line("skip", step, why)
    }

    /// Ends the check before `next`, which needs what has failed.
    pub(super) fn ended_before(mut self, next: Step) -> io::Result<Report> {
        for step in Step::ALL {
            if step >= next {
                self.skip(step, "needs what has failed above")?;
            }
        }
        self.ended()
    }

    /// Ends the check.
    pub(super) fn ended(mut self) -> io::Result<Report> {
        match self.failed {
            None => writeln!(self.out, "\nWhat an SDK does here works.")?,
            Some(step) => writeln!(
                self.out,
                "\nAn SDK fails here, at the step `{}`.",
                step.name()
            )?,
        }
        self.out.flush()?;
        Ok(Report {
            out: (),
            failed: self.failed,
        })
    }

    fn line(&mut self, how: &str, step: Step, what: &str) -> io::Result<()> {
        writeln!(self.out, "{how:4}  {:11}  {what}", step.name())
    }
}

impl Report {
    /// 0 where everything works, otherwise that of the first step that does not.
    pub fn exit_code(&self) -> u8 {
        self.failed.map_or(0, Step::exit_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_first_step_that_fails() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report
            .step(Step::Environment, Ok(Works::new("a", ())))
            .unwrap();
        let fails = Fails::new("no", "this");
        report.fail(Step::Token, &fails).unwrap();
        report.fail(Step::Environment, &fails).unwrap();
        let report = report.ended_before(Step::Credentials).unwrap();
        assert_eq!(report.exit_code(), 78);
        let expected = "\
ok    environment  a
FAIL  token        no
      do: this
FAIL  environment  no
      do: this
skip  credentials  needs what has failed above
skip  s3           needs what has failed above

An SDK fails here, at the step `environment`.
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_note_is_no_failure() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        let works = Works::new("a", 5).warning("but");
        assert_eq!(report.step(Step::S3, Ok(works)).unwrap(), Some(5));
        assert_eq!(report.ended().unwrap().exit_code(), 0);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("ok    s3           a\nnote  s3           but\n"),
            "{text}"
        );
    }
}
