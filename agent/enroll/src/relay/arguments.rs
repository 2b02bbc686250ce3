//! How to relay, as the command line says.

use core::ffi::CStr;

use shared::contract::DEFAULT_PORT;

use crate::flags::{self, Asked, Flag, Problem};

/// What `relay --help` prints.
pub(crate) const HELP: &str = "\
Carries this Pod's requests for credentials to its node's CAIOS credential agent, for container
runtimes that cannot pass descriptors. It never looks at what it carries.

Usage: caios-enroll relay [flags]

Flags, each with the environment variable that it wins over:
  --socket <path>      the agent's credential socket  [CAIOS_RELAY_SOCKET]
                       (default /run/caios-agent/public/agent.sock)
  --port <1-65535>     where to listen in this Pod    [CAIOS_RELAY_PORT]
                       (default 27169)
  --ipv6 <auto|off>    also listen on [::1] where the Pod has it [CAIOS_RELAY_IPV6]
                       (default auto)
  --check              do not relay: tell whether a relay listens on the port
  --help, --version    print this, or the version, and exit

Exit codes:
   0  ended by SIGTERM or SIGINT; with --check: something listens on the port
  64  a flag or variable makes no sense
  69  with --check: nothing listens on the port
  70  a failure in this Pod, such as a port that is taken
";

const DEFAULT_SOCKET: &CStr = c"/run/caios-agent/public/agent.sock";

/// How to relay.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments<'a> {
    pub(crate) socket: &'a CStr,
    pub(crate) port: u16,
    pub(crate) ipv6: bool,
    pub(crate) check: bool,
}

const FLAGS: [Flag; 4] = [
    Flag::new("--socket", "CAIOS_RELAY_SOCKET"),
    Flag::new("--port", "CAIOS_RELAY_PORT"),
    Flag::new("--ipv6", "CAIOS_RELAY_IPV6"),
    Flag::switch("--check"),
];

/// Reads the command line, behind `relay`, and the environment of a relay.
pub(crate) fn parse<'a>(
    arguments: impl Iterator<Item = &'a CStr>,
    environment: impl Fn(&str) -> Option<&'a CStr>,
) -> Result<(Asked, Arguments<'a>), Problem<'a>> {
    let mut parsed = Arguments {
        socket: DEFAULT_SOCKET,
        port: DEFAULT_PORT,
        ipv6: true,
        check: false,
    };
    let set = |flag: &str, value: &'a CStr| {
        match flag {
            "--socket" => parsed.socket = flags::socket(value)?,
            "--port" => parsed.port = flags::port(value.to_bytes())?,
            "--ipv6" => parsed.ipv6 = flags::ipv6(value.to_bytes())?,
            "--check" => parsed.check = true,
            _ => return None,
        }
        Some(())
    };
    let asked = flags::read(&FLAGS, arguments, environment, set)?;
    Ok((asked, parsed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::{AGENT_SOCKET, PUBLIC_DIRECTORY};

    fn parsed(
        arguments: &[&'static CStr],
    ) -> Result<(Asked, Arguments<'static>), Problem<'static>> {
        parse(arguments.iter().copied(), |_| None)
    }

    #[test]
    fn the_defaults_and_the_help_are_those_of_the_contract() {
        let (_, arguments) = parsed(&[]).expect("no flag is a good command line");
        let socket = format!("{PUBLIC_DIRECTORY}/{AGENT_SOCKET}");
        assert_eq!(arguments.socket.to_str(), Ok(socket.as_str()));
        assert!(HELP.contains(&socket) && HELP.contains(&DEFAULT_PORT.to_string()));
        for flag in FLAGS {
            let named = HELP.contains(flag.name) && flag.variable.is_none_or(|v| HELP.contains(v));
            assert!(named, "{flag:?}");
        }
    }

    #[test]
    fn a_check_takes_no_value_and_the_port_does() {
        let (_, arguments) = parsed(&[c"--check", c"--port", c"4242"]).expect("good");
        assert_eq!((arguments.check, arguments.port), (true, 4242));
        for bad in [c"--check=1", c"--port=0", c"--token-file=x", c"--ipv6=on"] {
            assert!(parsed(&[bad]).is_err(), "{bad:?}");
        }
    }
}
