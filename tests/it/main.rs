//! One test binary; modules by subject.

mod busy;
mod lab;
mod setting;

mod check;
mod claim;
mod counters;
mod databases;
mod demo;
mod devices;
mod doctor;
mod draining;
mod flows;
mod health;
mod http;
mod limitation;
mod malformed;
mod neighbour;
mod net;
mod path_mtu;
mod proxied;
mod proxy_alone;
mod refusal;
mod reload;
mod replacement;
mod restart;
mod rows;
mod security_groups;
mod seeing;
mod selection;
mod snat;
mod takeover;
mod tc;
mod trace;
mod transfer;
mod verifier;
