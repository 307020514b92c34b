//! Harness for the kernel rings and the demo: namespaces, topology, daemon, servers, clients.
//!
//! Everything is made in network namespaces of its own and removed when its owner is dropped, on
//! panic too. Set-up that fails panics with the command that failed.
#![expect(clippy::missing_panics_doc, reason = "a harness panics wherever a test must fail")]

pub mod client;
pub mod cpu;
pub mod daemon;
pub mod database;
pub mod http;
pub mod netns;
pub mod origin;
pub mod packet_path;
pub mod pcapng;
pub mod program;
pub mod server;
pub mod stack;
pub mod topology;
pub mod wait;
pub mod wire;
