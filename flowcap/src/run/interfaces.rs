//! `-D`: the interfaces that one can capture on.

use std::process::ExitCode;

#[cfg(feature = "live")]
use flowcore::field::Printable;

use super::fail;
#[cfg(feature = "live")]
use super::{exit, show};

/// Lists the interfaces that one can capture on.
#[cfg(feature = "live")]
pub(crate) fn list_interfaces() -> ExitCode {
    let interfaces = match flowcore::capture::interfaces() {
        Ok(interfaces) => interfaces,
        Err(error) => return fail(&error),
    };
    let lines: String = interfaces.iter().map(about).collect();
    show(&lines).err().unwrap_or_else(|| exit::DONE.into())
}

/// Returns the line for an interface, whose name and description others may have chosen.
#[cfg(feature = "live")]
fn about(interface: &flowcore::capture::Interface) -> String {
    let state = match (interface.up, interface.running) {
        (true, true) => "up",
        (true, false) => "no carrier",
        (false, _) => "down",
    };
    let addresses: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
    let about = interface.description.as_deref().unwrap_or_default();
    let line = format!("{:15} {state:10} {}  {about}", interface.name, addresses.join(" "));
    format!("{}\n", Printable(line.trim_end()))
}

/// Lists the interfaces that one can capture on: not in this build.
#[cfg(not(feature = "live"))]
pub(crate) fn list_interfaces() -> ExitCode {
    fail(&super::opening::no_live())
}

#[cfg(all(test, feature = "live"))]
mod tests {
    use super::*;

    #[test]
    fn names_of_interfaces_are_text() {
        let interface = flowcore::capture::Interface {
            name: "v\x1b[2J\u{202e}".to_owned(),
            description: Some("a\nb".to_owned()),
            addresses: vec![[192, 0, 2, 1].into()],
            up: true,
            running: true,
            loopback: false,
        };
        assert_eq!(about(&interface), "v\\u001b[2J\\u202e          up         192.0.2.1  a\\nb\n");
    }
}
