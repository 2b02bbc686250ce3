//! How to enrol, as the command line says.

use core::ffi::CStr;

use shared::contract::DEFAULT_PORT;

use crate::flags::{self, Asked, Flag, Problem};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Connects this Pod to its node's CAIOS credential agent, then exits.

Usage: caios-enroll [flags]
       caios-enroll relay [flags]    see caios-enroll relay --help

Flags, each with the environment variable that it wins over:
  --socket <path>      the agent's enrolment socket   [CAIOS_ENROLL_SOCKET]
                       (default /run/caios-agent/public/enroll.sock)
  --token-file <path>  the service account token      [CAIOS_ENROLL_TOKEN_FILE]
                       (default /var/run/secrets/caios.coreweave.com/serviceaccount/token)
  --port <1-65535>     where the agent is to listen in this Pod [CAIOS_ENROLL_PORT]
                       (default 27169)
  --deadline <time>    how long to wait for an absent agent, as 90s, 5m or 1h30m
                       (default 5m)                   [CAIOS_ENROLL_DEADLINE]
  --mode <reown|plain> as the agent's `--enrolment-mode`; with `plain` this Pod
                       binds the port itself          [CAIOS_ENROLL_MODE]
                       (default reown)
  --ipv6 <auto|off>    also listen on [::1] where the Pod has it [CAIOS_ENROLL_IPV6]
                       (default auto)
  --help, --version    print this, or the version, and exit

Exit codes:
   0  enrolled, whether or not CoreWeave has issued credentials yet
  64  a flag or variable makes no sense
  66  the token file is unreadable, empty or too long
  69  the deadline passed without an agent
  70  a failure in this Pod
  77  the agent rejected this Pod; its message says why
 143  ended by SIGTERM or SIGINT: this Pod is being deleted
";

const DEFAULT_SOCKET: &CStr = c"/run/caios-agent/public/enroll.sock";
const DEFAULT_TOKEN_FILE: &CStr = c"/var/run/secrets/caios.coreweave.com/serviceaccount/token";
const DEFAULT_DEADLINE_S: i64 = 5 * 60;
/// How to enrol.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments<'a> {
    pub(crate) socket: &'a CStr,
    pub(crate) token_file: &'a CStr,
    pub(crate) port: u16,
    pub(crate) deadline_s: i64,
    pub(crate) mode: Mode,
    pub(crate) ipv6: bool,
}

/// Who makes the listener that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The agent, out of a connection that it accepts here: any port will do for ours.
    Reown,
    /// This Pod: ours must have the port that SDKs use.
    Plain,
}

const FLAGS: [Flag; 6] = [
    Flag::new("--socket", "CAIOS_ENROLL_SOCKET"),
    Flag::new("--token-file", "CAIOS_ENROLL_TOKEN_FILE"),
    Flag::new("--port", "CAIOS_ENROLL_PORT"),
    Flag::new("--deadline", "CAIOS_ENROLL_DEADLINE"),
    Flag::new("--mode", "CAIOS_ENROLL_MODE"),
    Flag::new("--ipv6", "CAIOS_ENROLL_IPV6"),
];

/// Reads the command line and the environment of an enrolment.
pub(crate) fn parse<'a>(
    arguments: impl Iterator<Item = &'a CStr>,
    environment: impl Fn(&str) -> Option<&'a CStr>,
) -> Result<(Asked, Arguments<'a>), Problem<'a>> {
    let mut parsed = Arguments {
        socket: DEFAULT_SOCKET,
        token_file: DEFAULT_TOKEN_FILE,
        port: DEFAULT_PORT,
        deadline_s: DEFAULT_DEADLINE_S,
        mode: Mode::Reown,
        ipv6: true,
    };
    let set = |flag: &str, value| parsed.set(flag, value);
    let asked = flags::read(&FLAGS, arguments, environment, set)?;
    Ok((asked, parsed))
}

impl<'a> Arguments<'a> {
    /// Sets what `flag` means; `None` if it cannot be `value`.
    fn set(&mut self, flag: &str, value: &'a CStr) -> Option<()> {
        let bytes = value.to_bytes();
        match flag {
            "--socket" => self.socket = flags::socket(value)?,
            "--token-file" if !bytes.is_empty() => self.token_file = value,
            "--port" => self.port = flags::port(bytes)?,
            "--deadline" => self.deadline_s = duration_s(bytes)?,
            "--mode" => {
                self.mode = match bytes {
                    b"reown" => Mode::Reown,
                    b"plain" => Mode::Plain,
                    _ => return None,
                };
            }
            "--ipv6" => self.ipv6 = flags::ipv6(bytes)?,
            _ => return None,
        }
        Some(())
    }
}

/// Reads a duration as Go writes it, in whole hours, minutes and seconds: `1h30m`, `90s`.
fn duration_s(mut text: &[u8]) -> Option<i64> {
    let mut seconds = 0i64;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let digits = text.iter().position(|byte| !byte.is_ascii_digit())?;
        let (amount, rest) = text.split_at(digits);
        let (unit, rest) = rest.split_first()?;
        let factor = match unit {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds += i64::from(flags::number(amount)?) * factor;
        text = rest;
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::{ENROLL_SOCKET, PUBLIC_DIRECTORY, TOKEN_FILE};

    fn parsed(
        arguments: &[&'static CStr],
    ) -> Result<(Asked, Arguments<'static>), Problem<'static>> {
        parse(arguments.iter().copied(), |_| None)
    }

    fn duration(text: &str) -> Option<i64> {
        duration_s(text.as_bytes())
    }

    #[test]
    fn the_defaults_and_the_help_are_those_of_the_contract() {
        let Ok((Asked::Work, arguments)) = parsed(&[]) else {
            panic!("no flag is a good command line")
        };
        let socket = format!("{PUBLIC_DIRECTORY}/{ENROLL_SOCKET}");
        assert_eq!(arguments.socket.to_str(), Ok(socket.as_str()));
        assert_eq!(arguments.token_file.to_str(), Ok(TOKEN_FILE));
        assert_eq!(arguments.deadline_s, 300);
        for text in [&socket, TOKEN_FILE, &DEFAULT_PORT.to_string()] {
            assert!(HELP.contains(text), "{text}");
        }
        for flag in FLAGS {
            let named = HELP.contains(flag.name) && flag.variable.is_some_and(|v| HELP.contains(v));
            assert!(named, "{flag:?}");
        }
    }

    #[test]
    fn a_flag_wins_over_its_variable_in_either_form() {
        let environment = |name: &str| (name == "CAIOS_ENROLL_PORT").then_some(c"1000");
        for (line, port) in [
            (&[][..], 1000),
            (&[c"--port", c"2000"][..], 2000),
            (&[c"--port=3000"][..], 3000),
        ] {
            match parse(line.iter().copied(), environment) {
                Ok((Asked::Work, arguments)) => assert_eq!(arguments.port, port),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, said) in [
            (&[c"--prot=1"][..], "unknown argument `--prot=1`"),
            (&[c"--port"][..], "`--port` needs a value"),
            (&[c"--port=0"][..], "`--port` cannot be `0`"),
            (&[c"--port=65536"][..], "`--port` cannot be `65536`"),
            (&[c"--ipv6", c"on"][..], "`--ipv6` cannot be `on`"),
            (&[c"--deadline=5"][..], "`--deadline` cannot be `5`"),
        ] {
            let problem = parsed(line).expect_err("a bad command line");
            assert_eq!(problem.to_string(), said);
        }
        let broken = |name: &str| (name == "CAIOS_ENROLL_DEADLINE").then_some(c"soon");
        let problem = parse(core::iter::empty(), broken).expect_err("a bad variable");
        assert_eq!(
            problem.to_string(),
            "`CAIOS_ENROLL_DEADLINE` cannot be `soon`"
        );
    }

    #[test]
    fn durations_are_read_in_hours_minutes_and_seconds() {
        assert_eq!(duration("90s"), Some(90));
        assert_eq!(duration("1h30m"), Some(5400));
        assert_eq!(duration("0s"), Some(0));
        for bad in ["", "5", "m", "5d", "-1s", "1.5h", "9999999999s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
