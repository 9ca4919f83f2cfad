//! Which way of asking for sockets this machine has.

use std::io;

use super::diag::KernelSockets;
use super::text::TextSockets;
use crate::host::{Query, Socket, SocketTable};

/// The sockets of a network namespace, asked for in the best way that the kernel has.
pub enum MachineSockets {
    /// By sock_diag.
    Kernel(Box<KernelSockets>),
    /// From text files.
    Text(TextSockets),
}

impl MachineSockets {
    /// Opens the sockets of the network namespace that the calling thread is in: by sock_diag where the kernel has it,
    /// or else from its text files.
    ///
    /// # Errors
    /// When there is neither.
    pub fn open() -> io::Result<MachineSockets> {
        match KernelSockets::open() {
            Ok(sockets) => Ok(MachineSockets::Kernel(Box::new(sockets))),
            Err(_) => TextSockets::here().map(MachineSockets::Text),
        }
    }

    /// Lists connections in TIME_WAIT, too.
    pub fn with_time_wait(self) -> MachineSockets {
        match self {
            MachineSockets::Kernel(sockets) => MachineSockets::Kernel(Box::new(sockets.with_time_wait())),
            MachineSockets::Text(sockets) => MachineSockets::Text(sockets.with_time_wait()),
        }
    }

    /// Returns where the answers come from: `"sock_diag"` or `"proc"`.
    pub fn source(&self) -> &'static str {
        match self {
            MachineSockets::Kernel(_) => "sock_diag",
            MachineSockets::Text(_) => "proc",
        }
    }

    /// How many answers or lines could not be read.
    pub fn damaged(&self) -> u64 {
        match self {
            MachineSockets::Kernel(sockets) => sockets.damaged(),
            MachineSockets::Text(sockets) => sockets.damaged(),
        }
    }
}

impl SocketTable for MachineSockets {
    fn find(&mut self, query: &Query) -> io::Result<Option<Socket>> {
        match self {
            MachineSockets::Kernel(sockets) => sockets.find(query),
            MachineSockets::Text(sockets) => sockets.find(query),
        }
    }

    fn snapshot(&mut self, sockets: &mut Vec<Socket>) -> io::Result<()> {
        match self {
            MachineSockets::Kernel(table) => table.snapshot(sockets),
            MachineSockets::Text(table) => table.snapshot(sockets),
        }
    }

    fn listeners(&mut self, port: u16, sockets: &mut Vec<Socket>) -> io::Result<()> {
        match self {
            MachineSockets::Kernel(table) => table.listeners(port, sockets),
            MachineSockets::Text(table) => table.listeners(port, sockets),
        }
    }
}
